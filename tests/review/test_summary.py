"""What a review came to, from its decisions."""

from __future__ import annotations

from typing import Any

from runner.review.decisions import Decision
from runner.review.pace import seconds
from runner.review.summary import POINTS, summary

TEACHER = {"a": "good", "b": "good", "c": "bad", "d": None}


def said(row: str, value: Any, reviewer: str = "ada", took: float | None = 2.0, **more: Any) -> Decision:
    given = {"list": "queue", "action": "label", "digest": ""} | more
    return Decision(id=row, value=value, reviewer=reviewer, seconds=took, **given)


def test_nothing_decided_is_nothing_to_tell() -> None:
    assert summary([said("a", None, action="skip")], TEACHER) is None


def test_what_was_found_and_when() -> None:
    found = summary(
        [
            said("b", "bad", time="2026-01-01"),
            said("a", "good", time="2026-01-02"),
            said("d", "bad", time="2026-01-03"),
            said("c", None, action="unclear", time="2026-01-04"),
            said("s", "good", list="sample"),
        ],
        TEACHER,
    )
    assert found is not None
    assert found["queue"] == {"rows": 4, "changed": 2, "unclear": 1}
    assert found["curve"] == [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)], "a row on which the teacher abstained counts"
    assert found["sample"] == {"rows": 1, "unclear": 0}


def test_a_long_curve_has_few_points_and_ends_where_it_ends() -> None:
    many = [said(f"{n:04}", "bad", time=f"{n:04}") for n in range(1000)]
    found = summary(many, {})
    assert found is not None
    assert len(found["curve"]) <= POINTS + 1 and found["curve"][-1] == (1000, 1000)


def test_reviewers_their_pace_and_how_far_they_agree() -> None:
    found = summary(
        [said("a", "good"), said("b", "bad"), said("a", "good", "bob", 4.0), said("b", "good", "bob", None)], TEACHER
    )
    assert found is not None
    assert [(each["name"], each["decisions"], each["median"]) for each in found["reviewers"]] == [
        ("ada", 2, 2.0),
        ("bob", 2, 4.0),
    ]
    assert (found["agreement"]["rows"], found["agreement"]["conflicts"], found["open"]) == (2, 1, 1)
    assert found["seconds"] == 8.0


def test_time_that_nobody_measured_is_not_made_up() -> None:
    assert seconds([said("a", "good", took=None)]) is None
    pause = [said(str(n), "good", took=2.0) for n in range(9)] + [said("z", "good", took=5000.0)]
    assert seconds(pause) == 20.0
