"""Several teachers: each labels, their labels are pooled, and one that fails or abstains spoils nothing."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.stages import label, vote
from runner.system.errors import SpecError
from runner.teacher import answer_store, request

THREE = "teacher.also=[{model: ben, columns: [ben]}, {model: carl, columns: [carl]}]"
FIRST = "teacher.columns=[anna]"


def rows(folder: Any, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = folder.read_table(name).to_pylist()
    return found


def test_each_recorded_teacher_has_its_own_columns(job: Any) -> None:
    here = job.do("label", FIRST, THREE)
    for number, column in enumerate(("anna", "ben", "carl")):
        folder = answer_store.folder_of(here, number)
        answers = {row["id"]: row["text"] for row in rows(folder, "answers.parquet")}
        load = {
            row["id"]: row["votes"]
            for row in rows(job.context("label", job.spec(FIRST, THREE)).inputs["load"], "train.parquet")
        }
        assert all(answers[id_] == votes[number] for id_, votes in load.items()), column
    summary = here.done["summary"]
    assert (summary["rows"], summary["failures"], len(summary["teachers"])) == (7, 0, 3)


def test_three_teachers_are_pooled(job: Any) -> None:
    here = job.do("vote", FIRST, THREE)
    found = {row["text"]: row for row in rows(here, "votes.parquet")}
    assert found["The plant is in Turku."]["label"] == "neutral"
    assert found["The plant is in Turku."]["votes"] == ["neutral", "neutral", "positive"]
    assert found["The plant is in Turku."]["agreement"] == pytest.approx(2 / 3)
    assert found["Costs rose sharply."]["label"] == "negative"
    assert all(sum(row["probabilities"]) == pytest.approx(1) for row in found.values())
    together = here.done["summary"]["teachers"]
    assert together["models"] == ["three people", "ben", "carl"]
    assert sum(together["weights"]) == pytest.approx(1)
    assert 0 < together["krippendorff_alpha"] < 1
    assert together["pairwise_agreement"][0][1] == pytest.approx(6 / 7)


def test_a_teacher_that_names_no_label_is_left_out_of_its_row(job: Any) -> None:
    job.csv(
        "train.csv",
        [("One.", "", "negative", "?", "negative"), ("Two.", "", "?", "?", "?"), ("Three.", "", "?", "positive", "?")],
    )
    here = job.do("vote", FIRST, THREE, "teacher.max_failure_rate=1")
    found = {row["text"]: row for row in rows(here, "votes.parquet") if row["split"] == "train"}
    assert (found["One."]["label"], found["Three."]["label"]) == ("negative", "positive")
    assert found["Two."]["label"] is None and found["Two."]["reason"].startswith("no usable answer")


def test_another_teacher_does_not_ask_the_first_one_again(job: Any) -> None:
    one = job.spec("teacher.engine=noop", "teacher.columns=[]")
    two = job.spec("teacher.engine=noop", "teacher.columns=[]", "teacher.also=[{model: other, prompt: cot, votes: 3}]")
    assert request.teacher_key(one) == request.teacher_key(two.teachers()[0])
    assert label.key(one) != label.key(two)
    other = two.teachers()[1].teacher
    assert (other.model, other.prompt, other.votes, other.also) == ("other", "cot", 3, ())
    assert vote.key(one)["calibration"] == ["content-free"]
    assert vote.key(two)["calibration"] == ["content-free", "none"]


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("[{model: b}]", "also.0.columns: engine: recorded needs at least one column"),
        ("[{model: b, columns: [ben], votes: 2}]", "also.0.votes: votes must be odd"),
        ("[{model: b, columns: [ben], endpoint: 'http://x:1/v1'}]", "engine: recorded asks no server"),
        ("[{columns: [ben]}]", "model"),
    ],
)
def test_a_further_teacher_keeps_the_rules(job: Any, also: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        job.spec(f"teacher.also={also}")
    assert message in str(caught.value)


def test_the_runs_files_are_plain_tables(job: Any) -> None:
    here = job.do("label", FIRST, THREE)
    assert pq.read_table(here.local / "also-2" / "answers.parquet").num_rows == 7
