"""fp16 with a loss scale, as on GPUs older than Ampere, with its numerics computed on the processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from runner.student import finite, loop
from runner.student import fit as training
from runner.student.fit_config import Fit, Worker
from runner.student.loop import Loop
from runner.student.rows import Rows
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [("profit rose" if n % 2 else "loss widened") + f" in {1900 + n}" for n in range(40)]
TARGETS = np.array([[0.9, 0.1], [0.1, 0.9]] * 20, dtype=np.float32)


def scaled(monkeypatch: pytest.MonkeyPatch, start: float) -> None:
    """Have fp16 trainings on the processor scale their loss, by ``start`` at first."""

    def loss_scale(precision: str, on: torch.device) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=start, enabled=precision == "fp16")

    monkeypatch.setattr(loop, "loss_scale", loss_scale)


def rows() -> Rows:
    return Rows(TEXTS, TARGETS)


def config(model: Path, **changes: Any) -> Fit:
    wanted = {"epochs": 4, "learning_rate": 1e-2, "batch_size": 4, "max_length": 32, "precision": "fp16", "seed": 0}
    return Fit(**{"model": model, "outputs": ("bad", "good"), **wanted, **changes})


def fit(model: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return training.fit(learner, config(model, **changes), rows(), rows(), out)


def test_only_fp16_on_a_gpu_scales_its_loss() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert not loop.loss_scale("fp16", cpu).is_enabled() and not loop.loss_scale("bf16", gpu).is_enabled()


def test_without_overflow_no_step_is_left_out_and_the_student_learns(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled(monkeypatch, 2.0**10)
    found = fit(tiny_model, tmp_path / "out")
    assert (found["precision"], found["fell_back"], found["steps"], found["skipped_steps"]) == ("fp16", None, 40, 0)
    assert found["history"][-1]["val_accuracy"] == 1.0


def test_steps_that_overflow_until_the_scale_is_found_are_counted(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of a loss times 2^28 leave fp16's range; each step that is left out halves the scale."""
    scaled(monkeypatch, 2.0**28)
    found = fit(tiny_model, tmp_path / "out")
    assert found["precision"] == "fp16" and 2 <= found["skipped_steps"] < found["steps"] / 2
    assert found["history"][-1]["val_accuracy"] == 1.0
    json.dumps(found, allow_nan=False)
    assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "out" / "model.safetensors").values())


def test_a_scale_that_is_never_found_saves_no_untrained_student(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled(monkeypatch, 2.0**120)
    found = fit(tiny_model, tmp_path / "out")
    assert found["precision"] == "fp32" and found["skipped_steps"] == 0
    assert found["fell_back"] == "the gradients of 40 of 40 steps are not finite numbers, in epoch 4, in fp16"
    assert found["history"][-1]["val_accuracy"] == 1.0  # trained, and not an untrained head


def overflowing(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Have the values of the last layer leave fp16's range in some steps."""
    whole, step = Loop.gradients, [0]

    def gradients(loop: Loop, batch: list[int]) -> Any:
        step[0] += 1
        head = loop.bare.classifier
        if step[0] not in steps:
            return whole(loop, batch)
        handle = head.register_forward_hook(lambda _, given, logits: (logits.float() * 1e9).to(torch.float16))
        try:
            return whole(loop, batch)
        finally:
            handle.remove()

    monkeypatch.setattr(Loop, "gradients", gradients)


def test_an_overflow_on_its_way_leaves_out_the_step_and_no_loss_of_it_is_told(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled(monkeypatch, 2.0**10)
    overflowing(monkeypatch, {3, 14})
    found = fit(tiny_model, tmp_path / "out")
    assert (found["precision"], found["skipped_steps"]) == ("fp16", 2)
    assert all(0 < epoch["train_loss"] < 1 for epoch in found["history"])  # the mean of the rows that have a loss


def test_the_same_overflow_without_a_scale_ends_in_fp32(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflowing(monkeypatch, {3})
    found = fit(tiny_model, tmp_path / "out", precision="fp16")
    assert found["precision"] == "fp32"
    # Of the steps before the ninth, when they are looked at, the third broke the weights of those that followed.
    assert found["fell_back"] == "the gradients of 7 of 9 steps are not finite numbers, in epoch 1, in fp16"
    assert found["history"][-1]["val_accuracy"] == 1.0


def test_a_loss_that_is_not_finite_is_no_epoch(tiny_model: Path) -> None:
    """Also where gradients say nothing of it."""
    loop = Loop(learner, config(tiny_model, precision="fp32"), rows(), rows(), Worker())
    loop.begin_epoch()
    loop.loss += 3.0
    loop.lost += 2
    with pytest.raises(finite.NotFinite, match="the loss of 2 of 40 texts is not a finite number, in epoch 1"):
        loop.finish_epoch()
    assert not loop.state.history and not loop.best


def test_no_loss_that_is_finite_is_no_epoch_with_a_scale_either(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled(monkeypatch, 2.0**10)
    loop = Loop(learner, config(tiny_model), rows(), rows(), Worker())
    loop.begin_epoch()
    loop.lost += 40
    with pytest.raises(finite.NotFinite, match="the loss of 40 of 40 texts"):
        loop.finish_epoch()


def test_steps_left_out_are_counted_over_a_stop(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled(monkeypatch, 2.0**10)
    overflowing(monkeypatch, {3, 14})
    kept = tmp_path / "kept"
    kept.mkdir()

    class Stopped(Exception):
        pass

    def keep(write: Any) -> None:
        write(kept)
        if torch.load(kept / "all.pt", weights_only=True)["course"]["steps"] == 9:
            raise Stopped

    wanted = config(tiny_model, checkpoint_seconds=0.0)
    with pytest.raises(Stopped):
        training.fit(learner, wanted, rows(), rows(), tmp_path / "out", Worker(save_checkpoint=keep))
    again = Worker(load_checkpoint=lambda read: read(kept))
    found = training.fit(learner, wanted, rows(), rows(), tmp_path / "out", again)
    assert (found["resumes"], found["skipped_steps"], found["precision"]) == (1, 2, "fp16")
    assert all(0 < epoch["train_loss"] < 1 for epoch in found["history"])
