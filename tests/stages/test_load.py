"""load: nothing twice, no leak from test into train, and every row that goes is counted with its reason."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.data import sources, splits
from runner.data.reading import row_id
from runner.stages import load
from runner.system.errors import DataError

Rows = list[tuple[str, ...]]
VOTES = ("neutral",) * 3


def train_rows(*texts: str) -> Rows:
    return [(text, "", *VOTES) for text in texts]


def labelled(*rows: tuple[str, str]) -> Rows:
    return [(text, label, *VOTES) for text, label in rows]


TWO = labelled(("It makes paper.", "neutral"), ("A record year.", "positive"))


def collected(job: Any) -> tuple[splits.Split, splits.Split, list[str]]:
    return splits.read_splits(job.spec())


def reasons(split: splits.Split) -> dict[str, str]:
    return {row["place"]: row["reason"] for row in split.dropped}


def test_ids_are_the_same_on_every_machine() -> None:
    assert row_id("Profit fell.") == "faecd29ad81f1102c0ed"
    assert row_id("Profit fell. ") != row_id("Profit fell.")
    assert len({row_id(text) for text in ("", "\x00", "\ud800", "\udfff", "\ufffd")}) == 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("A  Record\tYEAR.", "a record year. ", True), ("STRASSE", "stra\u00dfe", True), ("a b", "ab", False)],
)
def test_case_and_blanks_do_not_make_another_text(one: str, other: str, same: bool) -> None:
    assert (sources.normalised(one) == sources.normalised(other)) is same


def test_duplicates_are_merged_and_counted(job: Any) -> None:
    job.csv("train.csv", train_rows("Same.", "Other.", "Same.", "same.", "Same."))
    job.csv("test.csv", [*TWO, TWO[0]])
    train, test, _ = collected(job)
    assert [row["text"] for row in train.rows.values()] == ["Same.", "Other.", "same."]
    assert reasons(train) == {"train.csv:4": "duplicate", "train.csv:6": "duplicate"}
    assert reasons(test) == {"test.csv:4": "duplicate"}
    assert [row["id"] for row in test.dropped] == [row_id("It makes paper.")]


def test_of_a_text_that_experts_labelled_both_ways_nothing_is_kept(job: Any) -> None:
    again = labelled(("It makes paper.", "negative"), ("It makes paper.", "neutral"))
    job.csv("test.csv", [*TWO, *again, *labelled(("Bad.", "negative"))])
    _, test, _ = collected(job)
    assert [row["text"] for row in test.rows.values()] == ["A record year.", "Bad."]
    assert reasons(test) == {
        "test.csv:2": "conflicting labels",
        "test.csv:4": "duplicate",
        "test.csv:5": "duplicate",
    }


def test_leaks_are_taken_out_of_train_and_said(job: Any) -> None:
    job.csv("train.csv", train_rows("A record year.", "a  RECORD year.", "Sales  doubled.", "Kept."))
    job.csv("test.csv", TWO)
    train, _, warnings = collected(job)
    assert [row["text"] for row in train.rows.values()] == ["Kept."]
    assert reasons(train) == {
        "train.csv:2": "leak: also in test",
        "train.csv:3": "leak: also in test",
        "train.csv:4": "leak: also a few-shot example",
    }
    assert warnings[0] == "2 texts of train also stand in test; they were taken out of train"


def test_a_test_set_that_is_a_part_of_train_is_said(job: Any) -> None:
    job.csv("train.csv", train_rows("Kept.", "It makes paper.", "a  RECORD year."))
    job.csv("test.csv", TWO)
    train, test, warnings = collected(job)
    assert (len(train.rows), len(test.rows)) == (1, 2)
    assert warnings[0].endswith(
        "Every test text was among them (the first: train.csv:3), so see that the test is a test"
    )


def test_train_that_is_all_test_says_where_and_what_to_do(job: Any) -> None:
    job.csv("train.csv", train_rows("It makes paper.", "A record year."))
    job.csv("test.csv", TWO)
    said = "none of 2 rows is left: 2 leak: also in test (the first: train.csv:2); learn from texts that are not in"
    with pytest.raises(DataError, match=re.escape(said)):
        collected(job)


def test_an_example_that_stands_in_test_is_said(job: Any) -> None:
    job.csv("test.csv", [*TWO, *labelled(("SALES doubled.", "positive"))])
    _, test, warnings = collected(job)
    assert len(test.rows) == 3, "test is never changed by what the teacher is shown"
    assert warnings[0].startswith("1 few-shot examples also stand in test")
    assert warnings[1] == "test has no row of negative: nothing can be said about it"


def test_the_stage_writes_what_it_counted(job: Any) -> None:
    job.csv("train.csv", train_rows("One.", "Two.", "One.", "  ", "A record year."))
    here = job.do("load")
    summary = here.done["summary"]
    assert (summary["train"], summary["test"]) == (2, 3)
    assert summary["read"] == {"train": 5, "test": 3}
    assert summary["dropped"] == {"train": {"duplicate": 1, "empty": 1, "leak: also in test": 1}, "test": {}}
    assert here.read_table("train.parquet").column("text").to_pylist() == ["One.", "Two."]
    assert here.read_table("train.parquet").column("label").to_pylist() == [None, None]
    assert here.read_table("test.parquet").column("votes").to_pylist()[0] == ["negative", "negative", "neutral"]
    assert Counter(row["reason"] for row in here.read_table("dropped.parquet").to_pylist()) == Counter(
        summary["dropped"]["train"]
    )
    assert "load: warning: 1 texts of train also stand in test" in job.said.getvalue()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (None, labelled(("A.", "Positiv"), ("B.", "neutral")), r"test.csv:2: the label 'Positiv' is not among "),
        (None, labelled(("A.", "neutral"), ("B.", "")), r"test.csv:3: the label '' is not among task.labels"),
        (None, labelled(("A.", "neutral"), ("B.", "neutral")), r"all 2 rows have the one label 'neutral'"),
        (None, [], r"data.test: none of 0 rows is left: the file has no rows"),
        (None, labelled((" ", "neutral"), ("", "x")), r"data.test: none of 2 rows is left: 2 empty"),
        ([], TWO, r"data.train: none of 0 rows is left: the file has no rows"),
        (train_rows("It makes paper.", "a record YEAR.", ""), TWO, r"none of 3 rows is left: 2 leak: .*, 1 empty"),
    ],
)
def test_data_that_cannot_be_used(job: Any, train: Rows | None, test: Rows, message: str) -> None:
    if train is not None:
        job.csv("train.csv", train)
    job.csv("test.csv", test)
    with pytest.raises(DataError, match=message):
        collected(job)


def test_blanks_around_a_label_are_no_part_of_it(job: Any) -> None:
    job.csv("test.csv", labelled(("A.", " neutral "), ("B.", "positive\t")))
    _, test, _ = collected(job)
    assert [row["label"] for row in test.rows.values()] == ["neutral", "positive"]


word = st.sampled_from(
    ["A.", "B.", "a.", "C. ", "C.", " ", "", "Sales doubled.", "../../etc/passwd", "x\x00", "\u00e9"]
)
label = st.sampled_from(["negative", "neutral", "positive"])


@pytest.mark.slow("long")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(train=st.lists(word, max_size=9), test=st.lists(st.tuples(word, label), max_size=9))
def test_rows_in_are_rows_out_and_rows_dropped(job: Any, train: list[str], test: list[tuple[str, str]]) -> None:
    job.csv("train.csv", train_rows(*train, "Kept for certain."))
    job.csv("test.csv", labelled(*test, ("Surely negative.", "negative"), ("Surely positive.", "positive")))
    for split, given_ in zip(collected(job)[:2], (len(train) + 1, len(test) + 2), strict=True):
        assert split.read == given_ == len(split.rows) + len(split.dropped)
        assert len({row["place"] for row in [*split.rows.values(), *split.dropped]}) == given_
        assert all(row["reason"] for row in split.dropped)
    kept_train, kept_test, _ = collected(job)
    seen = {sources.normalised(row["text"]) for row in kept_test.rows.values()}
    assert not seen & {sources.normalised(row["text"]) for row in kept_train.rows.values()}


@pytest.mark.parametrize("text", ["../../etc/passwd", "file:///etc/passwd", "${HOME}", "{0.__class__}", "{label}"])
def test_no_cell_is_ever_opened_or_filled_in(job: Any, text: str) -> None:
    job.csv("train.csv", train_rows(text, "Kept."))
    train, _, _ = collected(job)
    assert [row["text"] for row in train.rows.values()] == [text, "Kept."]
    here = job.do("load")
    assert here.read_table("train.parquet").column("text").to_pylist() == [text, "Kept."]


def test_only_the_spec_says_which_file_is_read(job: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    job.csv("train.csv", train_rows("From outside."))
    os.rename(job.root / "train.csv", tmp_path / "elsewhere" / "train.csv")
    (job.root / "train.csv").symlink_to(tmp_path / "elsewhere" / "train.csv")
    assert [row["text"] for row in collected(job)[0].rows.values()] == ["From outside."]
    spec = job.spec(f"data.train.path=../{tmp_path.name}/elsewhere/train.csv")
    assert len(splits.read_splits(spec)[0].rows) == 1


POOL = ["task.examples={from: pool.csv, select: similar, k: 2}"]


def pool(job: Any, *rows: tuple[str, str]) -> None:
    job.csv("pool.csv", rows, ("text", "label"))


def test_examples_may_come_from_a_file_and_leave_train(job: Any) -> None:
    job.csv("train.csv", train_rows("Sales fell.", "Sales rose."))
    pool(job, ("sales  FELL.", "negative"), ("Sold.", "positive"), ("Sold.", "positive"), (" ", "neutral"))
    spec = job.spec(*POOL)
    assert [row["text"] for row in splits.examples_of(spec)] == ["sales  FELL.", "Sold."]
    train, _, _ = splits.read_splits(spec)
    assert [row["text"] for row in train.rows.values()] == ["Sales rose."]
    before = load.key(spec)
    pool(job, ("Sold.", "positive"), ("Lost.", "negative"))
    assert load.key(spec) != before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Sold.", "good"), ("Lost.", "negative")], "pool.csv:2: the label 'good' is not among task.labels"),
        ([("Sold.", "positive")], "2 examples are to be chosen, and the file has 1"),
        ([("Sold.", "positive"), ("It makes  paper.", "neutral")], "1 of its texts also stand in data.test"),
    ],
)
def test_a_pool_that_cannot_be_used_is_refused(job: Any, rows: list[tuple[str, str]], message: str) -> None:
    job.csv("test.csv", TWO)
    pool(job, *rows)
    with pytest.raises(DataError, match=re.escape(message)):
        splits.read_splits(job.spec(*POOL))


@pytest.mark.parametrize("change", ["train", "test", "example", "labels", "limit"])
def test_the_key_knows_the_content(job: Any, change: str) -> None:
    before = load.key(job.spec())
    assert load.key(job.spec("student.epochs=9", "teacher.model=somebody else")) == before
    if change == "train":
        job.csv("train.csv", train_rows("Another."))
    elif change == "test":
        job.csv("test.csv", TWO)
    overrides = {
        "example": ["task.examples=[{text: Sold., label: positive}]"],
        "labels": ["task.labels=[neutral, negative, positive]"],
        "limit": ["data.train.limit=2"],
    }
    assert load.key(job.spec(*overrides.get(change, []))) != before
