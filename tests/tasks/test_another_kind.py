"""The seam holds: a kind of task whose value is a number runs through stages that know none of it.

The kind is the package ``vowels`` beside this file; the table gets it for a test. Nothing starts Ray: what a cluster
would do in workers is done here, where the table has the kind.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from in_process import Here
from vowels import kind as vowels

from runner.observe.progress import Progress
from runner.planning.files import check_files
from runner.planning.plan import make_plan
from runner.planning.text import plan_text
from runner.report.build import build_report
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages import pipeline
from runner.stages.contract import Context
from runner.system.errors import DataError, SpecError
from runner.tasks.kinds import TASKS
from runner.tasks.rules import RULES

WORDS = ("hum", "tin", "moss", "area", "ocean", "sky", "queue", "idea", "rhythm", "stone", "apple", "onion")
SAMPLED = ("teacher.engine=noop", "teacher.columns=[]", "teacher.prompt=cot", "teacher.votes=3")


def count(text: str) -> int:
    return sum(letter in "aeiou" for letter in text)


@pytest.fixture
def counting(job: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job that counts vowels; by recorded votes, of which each is right."""
    monkeypatch.setitem(TASKS, vowels.NAME, vowels)
    monkeypatch.setitem(RULES, vowels.NAME, vowels.rules)
    job.path.write_text(
        job.path.read_text()
        .replace("labels: [negative, neutral, positive]", 'labels: ["4", "5"]')
        .replace("label: positive, reason", 'label: "5", reason')
        .replace("Label the sentence.", "Count the vowels.")
    )
    header = ("text", "label", "anna", "ben", "carl")
    train = [(f"{a} {b}", *[str(count(a + b))] * 4) for a in WORDS for b in WORDS[:4] if a != b]
    job.csv("train.csv", train, header)
    job.csv("test.csv", [(f"the {word}", *[str(count("the" + word))] * 4) for word in WORDS], header)
    return job


def spec_of(job: Any, *changes: str) -> Spec:
    """As ``task.type: vowels`` would read, which the schema does not know."""
    spec = job.spec(*changes)
    examples = tuple(replace(one, label=int(one.label)) for one in spec.task.written)
    return replace(spec, task=replace(spec.task, type=vowels.NAME, labels=(), examples=examples))


def run_to(last: str, job: Any, *changes: str) -> dict[str, Folder]:
    """The stages' folders up to ``last``, run as the pipeline does."""
    spec, folders = spec_of(job, *changes), {}
    for step in pipeline.steps(spec, job.run):
        context = replace(job.context(step.stage.NAME, spec), cluster=Here())
        assert isinstance(context, Context)
        pipeline.run_step(step, context)
        folders[step.stage.NAME] = step.folder
        if last == step.stage.NAME:
            break
    return folders


def test_the_plan_counts_what_the_kind_says(counting: Any) -> None:
    asked = make_plan(spec_of(counting, *SAMPLED), counting.run)
    assert asked.problems == [] and asked.teacher["generate"] == asked.rows["train"] + asked.rows["test"]
    assert asked.teacher["requests_per_row"] == 3, "this kind draws all votes"
    assert "Answer with the number of vowels." in plan_text(asked, show_prompt=True)
    recorded = make_plan(spec_of(counting), counting.run)
    assert recorded.teacher["generate"] == 0 and recorded.student["epochs"] > 0


def test_the_plan_says_which_prompt_the_kind_has_not(counting: Any) -> None:
    direct = make_plan(spec_of(counting, *SAMPLED[:2], "teacher.prompt=direct", "teacher.votes=1"), counting.run)
    assert direct.problems == ["teacher.prompt: a count is not one of a few answers: set it to cot"]


def test_files_are_looked_at_by_its_rules(counting: Any) -> None:
    check_files(spec_of(counting))
    header = ("text", "label", "anna", "ben", "carl")
    counting.csv("test.csv", [("the sea", "many", "3", "3", "three"), ("the sky", "1", "1", "1", "one")], header)
    train = [(f"{a} {b}", "", "5", "5", "five") for a in WORDS for b in WORDS[:4] if a != b]
    counting.csv("train.csv", train, header)
    with pytest.raises(SpecError) as caught:
        check_files(spec_of(counting))
    assert [problem.message.partition(": ")[2] for problem in caught.value.problems] == [
        "every row needs a count; line 2 has 'many'",
        "column carl holds 'five' (44), 'three' (1), 'one' (1); a vote is a count",
    ]


def test_both_tables_have_the_same_kinds() -> None:
    assert {name: kind.rules for name, kind in TASKS.items()} == RULES


def test_recorded_votes_become_numbers(counting: Any) -> None:
    folders = run_to("vote", counting)
    for file in ("test.parquet", "examples.parquet"):
        assert folders["load"].read_schema(file).field("label").type == pa.int64()
    votes = folders["vote"].read_table("votes.parquet").to_pylist()
    assert len(votes) > len(WORDS)
    assert all(row["label"] == count(row["text"]) and row["votes"] == [row["label"]] * 3 for row in votes)


def test_a_teacher_is_asked_for_numbers(counting: Any) -> None:
    folders = run_to("vote", counting, *SAMPLED)
    answers = folders["label"].read_table("answers.parquet")
    votes = folders["vote"].read_table("votes.parquet").to_pylist()
    assert len(answers) == 3 * len(votes), "this kind draws all votes"
    assert {vote for row in votes for vote in row["votes"]} == {0, 1, 2, 3}
    assert (folders["vote"].done or {})["summary"]["mean_count"] > 0


def test_a_cell_that_is_no_count_is_refused(counting: Any) -> None:
    counting.csv("test.csv", [("the sea", "many", "3", "3", "3")])
    with pytest.raises(DataError, match="'many' is no count; correct the file"):
        run_to("load", counting)


def test_its_fingerprints_are_its_own(counting: Any) -> None:
    known, other = (
        {step.stage.NAME: step.fingerprint for step in pipeline.steps(spec, counting.run)}
        for spec in (counting.spec(), spec_of(counting))
    )
    assert not set(known.values()) & set(other.values())


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_numbers_are_audited_and_corrected_by_consensus(counting: Any, tiny_model: Path) -> None:
    folders = run_to("correct", counting, f"student.model={tiny_model}", "audit.consensus=true")
    queue = folders["audit"].read_table("queue.parquet").sort_by("order")
    assert queue.schema.field("opinion").type == queue.schema.field("consensus").type == pa.int64()
    assert queue["order"].to_pylist() == list(range(len(queue)))
    doubt = queue["doubt"].to_pylist()
    assert max(doubt) <= 1 and len(set(doubt)) > 5
    said = {row["id"]: row["label"] for row in folders["correct"].read_table("votes.parquet").to_pylist()}
    assert all(said[row["id"]] == row["consensus"] for row in queue.to_pylist())


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_all_stages_and_the_report_run_through(counting: Any, tiny_model: Path) -> None:
    student = (f"student.model={tiny_model}", "student.recipe=fast", "student.epochs=2")
    spec = spec_of(counting, *student, "benchmark.rows=4", "benchmark.batch_sizes=[4]", "benchmark.price_per_hour=1")
    progress = Progress(counting.said, "plain")
    pipeline.execute(spec, counting.run, Here(), progress)
    folders = {step.stage.NAME: step.folder for step in pipeline.steps(spec, counting.run)}
    result = folders["evaluate"].read_json("evaluate.json")
    assert result["counts"] == "vowels"
    assert (result["teacher"]["exact"], result["teacher"]["off_by"]) == (1.0, 0.0)
    assert 0 < result["student"]["off_by"] < 5
    assert result["sign_test"]["rows"] == len(WORDS)
    said = folders["evaluate"].read_table("predictions.parquet")
    assert said.schema.field("student_label").type == pa.int64()
    assert folders["benchmark"].read_json("benchmark.json")["student"]["texts_per_second"] > 0
    report, page = build_report(counting.run.read, counting.run.exists)
    assert report["label"]["mean_count"] > 0
    assert "Only the vowels of English are counted." in page
    assert "right counts" in page and "Cost against right counts" in page
    for word in ("accuracy", "McNemar", "confusion", "macro F1", "Krippendorff"):
        assert word.lower() not in page.lower()
