"""evaluate.compare: others on the same rows, joined by text; a file of other texts is refused before the spending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.data import annotators
from runner.planning.files import check_files
from runner.spec import Spec, load_spec
from runner.stages import evaluate
from runner.system.errors import DataError, SpecError

REPOSITORY = Path(__file__).parents[2]
OTHER = 'evaluate.compare={"GPT-4": {path: other.csv, text: sentence, label: said}}'
HEADER = ("sentence", "said")


def rows_of(job: Any) -> list[dict[str, Any]]:
    return list(job.do("load").read_table("test.parquet").to_pylist())


def predictions(job: Any, student: list[str | None], teacher: list[str | None]) -> list[dict[str, Any]]:
    pairs = zip(rows_of(job), student, teacher, strict=True)
    return [row | {"student_label": s, "teacher_label": t} for row, s, t in pairs]


def test_texts_are_joined_whatever_their_case_and_blanks(job: Any) -> None:
    job.csv("other.csv", [("a  LOSS was posted. ", "Negative"), ("It makes paper.", '{"label": "neutral"}')], HEADER)
    rows = rows_of(job)
    found = annotators.read_all(job.spec(OTHER), rows)["GPT-4"]
    assert found.values == {rows[0]["id"]: "negative", rows[1]["id"]: "neutral"} and found.conflicting == 0


def test_an_answer_without_a_label_is_kept_as_wrong_and_two_labels_for_one_text_as_none(job: Any) -> None:
    said = [
        ("A loss was posted.", "cannot be labelled"),
        ("It makes paper.", "neutral"),
        ("A record year.", "positive"),
    ]
    job.csv("other.csv", [*said, ("A record year.", "negative")], HEADER)
    rows = rows_of(job)
    found = annotators.read_all(job.spec(OTHER), rows)["GPT-4"]
    assert found.values == {rows[0]["id"]: None, rows[1]["id"]: "neutral"} and found.conflicting == 1


def test_a_text_that_the_annotator_has_not_come_to_is_not_compared(job: Any) -> None:
    said = [
        ("A loss was posted.", "negative"),
        ("It makes paper.", " "),
        ("A record year.", ""),
        ("A record year.", "positive"),
    ]
    job.csv("other.csv", said, HEADER)
    rows = rows_of(job)
    found = annotators.read_all(job.spec(OTHER), rows)["GPT-4"]
    assert found.values == {rows[0]["id"]: "negative", rows[2]["id"]: "positive"} and found.conflicting == 0


def test_only_common_rows_are_compared(job: Any) -> None:
    job.csv("other.csv", [("A loss was posted.", "neutral"), ("It makes paper.", "neutral"), ("x", "positive")], HEADER)
    rows = predictions(job, ["negative", "neutral", "neutral"], ["negative", "positive", None])
    other = evaluate.others(job.spec(OTHER), rows)["GPT-4"]
    assert (other["rows"], other["missing"]) == (2, 1)
    assert other["annotator"]["accuracy"] == 0.5 and other["annotator"]["rows"] == 2
    assert (other["student"], other["teacher"]) == ({"accuracy": 1.0}, {"accuracy": 0.5})
    assert other["mcnemar"]["student"] == {"p": 1.0, "only_a_right": 0, "only_b_right": 1, "rows": 2}
    assert other["mcnemar"]["teacher"] == {"p": 1.0, "only_a_right": 1, "only_b_right": 1, "rows": 2}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Something else.", "positive")], "evaluate.compare.GPT-4: none of its 1 texts is among the 3 test texts"),
        ([("A record year.", "5"), ("It makes paper.", "?")], "not one answer in column 'said' names a label"),
    ],
)
def test_a_file_that_cannot_be_compared_stops_the_first_stage(job: Any, rows: Any, message: str) -> None:
    job.csv("other.csv", rows, HEADER)
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        job.do("load", OTHER)


def test_validate_names_a_missing_file_and_a_missing_column(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.root)
    with pytest.raises(SpecError, match=r"evaluate\.compare\.GPT-4\.path: there is no file 'other\.csv'"):
        check_files(job.spec(OTHER))
    job.csv("other.csv", [("A record year.", "positive")], ("sentences", "said"))
    with pytest.raises(SpecError, match=r"has no column 'sentence' \(did you mean 'sentences'\?\)"):
        check_files(job.spec(OTHER))


def test_what_another_said_is_part_of_the_outcome_and_of_nothing_before_it(job: Any) -> None:
    def prints(spec: Spec) -> dict[str, str]:
        from runner.stages import pipeline

        return {step.stage.NAME: step.fingerprint for step in pipeline.steps(spec, job.run)}

    job.csv("other.csv", [("A record year.", "positive")], HEADER)
    before, without = prints(job.spec(OTHER)), prints(job.spec())
    job.csv("other.csv", [("A record year.", "negative")], HEADER)
    after = prints(job.spec(OTHER))
    assert {name for name in before if before[name] != after[name]} == {"evaluate"}
    assert {name for name in before if before[name] != without[name]} == {"evaluate"}


def test_the_published_teachers_come_out_as_published(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_DATA", str(data_dir))
    spec = load_spec(REPOSITORY / "specs" / "financial-sentiment-recorded.yaml")
    from runner.data.splits import read_splits

    test = list(read_splits(spec)[1].rows.values())
    rows = [row | {"student_label": row["label"], "teacher_label": None} for row in test]
    accuracy = {name: found["annotator"]["accuracy"] for name, found in evaluate.others(spec, rows).items()}
    assert {name: round(value, 3) for name, value in accuracy.items()} == {
        "Mixtral, simple prompt": 0.916,
        "Mixtral, chain of thought": 0.932,
        "Mixtral, three votes": 0.94,
    }
