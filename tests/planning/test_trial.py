"""Rows that are tried before a run: which they are, and how two versions of a prompt compare on them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from runner.planning import versions
from runner.planning.trial import Trial, Tried, choose, label_few, version_of
from runner.planning.versions import FEWEST_APART, SIGNIFICANT, compare
from runner.system.errors import UserError

LABELS = ["negative", "neutral", "positive"]


def ids(count: int, prefix: str = "") -> list[str]:
    return [hashlib.sha256(f"{prefix}{n}".encode()).hexdigest()[:20] for n in range(count)]


def tried(id_: str, value: str | None, truth: str | None = None) -> Tried:
    return Tried(id_, f"Text {id_}", "train", value, None, None, "", (), None, truth)


def trial(values: dict[str, Any], truths: dict[str, str], version: str = "now") -> Trial:
    return Trial(version, [tried(id_, value, truths.get(id_)) for id_, value in values.items()], 0)


def test_half_of_the_rows_have_an_experts_value_where_there_are_so_many() -> None:
    train, test = ids(100, "train"), ids(100, "test")
    found = choose([*train, *test], dict.fromkeys(test, "x"), 20)
    assert (len(set(found)), len(set(found) & set(test))) == (20, 10)
    few = choose([*train, *test[:3]], dict.fromkeys(test[:3], "x"), 20)
    assert (len(few), len(set(few) & set(test))) == (20, 3)
    assert len(set(choose([*train[:4], *test], dict.fromkeys(test, "x"), 20)) & set(test)) == 16, "none is wasted"
    assert len(choose(train[:4], {}, 20)) == 4


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 40), st.randoms())
def test_the_choice_follows_no_order_and_more_rows_are_these_and_others(
    number: int, others: int, known: int, random: Any
) -> None:
    test = ids(known, "test")
    both = [*ids(others, "train"), *test]
    truths = dict.fromkeys(test, "x")
    found = choose(both, truths, number)
    random.shuffle(both)
    assert choose(both, truths, number) == found
    assert len(found) == len(set(found)) == min(number, others + known)
    assert set(found) <= set(choose(both, truths, 2 * number))


def test_recorded_answers_are_tried_as_a_run_would_judge_them(job: Any) -> None:
    job.do("load")
    context = job.context("label")
    found = label_few(context, 20)
    assert (len(found.rows), found.asked, found.note) == (7, 0, "")
    by_text = {row.text: row for row in found.rows}
    turku = by_text["The plant is in Turku."]
    assert (turku.value, turku.answers, turku.truth) == ("neutral", ("neutral", "neutral", "positive"), None)
    assert by_text["A loss was posted."].truth == "negative"
    votes = job.do("vote").read_table("votes.parquet").to_pylist()
    assert {row.text: row.value for row in found.rows} == {row["text"]: row["label"] for row in votes}
    assert {row.text: row.probabilities for row in found.rows} == {row["text"]: row["probabilities"] for row in votes}


def test_a_tie_is_no_value_and_says_why(job: Any) -> None:
    job.do("load", "teacher.columns=[anna,ben]")
    found = label_few(job.context("label", job.spec("teacher.columns=[anna,ben]")), 20)
    costs = next(row for row in found.rows if row.text == "Costs rose sharply.")
    assert (costs.value, costs.why_not) == (None, "tie: neutral 1, negative 1")


def test_a_version_is_all_that_decides_a_value(job: Any) -> None:
    live = ["teacher.engine=noop", "teacher.columns=[]"]
    first = version_of(job.spec(*live))
    assert version_of(job.spec(*live, "student.epochs=3", "teacher.batch_size=7")) == first
    for change in ("task.instructions=Other.", "teacher.prompt=cot", "teacher.calibration=none", "task.examples=[]"):
        assert version_of(job.spec(*live, change)) != first


def test_the_version_before_is_kept_and_never_the_same_one(job: Any) -> None:
    assert versions.before(job.run, "one") is None
    versions.keep(job.run, trial({"a": "neutral"}, {}, "one"))
    assert versions.before(job.run, "one") is None
    assert versions.before(job.run, "two") == {"a": "neutral"}
    versions.keep(job.run, trial({"a": "positive"}, {}, "two"))
    versions.keep(job.run, trial({"a": None}, {}, "two"))
    assert versions.before(job.run, "one") == {"a": None}
    assert versions.before(job.run, "two") == {"a": "neutral"}
    job.run.write_json(versions.NAME, {"format": versions.FORMAT + 1, "tries": []})
    with pytest.raises(UserError, match="newer tutelage"):
        versions.before(job.run, "one")


def test_two_versions_are_compared_on_the_rows_that_both_have_tried(job: Any) -> None:
    truths = {f"r{n}": LABELS[n % 3] for n in range(30)}
    old = {id_: "neutral" for id_ in truths}
    new = {id_: (truths[id_] if n < 12 else "neutral") for n, id_ in enumerate(truths)} | {"more": "positive"}
    found = compare(job.spec(), old, trial(new, truths))
    gained = sum(truths[f"r{n}"] != "neutral" for n in range(12))
    assert (found.rows, found.known, found.gained, found.lost) == (30, 30, gained, 0)
    assert [(row.id, was) for row, was in found.changed] == [(f"r{n}", "neutral") for n in range(12) if n % 3 != 1]
    assert found.p == pytest.approx(float(binomtest(gained, gained).pvalue))


def test_abstentions_are_wrong_and_rows_without_an_expert_decide_nothing(job: Any) -> None:
    found = compare(job.spec(), {"a": None, "b": "neutral"}, trial({"a": "neutral", "b": None}, {"a": "neutral"}))
    assert (found.known, found.gained, found.lost, len(found.changed)) == (1, 1, 0, 2)
    nobody = compare(job.spec(), {"a": "neutral"}, trial({"a": "positive"}, {}))
    assert (nobody.known, nobody.p, len(nobody.changed)) == (0, None, 1)


def test_values_of_other_labels_are_not_taken_for_mistakes(job: Any) -> None:
    found = compare(job.spec(), {"a": "good"}, trial({"a": "positive"}, {"a": "positive"}))
    assert (found.p, len(found.changed)) == (None, 1)


def test_under_so_many_rows_the_test_can_show_nothing() -> None:
    assert float(binomtest(FEWEST_APART, FEWEST_APART).pvalue) < SIGNIFICANT
    assert float(binomtest(FEWEST_APART - 1, FEWEST_APART - 1).pvalue) > SIGNIFICANT


def test_what_is_kept_can_be_read_as_json(job: Any) -> None:
    versions.keep(job.run, trial({"a": "neutral", "b": None}, {}))
    assert json.loads(job.run.read(versions.NAME))["tries"][0]["values"] == {"a": "neutral", "b": None}
