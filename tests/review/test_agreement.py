"""Agreement of reviewers, against worked examples of the literature and scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from runner.review.agreement import agreement, cohen_kappa, krippendorff_alpha, majority, pace

# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): a dot is a missing value.
BINARY = ("0100000010", "1110010000")
TWO_OBSERVERS = ("aabbdcccedda", "babbbccceddd")
FOUR_OBSERVERS = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def units(observers: Sequence[str]) -> list[list[str]]:
    """By unit, the values that are there."""
    return [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]


@pytest.mark.parametrize(
    ("observers", "published"),
    [(BINARY, 0.095), (TWO_OBSERVERS, 0.692), (FOUR_OBSERVERS, 0.743)],
    ids=["section A", "section B", "section C"],
)
def test_alpha_is_that_of_krippendorffs_examples(observers: Sequence[str], published: float) -> None:
    assert krippendorff_alpha(units(observers)) == pytest.approx(published, abs=5e-4)


def test_alpha_is_that_of_the_definition_by_pairs() -> None:
    """Observed disagreement within units over that of all pairs, counted one by one."""
    generator = np.random.default_rng(0)
    drawn = [list(generator.integers(0, 3, generator.integers(0, 5)).tolist()) for _ in range(60)]
    paired = [unit for unit in drawn if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    within = sum(sum(a != b for i, a in enumerate(u) for j, b in enumerate(u) if i != j) / (len(u) - 1) for u in paired)
    across = sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
    expected = 1 - (within / len(values)) / (across / (len(values) * (len(values) - 1)))
    assert krippendorff_alpha(drawn) == pytest.approx(expected, abs=1e-12)


def test_alpha_of_perfect_agreement_is_one_and_of_a_single_value_undefined() -> None:
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a"], ["b"]]) is None
    assert krippendorff_alpha([]) is None


def test_kappa_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        one, other = generator.integers(0, 4, (2, 30)).tolist()
        assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)


def test_kappa_of_a_known_table() -> None:
    """20 both yes, 15 both no, 5 and 10 apart: 0.7 observed, 0.5 by chance."""
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)


def test_kappa_is_undefined_where_both_say_one_thing() -> None:
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    assert cohen_kappa([], []) is None


def test_a_majority_is_more_than_half() -> None:
    assert majority(["a", "a", "b"]) == "a"
    assert majority(["a", "b"]) is None
    assert majority(["a", "a", "b", "c"]) is None
    assert majority([["a", "b"], ["a", "b"], ["a"]]) == ["a", "b"]
    assert majority([]) is None


def test_conflicts_are_listed_and_settled_by_majority_or_left_open() -> None:
    said = {
        1: {"anna": "good", "ben": "good", "carl": "bad"},
        2: {"anna": "good", "ben": "bad"},
        3: {"anna": "good", "ben": "good"},
        4: {"carl": "bad"},
    }
    found = agreement(said)
    assert found.reviewers == ("anna", "ben", "carl") and found.rows == 3
    assert [(conflict.row, conflict.majority) for conflict in found.conflicts] == [(1, "good"), (2, None)]
    assert [(pair.one, pair.other, pair.rows, pair.same) for pair in found.pairs] == [
        ("anna", "ben", 3, 2),
        ("anna", "carl", 1, 0),
        ("ben", "carl", 1, 0),
    ]
    assert found.alpha == krippendorff_alpha(values.values() for values in said.values())


def test_nothing_is_said_of_one_reviewer_alone() -> None:
    found = agreement({1: {"anna": "good"}, 2: {"anna": "bad"}})
    assert (found.rows, found.alpha, found.pairs, found.conflicts) == (0, None, (), ())


def test_pace_leaves_pauses_out() -> None:
    found = pace([4, 5, 6, 5, 3600, None])
    assert found is not None
    assert (found.timed, found.median, found.pauses) == (5, 5, 1)
    assert found.mean == 5 and found.total == 25


def test_a_slow_text_is_no_pause() -> None:
    found = pace([2, 2, 2, 50])  # over ten medians, under a minute
    assert found is not None and found.pauses == 0 and found.mean == 14


def test_no_pace_where_nothing_was_measured() -> None:
    assert pace([None, None]) is None and pace([]) is None
