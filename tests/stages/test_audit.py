"""audit: which values are doubtful, in which order people look, and what the consensus makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.cluster.cluster import Cluster
from runner.review import opinions
from runner.rundir.folder import Folder
from runner.spec.reviewed import Reviewed
from runner.stages import audit, pipeline
from runner.system.errors import ModelError

WORDS = {"positive": "Profit rose", "negative": "Profit fell", "neutral": "The plant stayed"}
WRONG = 7, 26, 44
"""Rows of which all votes are wrong."""


class Here(Cluster):
    """A cluster whose worker is this process."""

    def call(self, function: Any, wanted: Any, *, fresh: bool = False, **arguments: Any) -> Any:
        return function(**arguments)


@pytest.fixture
def many(job: Any, tiny_model: Path) -> Any:
    """60 train rows that are easily told apart; three are labelled wrongly by all, and on one the votes tie."""
    labels = list(WORDS)
    rows = []
    for i in range(60):
        label = labels[i % 3]
        said = labels[(i + 1) % 3] if i in WRONG else label
        rows.append((f"{WORDS[label]} in {1900 + i}.", label, said, said, said))
    rows[30] = (*rows[30][:2], *labels)
    job.csv("train.csv", rows)
    job.student = (f"student.model={tiny_model}",)
    job.do("vote", *job.student)
    return job


def audited(job: Any, *changes: str) -> Folder:
    """The stage's folder, run as the pipeline runs it."""
    spec = job.spec(*job.student, "audit.consensus=true", *changes)
    step = next(step for step in pipeline.steps(spec, job.run) if step.stage is audit)
    pipeline.run_step(step, replace(job.context("audit", spec), cluster=Here()))
    return step.folder


def numbers(job: Any) -> dict[str, int]:
    """Row numbers by id."""
    [step] = [step for step in pipeline.steps(job.spec(*job.student), job.run) if step.stage.NAME == "load"]
    return {row["id"]: number for number, row in enumerate(step.folder.read_table("train.parquet").to_pylist())}


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_wrong_values_are_looked_at_first(many: Any) -> None:
    folder, number_of = audited(many), numbers(many)
    queue = folder.read_table("queue.parquet").sort_by("order").to_pylist()
    assert [row["order"] for row in queue] == list(range(60))
    assert {number_of[row["id"]] for row in queue[:4]} == {30, *WRONG}
    assert queue[0]["doubt"] == 1.0 and number_of[queue[0]["id"]] == 30, "an abstention is no value"
    assert all(0 <= row["doubt"] <= 1 for row in queue)
    assert queue[3]["doubt"] > 2 * queue[4]["doubt"]
    for row in queue[:4]:
        truth = list(WORDS)[number_of[row["id"]] % 3]
        assert row["opinion"] == truth
        assert np.isclose(sum(row["opinion_probabilities"]), 1) and np.isclose(sum(row["consensus_probabilities"]), 1)
    summary = (folder.done or {})["summary"]
    assert (summary["rows"], summary["abstained"], summary["unheard"]) == (60, 1, 0)
    assert queue[0]["consensus"] == queue[0]["opinion"]
    assert summary["differing"] == 3
    assert 1 < summary["expected_errors"] < 12
    assert not summary["warnings"] and summary["identity"]


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_the_consensus_takes_the_place_of_the_teachers_values(many: Any) -> None:
    queue = {row["id"]: row for row in audited(many).read_table("queue.parquet").to_pylist()}
    spec, number_of = many.spec(*many.student, "audit.consensus=true"), numbers(many)
    step = next(step for step in pipeline.steps(spec, many.run) if step.stage.NAME == "correct")
    pipeline.run_step(step, many.context("correct", spec))
    rows = {row["id"]: row for row in step.folder.read_table("votes.parquet").to_pylist() if row["split"] == "train"}
    assert rows.keys() == queue.keys()
    for id_, row in rows.items():
        assert (row["label"], row["probabilities"]) == (queue[id_]["consensus"], queue[id_]["consensus_probabilities"])
    teachers = {id_: list(WORDS)[(n + (n in WRONG)) % 3] for id_, n in number_of.items()}
    differing = sum(row["label"] != teachers[id_] for id_, row in rows.items())
    assert (step.folder.done or {})["summary"]["consensus"] == 1 + differing
    by_number = {number_of[id_]: row for id_, row in rows.items()}
    assert by_number[30]["label"] == "positive" and by_number[30]["reason"] is None
    assert by_number[30]["votes"] == list(WORDS), "what the teacher said stays on record"
    assert np.isclose(by_number[30]["agreement"], 1 / 3)
    assert max(by_number[7]["probabilities"]) < max(by_number[8]["probabilities"]), "it is less sure where they differ"


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_in_the_blind_sample_the_teacher_is_measured_by_what_it_said(many: Any) -> None:
    audited(many)
    tied = next(id_ for id_, number in numbers(many).items() if number == 30)
    spec = many.spec(*many.student, "audit.consensus=true")
    spec = replace(spec, reviewed=Reviewed(sample={tied: "positive"}, digest="one"))
    step = next(step for step in pipeline.steps(spec, many.run) if step.stage.NAME == "correct")
    pipeline.run_step(step, many.context("correct", spec))
    [row] = [row for row in step.folder.read_table("votes.parquet").to_pylist() if row["id"] == tied]
    assert (row["split"], row["label"]) == ("test", None), "it abstained"


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_the_same_rows_come_again_in_the_same_order(many: Any) -> None:
    first = audited(many).read_table("queue.parquet")
    again = audited(many).read_table("queue.parquet")
    assert first.equals(again)
    assert not audited(many, "audit.seed=1").read_table("queue.parquet").equals(first)


@pytest.mark.usefixtures("one_thread")
def test_of_too_few_rows_students_know_nothing_and_it_is_said(job: Any, tiny_model: Path) -> None:
    job.student = (f"student.model={tiny_model}",)
    job.do("vote", *job.student)
    folder = audited(job)
    queue = folder.read_table("queue.parquet").to_pylist()
    assert len(queue) == 4 and all(row["opinion"] is None for row in queue)
    assert {row["consensus"] for row in queue} == {"negative", "neutral", "positive"}
    [warning] = (folder.done or {})["summary"]["warnings"]
    assert "on 4 of 4 train rows no student knows more than how frequent each value is" in warning
    assert "4 of 4 train rows" in job.said.getvalue()


def test_default_jobs_do_not_pay_for_it_and_its_seed_and_model_are_its_own(job: Any, tiny_model: Path) -> None:
    def prints(*changes: str, asked: str | None = "audit") -> dict[str, str]:
        return {step.stage.NAME: step.fingerprint for step in pipeline.steps(job.spec(*changes), job.run, asked)}

    assert "audit" not in prints(asked=None) and "correct" not in prints(asked=None)
    default = prints()["audit"]
    assert prints("audit.consensus=true")["audit"] == default, "a review and the consensus share it"
    assert prints("audit.seed=1")["audit"] != default
    assert prints(f"audit.model={tiny_model}")["audit"] != default
    assert prints("student.epochs=9")["audit"] == default
    assert prints("audit.seed=1")["train"] == prints()["train"]


def test_a_model_that_is_not_there_is_refused_before_anything_is_done(many: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere is not there"):
        audited(many, f"audit.model={tmp_path / 'nowhere'}")


@pytest.mark.usefixtures("one_thread")
def test_rows_without_a_value_teach_nobody_and_are_answered_by_all(tiny_model: Path) -> None:
    texts = [f"{said} in {1900 + i}." for i in range(12) for said in WORDS.values()]
    targets = np.tile(np.eye(3, dtype=np.float32), (12, 1))
    learned = np.ones(36, dtype=bool)
    learned[5] = False
    given = opinions.ask("single-label", str(tiny_model), None, None, texts, targets, learned, 0)
    targets[5] = 0.0, 0.0, 1.0
    other = opinions.ask("single-label", str(tiny_model), None, None, texts, targets, learned, 0)
    assert all(np.array_equal(one, two) for one, two in zip(given.answers, other.answers, strict=True))
    assert all(answer.shape == (36, 3) and np.isfinite(answer).all() for answer in given.answers)
    assert given.vectors.dtype == np.float16 and len(given.vectors) == 36


@pytest.mark.slow("ray")
def test_on_ray_the_worker_finds_the_model_and_all_comes_back(many: Any) -> None:
    spec = many.spec(*many.student, "audit.consensus=true")
    step = next(step for step in pipeline.steps(spec, many.run) if step.stage is audit)
    cluster = Cluster()
    try:
        pipeline.run_step(step, replace(many.context("audit", spec), cluster=cluster))
    finally:
        cluster.stop()
    queue = step.folder.read_table("queue.parquet").sort_by("order").to_pylist()
    assert {numbers(many)[row["id"]] for row in queue[:4]} == {30, *WRONG}
