"""Replicas of a teacher on GPUs: how many a job starts, what each has in hand, and how full that keeps its engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.planning.replicas import worth_starting
from runner.spec import load_spec
from runner.teacher.budget import Spent, seconds_left
from runner.teacher.engines.vllm_arguments import engine_options
from runner.teacher.occupancy import CONCURRENT_BATCHES, concurrent_batches
from runner.teacher.request import settings_of

pytestmark = pytest.mark.slow("long")  # all of it together: seconds

ROOT = Path(__file__).resolve().parents[2]
HEADLINE = ROOT / "specs" / "financial-sentiment.yaml"


def worth(rows: int, *overrides: str) -> int:
    spec = load_spec(str(HEADLINE), list(overrides))
    return worth_starting(spec, engine_options(settings_of(spec.teacher)), rows, 130.0)


def test_replicas_are_started_where_labelling_takes_longer_than_their_start() -> None:
    assert worth(2_264) == 1, "a quarter of a minute of work, behind minutes of start"
    assert 1 < worth(500_000) < 4 == worth(5_000_000)
    assert worth(2_264, "teacher.resources.replicas=[3, 4]") == 3, "the spec's least is started in any case"


@pytest.mark.parametrize(
    "override",
    [
        "teacher.resources.accelerator=null",
        "teacher.resources.accelerator=V100",
        "teacher.model=nobody/has-this",
        "teacher.resources={cpus: 2, replicas: [1, 4]}",
    ],
)
def test_where_nothing_is_known_all_that_the_spec_allows_may_start(override: str) -> None:
    assert worth(2_264, override) == 4


@pytest.mark.parametrize(
    ("overrides", "batches", "replicas", "in_hand"),
    [
        ((), 1000, 1, 32),  # 4 x 1,024 requests, two of a row at first, 64 rows a batch
        ((), 36, 1, 32),
        ((), 36, 4, 9),
        ((), 8, 4, CONCURRENT_BATCHES),
        (("teacher.prompt=direct", "teacher.votes=1"), 1000, 1, 64),
        (("teacher.early_stop=false",), 1000, 1, 22),
        (("teacher.resources.accelerator=A100-80G",), 1000, 1, 8),
        (("teacher.resources.accelerator=null",), 1000, 1, 8),
        (("teacher.engine_options={max_num_seqs: 64}",), 1000, 1, CONCURRENT_BATCHES),
        (("teacher.engine_options={max_num_seqs: null}",), 1000, 1, 32),  # null: vLLM chooses, as where it is left out
        (("teacher.engine_options={max_num_seqs: null}", "teacher.resources.accelerator=V100"), 1000, 1, 8),
        (("teacher.engine_options={max_num_seqs: 512}", "teacher.resources.accelerator=V100"), 1000, 1, 16),
        (("teacher.batch_size=1",), 5000, 1, 64),
        (("teacher.resources={cpus: 2}",), 1000, 1, CONCURRENT_BATCHES),
    ],
)
def test_an_actor_has_as_many_batches_in_hand_as_fill_its_engine(
    overrides: tuple[str, ...], batches: int, replicas: int, in_hand: int
) -> None:
    spec = load_spec(str(HEADLINE), list(overrides))
    assert concurrent_batches(spec, batches, replicas) == in_hand


@pytest.mark.parametrize("rows", [2_264, 6_000])
def test_the_engine_is_kept_as_full_as_with_all_rows_at_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: the actor is the real one, the engine counts steps. With four batches in hand it was 0.41."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import occupancy

    ours, full = occupancy.compare(rows)
    assert ours.filled == pytest.approx(full.filled, rel=0.25), "both had the same answers to give"
    assert ours.filled / ours.seconds >= 0.9 * full.filled / full.seconds


def test_four_batches_in_hand_would_leave_it_half_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import occupancy

    monkeypatch.setattr("runner.teacher.occupancy.concurrent_batches", lambda *_: CONCURRENT_BATCHES)
    ours, full = occupancy.compare(2_264)
    assert ours.filled / ours.seconds < 0.6 * full.filled / full.seconds


def test_a_budget_in_usd_is_that_of_the_replicas_that_are_started() -> None:
    spec = load_spec(str(HEADLINE), ["teacher.resources.replicas=[1, 64]", "teacher.budget.usd=20"])
    price = spec.teacher.price_per_hour
    assert price and seconds_left(spec.teacher, Spent(), worth(2_264)) == pytest.approx(20 / price * 3600)
    assert seconds_left(spec.teacher, Spent(), 64) == pytest.approx(20 / price * 3600 / 64)
