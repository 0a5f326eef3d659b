"""When several training workers are slower than one, and what the plan says of it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.models import ModelFacts
from runner.planning.plan import make_plan
from runner.student import gradient_traffic

ROBERTA = (124_697_433, 12, 768)
T4, H100 = 26e12, 400e12


def test_of_an_encoder_the_layers_gradients_travel() -> None:
    """344 MB of RoBERTa-base in fp32: its words are learned only as far as the texts have them."""
    assert gradient_traffic.learned_parameters(*ROBERTA) == pytest.approx(344e6 / 4, rel=0.02)
    assert gradient_traffic.learned_parameters(1000, 12, 768) == 1000  # an ALBERT, whose layers share their weights
    assert gradient_traffic.learned_parameters(5000, None, None) == 5000
    assert gradient_traffic.learned_parameters(None, None, None) is None


def test_a_step_by_hand() -> None:
    found = gradient_traffic.step(85e6, 12, 16, 40, 2, 2, T4)
    assert found.gradient_bytes == 170e6
    assert found.traffic_seconds == pytest.approx(170e6 / 3.125e9)  # half of it there and half back
    assert found.compute_seconds == pytest.approx(0.022)  # 8 rows of 40 tokens are 6 ms on a T4: launches are more
    assert gradient_traffic.step(85e6, 12, 16, 40, 2, 4, T4).traffic_seconds == 2 * found.traffic_seconds
    assert gradient_traffic.step(85e6, 12, 16, 40, 4, 2, T4).traffic_seconds == pytest.approx(
        1.5 * found.traffic_seconds
    )
    enough = gradient_traffic.step(85e6, 12, found.rows_to_balance, 40, 2, 2, T4)
    assert enough.compute_seconds >= enough.traffic_seconds
    fewer = gradient_traffic.step(85e6, 12, found.rows_to_balance - 4, 40, 2, 2, T4)
    assert fewer.compute_seconds < fewer.traffic_seconds


def warnings(job: Any, monkeypatch: pytest.MonkeyPatch, flops: float, *overrides: str) -> list[str]:
    facts = ModelFacts(*ROBERTA[:1], ROBERTA[0], None, *ROBERTA[1:], None, None, None, present=True)
    monkeypatch.setattr(gradient_traffic.models, "describe", lambda *_: facts)
    return gradient_traffic.warnings(job.spec(*overrides), ["word " * 32] * 9, flops)


TWO_T4 = ("student.resources={accelerator: T4, gpus: 1, workers: 2}",)


@pytest.mark.parametrize(
    ("flops", "overrides", "warned"),
    [
        (T4, TWO_T4, True),
        (T4, (*TWO_T4, "student.precision=fp32"), True),
        (T4, (*TWO_T4, "student.batch_size=512"), False),
        (H100, (*TWO_T4, "student.batch_size=512"), True),  # the faster the GPU, the more the gradients weigh
        (T4, ("student.resources={accelerator: T4, gpus: 1}",), False),
        (0.16e12, ("student.resources={cpus: 2, workers: 2}",), False),  # on processors the arithmetic takes longer
    ],
)
def test_workers_that_wait_more_than_they_compute_are_warned_of(
    job: Any, monkeypatch: pytest.MonkeyPatch, flops: float, overrides: tuple[str, ...], warned: bool
) -> None:
    found = warnings(job, monkeypatch, flops, *overrides)
    assert bool(found) is warned
    for said in found:
        assert said.startswith("student.resources.workers: 2 are likely slower than one")
        assert "set workers to 1, or batch_size to" in said and "\n" not in said


def test_the_figures_of_two_t4_are_said(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [said] = warnings(job, monkeypatch, T4, *TWO_T4)
    assert "computes for about 22 ms, and 170 MB of gradients take about 54 ms between nodes" in said


def test_the_plan_says_so(job: Any) -> None:
    """Of a model of the catalog; the smaller it is the more the launches weigh, so that two workers do no harm."""
    large = "student.model=catalog:all-mpnet-base-v2"
    assert any("slower than one" in note for note in make_plan(job.spec(large, *TWO_T4), job.run).notes)
    assert not any("slower than one" in note for note in make_plan(job.spec(large), job.run).notes)
