"""What the page says on top: how sure the figure is by now, and what more labels would buy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.review.decisions import Decision, Writer
from runner.review.progress import FEWEST, Progress, rows_needed
from runner.review.sample import draw_sample, drawn
from runner.stages.tables import queue
from runner.system.errors import DataError

ROWS = 400


@pytest.fixture
def progress(job: Any) -> Progress:
    spec = job.spec()
    label = spec.task.labels[0]
    chance = [0.9, *[0.1 / (len(spec.task.labels) - 1)] * (len(spec.task.labels) - 1)]
    findings = pa.Table.from_pylist(
        [
            {"id": f"{n:04}", "doubt": 0.1, "order": n, "opinion": label, "consensus_probabilities": chance}
            for n in range(ROWS)
        ],
        schema=queue(spec),
    )
    sample = draw_sample(job.run, spec, findings)
    return Progress(job.run, spec, sample, dict.fromkeys(sample.ids, label))


def decide(progress: Progress, count: int, wrong_every: int = 10, seconds: float = 6.0) -> None:
    labels = progress.spec.task.labels
    Writer(progress.run).append(
        [
            Decision(
                list="sample",
                id=id_,
                digest="",
                action="label",
                value=labels[int(number % wrong_every == 0)],
                reviewer="ada",
                seconds=seconds,
            )
            for number, id_ in enumerate(progress.sample.ids[:count])
        ]
    )


def test_a_handful_says_nothing(progress: Progress) -> None:
    decide(progress, FEWEST - 3)
    assert progress("sample").sentence == "3 more until there is an estimate"


def test_the_interval_and_what_is_still_to_do(progress: Progress) -> None:
    decide(progress, 100)
    status = progress("sample")
    assert status.sentence.startswith("Teacher right on 90") and not status.enough
    assert status.sentence.endswith("for ±5 points about 4 more, 1 minute at your pace")


def test_enough_is_enough(progress: Progress, job: Any) -> None:
    decide(progress, 150, wrong_every=1000)
    aim = Progress(progress.run, job.spec("review.audit.half_width=0.05"), progress.sample, progress.teacher)
    assert aim("sample").enough and not progress("sample").enough


def test_the_queue_counts_what_was_changed(progress: Progress) -> None:
    labels = progress.spec.task.labels
    given = [
        Decision(list="queue", id=id_, digest="", action="label", value=value, reviewer="ada")
        for id_, value in zip(progress.sample.ids[-2:], labels[:2], strict=True)
    ]
    Writer(progress.run).append(given)
    assert progress("queue").sentence == "2 checked, 1 labels changed"


def test_rows_needed_follow_the_square_root_and_the_finite_population() -> None:
    assert rows_needed(100, 0.04, 0.02, 10**9) == 400
    assert rows_needed(100, 0.04, 0.02, 500) == pytest.approx(250, abs=1)
    assert rows_needed(100, 0.04, 0.0001, 500) <= 500
    assert np.all(np.diff([rows_needed(100, 0.04, width, 5000) for width in (0.03, 0.02, 0.01)]) > 0)


def test_a_figure_that_is_no_share_of_the_texts_is_not_told_as_one(progress: Progress, monkeypatch: Any) -> None:
    """As macro F1 is the first figure of a task with several labels a text."""
    from runner.tasks.shared.shown import Figure
    from runner.tasks.single_label import showing

    monkeypatch.setattr(showing, "FIGURES", (Figure("accuracy", "macro F1", "percent"), *showing.FIGURES[1:]))
    decide(progress, 100)
    assert progress("sample").sentence.startswith("Teacher: macro F1 90.0 % (")


@pytest.mark.parametrize("damage", ["cut", "foreign", "other columns"])
def test_a_sample_that_is_damaged_is_told_and_decisions_stay(progress: Progress, job: Any, damage: str) -> None:
    decide(progress, 30)
    file = job.run.child("review")
    if damage == "cut":
        file.write("sample.parquet", file.read("sample.parquet")[:500])
    else:
        table = pa.table({"id": ["a"]})
        file.write_table(
            "sample.parquet", table.replace_schema_metadata({"rows": "1"} if damage != "foreign" else None)
        )
    with pytest.raises(DataError, match="remove this one file") as found:
        drawn(job.run)
    assert found.value.code == "review.sample-damaged"
