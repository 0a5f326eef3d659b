"""What training workers are told of a model before they share its gradients, and how these travel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner.student import gradient_sync
from runner.student.fit_config import Fit, Worker
from runner.student.loop import Loop
from runner.student.rows import Rows
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

CPU, GPU = torch.device("cpu"), torch.device("cuda")  # nothing is put on the latter
INPUTS = {"input_ids": torch.tensor([[101, 2054, 102]]), "attention_mask": torch.ones((1, 3), dtype=torch.int64)}


def options(model: Any, on: torch.device) -> dict[str, bool]:
    return gradient_sync.ddp_options(model, lambda: model(**INPUTS).logits.sum(), on)


def test_unused_weights_are_looked_for_where_a_backward_leaves_some(tiny_model: Path) -> None:
    plain = learner.fresh(tiny_model, ["bad", "good"]).train()
    state = torch.get_rng_state()
    assert options(plain, GPU) == {"broadcast_buffers": False, "find_unused_parameters": False}
    assert torch.equal(torch.get_rng_state(), state) and plain.training
    assert all(weight.grad is None for weight in plain.parameters())
    plain.unread = torch.nn.Linear(3, 3)
    assert options(plain, GPU)["find_unused_parameters"]
    for weight in plain.unread.parameters():
        weight.requires_grad_(False)
    assert not options(plain, GPU)["find_unused_parameters"]  # what does not learn is not waited for


def test_a_head_on_the_mean_of_tokens_leaves_none_unused(tiny_model: Path) -> None:
    """Its last layer does not learn, so that it gets no gradient and needs none."""
    pooled = learner.fresh(tiny_model, ["bad", "good"], pooled=True)
    assert any(not weight.requires_grad for weight in pooled.parameters())
    assert not options(pooled, GPU)["find_unused_parameters"]


def test_an_encoder_that_skips_layers_leaves_others_unused_in_each_step(tiny_model: Path) -> None:
    model = learner.fresh(tiny_model, ["bad", "good"])
    model.config.layerdrop = 0.1
    assert options(model, GPU)["find_unused_parameters"]


def test_processors_look_as_they_always_did(tiny_model: Path) -> None:
    assert options(learner.fresh(tiny_model, ["bad", "good"]), CPU) == {
        "broadcast_buffers": False,
        "find_unused_parameters": True,
    }


def test_workers_get_the_options_of_their_model(tiny_model: Path) -> None:
    told: list[dict[str, Any]] = []

    def wrap(model: Any, **given: Any) -> Any:
        told.append(given)
        return model

    rows = Rows(["profit rose", "loss widened"], np.array([[0.1, 0.9], [0.9, 0.1]], dtype=np.float32))
    for workers in (1, 2):
        fit = Fit(tiny_model, ("bad", "good"), 1, 1e-3, 2, 32, "fp32", 0)
        Loop(learner, fit, rows, rows, Worker(size=workers, wrap=wrap))
    assert told == [{}, {"broadcast_buffers": False, "find_unused_parameters": True}]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of one worker, so that gradients travel to itself."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("precision", "on", "compressed"),
    [("fp16", GPU, True), ("bf16", GPU, True), ("fp32", GPU, False), ("fp16", CPU, False)],
)
def test_gradients_of_half_precision_travel_in_fp16(precision: str, on: torch.device, compressed: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(7, 5)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    assert gradient_sync.compress(wrapped, precision, on) is compressed
    wrapped(torch.rand(3, 7)).pow(2).sum().backward()
    grad = model.weight.grad
    assert grad is not None and torch.equal(grad, grad.half().float()) is compressed


def test_a_model_that_no_worker_shares_is_left_alone() -> None:
    assert not gradient_sync.compress(torch.nn.Linear(2, 2), "fp16", GPU)
