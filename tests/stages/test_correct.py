"""What people decided takes the place of the teacher's values, and asks the teacher nothing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.cluster.cluster import Cluster
from runner.observe.progress import Progress
from runner.review.decisions import Decision, Writer, text_digest
from runner.review.sample import draw_sample, drawn, inclusion
from runner.stages import pipeline
from runner.stages.contract import Context
from runner.stages.tables import queue


def decide(job: Any, row: dict[str, Any], value: Any, name: str, action: str = "label") -> None:
    decision = Decision(
        list=name, id=row["id"], digest=text_digest(row["text"]), action=action, value=value, reviewer="ada"
    )
    Writer(job.run).append([decision])


def stage(job: Any, name: str, *changes: str) -> pipeline.Step:
    spec = pipeline.with_decisions(job.spec(*changes), job.run)
    return next(step for step in pipeline.steps(spec, job.run) if name == step.stage.NAME)


def corrected(job: Any, *changes: str) -> pipeline.Step:
    """Run the job up to correct, as ``execute`` does."""
    spec = pipeline.with_decisions(job.spec(*changes), job.run)
    for step in pipeline.steps(spec, job.run):
        if not step.cached:
            progress = Progress(sys.stderr, "quiet")
            pipeline.run_step(step, Context(spec, job.run, step.folder, step.inputs, Cluster(), progress))
        if step.stage.NAME == "correct":
            return step
    raise AssertionError("the job has no such stage")


def findings(job: Any, ids: list[str], doubt: Any) -> pa.Table:
    """An audit's findings that say nothing but how doubtful each row is."""
    rows = [{"id": id_, "doubt": float(each), "order": n} for n, (id_, each) in enumerate(zip(ids, doubt, strict=True))]
    return pa.Table.from_pylist(rows, schema=queue(job.spec()))


@pytest.fixture
def voted(job: Any) -> list[dict[str, Any]]:
    for name in ("load", "label", "vote"):
        job.do(name)
    rows = stage(job, "vote").folder.read_table("votes.parquet").to_pylist()
    return [row for row in rows if row["split"] == "train"]


def test_without_decisions_the_job_is_as_it_was(job: Any, voted: list[dict[str, Any]]) -> None:
    plain = [step.fingerprint for step in pipeline.steps(job.spec(), job.run)]
    decided = pipeline.with_decisions(job.spec(), job.run)
    assert [step.fingerprint for step in pipeline.steps(decided, job.run)] == plain
    decide(job, voted[0], None, "queue", action="skip")
    decided = pipeline.with_decisions(job.spec(), job.run)
    assert [step.fingerprint for step in pipeline.steps(decided, job.run)] == plain


def test_a_correction_is_learned_with_certainty_and_the_teacher_is_not_asked(
    job: Any, voted: list[dict[str, Any]]
) -> None:
    labels = job.spec().task.labels
    wrong = next(row for row in voted if row["label"] is not None)
    right = next(label for label in labels if label != wrong["label"])
    train = stage(job, "train").fingerprint
    decide(job, wrong, right, "queue")
    assert stage(job, "vote").cached, "vote's outcome is as it was"
    step = corrected(job)
    row = next(row for row in step.folder.read_table("votes.parquet").to_pylist() if row["id"] == wrong["id"])
    assert (row["label"], row["agreement"], row["split"]) == (right, 1.0, "train")
    assert row["probabilities"] == [float(label == right) for label in labels]
    assert row["votes"] == wrong["votes"], "the teacher's votes are kept"
    summary = (step.folder.done or {})["summary"]
    assert (summary["corrected"], summary["changed"], summary["sample"], summary["gone"]) == (1, 1, 0, 0)
    assert stage(job, "train").fingerprint != train


def test_rows_of_the_sample_are_measured_on_and_not_learned(job: Any, voted: list[dict[str, Any]]) -> None:
    sample = draw_sample(job.run, job.spec(), findings(job, [row["id"] for row in voted], np.full(len(voted), 0.2)))
    chosen = {row["id"]: row for row in voted}[sample.ids[0]]
    decide(job, chosen, job.spec().task.labels[0], "sample")
    step = corrected(job)
    votes = {row["id"]: row for row in step.folder.read_table("votes.parquet").to_pylist()}
    assert votes[chosen["id"]]["split"] == "test" and votes[chosen["id"]]["label"] == chosen["label"]
    test = {row["id"]: row["label"] for row in step.folder.read_table("test.parquet").to_pylist()}
    before = stage(job, "load").folder.read_table("test.parquet")
    assert test[chosen["id"]] == job.spec().task.labels[0] and len(test) == len(before) + 1
    population = {row["id"]: row for row in step.folder.read_table("population.parquet").to_pylist()}
    assert set(population) == {row["id"] for row in voted}
    assert [id_ for id_, row in population.items() if row["inclusion"] is not None] == [chosen["id"]]


def test_decisions_on_rows_that_are_gone_are_counted(job: Any, voted: list[dict[str, Any]]) -> None:
    gone = {"id": "0" * 20, "text": "a text of before"}
    decide(job, gone, job.spec().task.labels[0], "queue")
    summary = (corrected(job).folder.done or {})["summary"]
    assert summary["gone"] == 1 and "1 rows that people decided on are no longer" in summary["warnings"][0]


def test_the_draw_is_kept_and_is_the_same_again(job: Any) -> None:
    ids, doubt = [f"{n:04}" for n in range(400)], np.linspace(0.0, 0.6, 400)
    sample = draw_sample(job.run, job.spec("review.audit.rows=100"), findings(job, ids, doubt))
    again = drawn(job.run)
    assert again is not None and again.name == sample.name and again.rows == 100
    assert sorted(again.ids) == ids
    first = inclusion(again, again.ids[:50])
    assert len(first) == 50 and np.isclose(sum(1 / p for p in first.values()), 400, rtol=0.25)
    holes = inclusion(again, again.ids[:50:2])
    assert holes[again.ids[0]] == pytest.approx(first[again.ids[0]] * 25 / 49, rel=0.05)


def test_a_small_train_set_leaves_rows_to_correct(job: Any) -> None:
    assert draw_sample(job.run, job.spec(), findings(job, ["a", "b", "c", "d"], np.full(4, 0.1))).rows == 2
