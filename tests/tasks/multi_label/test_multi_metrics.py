"""Scores of lists of labels, against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from runner.tasks.multi_label import metrics, scoring

LABELS = ("a", "b", "c", "d")


def lists(matrix: np.ndarray) -> list[list[str]]:
    return [[label for label, yes in zip(LABELS, row, strict=True) if yes] for row in matrix]


def drawn(seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.random((rows, 4)) < (0.5, 0.3, 0.1, 0.05)
    return true, np.where(rng.random(true.shape) < 0.2, ~true, true)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_figures_are_those_of_scikit_learn(seed: int, weighted: bool) -> None:
    true, said = drawn(seed)
    weights = np.random.default_rng(seed).uniform(0.5, 4, len(true)) if weighted else None
    found = metrics.score(LABELS, lists(true), lists(said), None, 20, 0, weights)
    met = [k for k in range(4) if (true | said)[:, k].any()]
    how = {"sample_weight": weights, "zero_division": 0.0}
    assert found["macro_f1"] == pytest.approx(f1_score(true[:, met], said[:, met], average="macro", **how))
    assert found["micro_f1"] == pytest.approx(f1_score(true, said, average="micro", **how))
    assert found["exact_match"] == pytest.approx(accuracy_score(true, said, sample_weight=weights))
    precision, recall, f1, _ = precision_recall_fscore_support(true, said, **how)
    for k, label in enumerate(LABELS):
        one = found["per_class"][label]
        assert (one["precision"], one["recall"], one["f1"]) == pytest.approx((precision[k], recall[k], f1[k]))
        assert (one["support"], one["given"]) == (true[:, k].sum(), said[:, k].sum())
    assert scoring.primary(lists(true), lists(said)) == pytest.approx(
        f1_score(true[:, met], said[:, met], average="macro", zero_division=0.0)
    )


def test_an_abstention_misses_every_label_and_is_never_an_exact_match() -> None:
    found = metrics.score(LABELS, [["a"], [], ["b"]], [["a"], None, None], None, 20)
    assert (found["abstained"], found["exact_match"]) == (2, pytest.approx(1 / 3))
    assert found["per_class"]["b"]["recall"] == 0 and found["per_class"]["a"]["f1"] == 1


def test_no_label_is_an_answer_that_can_be_right() -> None:
    found = metrics.score(LABELS, [[], ["a"]], [[], ["a"]], None, 20)
    assert (found["exact_match"], found["macro_f1"], found["abstained"]) == (1.0, 1.0, 0)


@pytest.mark.parametrize(("truth", "given_"), [([["a"]], []), ([], []), ([["z"]], [["a"]]), ([["a"]], [["z"]])])
def test_what_cannot_be_scored_is_refused(truth: list[list[str]], given_: list[list[str]]) -> None:
    with pytest.raises(ValueError):
        metrics.score(LABELS, truth, given_, None, 20)


def test_the_interval_is_that_of_rows_drawn_again() -> None:
    true, said = drawn(3, 200)
    low, high = metrics.score(LABELS, lists(true), lists(said), None, 2000, 1)["ci95"]["macro_f1"]
    rng = np.random.default_rng(5)
    slow = []
    for _ in range(1500):
        rows = rng.integers(0, len(true), len(true))
        slow.append(f1_score(true[rows], said[rows], average="macro", zero_division=0.0))
    assert (low, high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.012)


def test_a_better_system_is_told_from_a_worse_one_and_equals_are_not() -> None:
    true, said = drawn(1, 300)
    worse = lists(said & (np.random.default_rng(0).random(said.shape) < 0.6))
    test = metrics.paired(LABELS, lists(true), worse, lists(said), 500)
    assert test["p"] < 0.01 and test["difference"][0] > 0 and test["difference"][1] > 0
    turned = metrics.paired(LABELS, lists(true), lists(said), worse, 500)
    assert turned["difference"][0] == pytest.approx(-test["difference"][0])
    assert (turned["only_a_right"], turned["only_b_right"]) == (test["only_b_right"], test["only_a_right"])
    same = metrics.paired(LABELS, lists(true), lists(said), lists(said), 500)
    assert (same["p"], same["difference"]) == (1.0, [0.0, 0.0, 0.0])


def test_p_is_small_as_often_as_it_says() -> None:
    """Two systems that err alike: p is under 0.1 in about a tenth of the draws, and not in a third of them."""
    small = 0
    for seed in range(60):
        true, one = drawn(seed, 120)
        other = np.where(np.random.default_rng(1000 + seed).random(true.shape) < 0.2, ~true, true)
        small += metrics.paired(LABELS, lists(true), lists(one), lists(other), 200)["p"] < 0.1
    assert small <= 15


def test_calibration_is_measured_for_each_label() -> None:
    rng = np.random.default_rng(0)
    chances = rng.random((4000, 4))
    true = rng.random(chances.shape) < chances
    right = metrics.score(LABELS, lists(true), lists(chances > 0.5), chances, 20)
    assert right["ece"] < 0.04
    skewed = chances.copy()
    skewed[:, 1] = 0.95
    wrong = metrics.score(LABELS, lists(true), lists(chances > 0.5), skewed, 20)
    assert wrong["per_class"]["b"]["ece"] == pytest.approx(0.95 - true[:, 1].mean())
    assert wrong["per_class"]["a"]["ece"] == right["per_class"]["a"]["ece"]
    assert wrong["brier"] > right["brier"]


def test_pairs_of_a_missed_and_a_needless_label_are_counted() -> None:
    truth, said = [["a"], ["a"], ["a", "b"], ["c"]], [["b"], ["b"], ["b"], ["c", "d"]]
    assert metrics.score(LABELS, truth, said, None, 20)["confused"] == [["a", "b", 2]]


def test_a_blind_sample_says_what_all_rows_would() -> None:
    """Rows that were likelier to be drawn count for less: the estimate is that of all rows, within its interval."""
    from types import SimpleNamespace

    rng = np.random.default_rng(4)
    true, said = drawn(2, 3000)
    hard = (true != said).any(axis=1)
    chance = np.where(hard, 0.5, 0.1)
    ids = [str(number) for number in range(len(true))]
    truth, teacher = dict(zip(ids, lists(true), strict=True)), dict(zip(ids, lists(said), strict=True))
    population = [
        {"id": id_, "inclusion": float(one) if rng.random() < one else None}
        for id_, one in zip(ids, chance, strict=True)
    ]
    evaluate = SimpleNamespace(resamples=300, seed=0)
    spec: Any = SimpleNamespace(task=SimpleNamespace(labels=LABELS), evaluate=evaluate)
    known = {row["id"]: truth[row["id"]] for row in population if row["inclusion"] is not None}
    found = scoring.estimates(spec, known, teacher, teacher, population)
    for name, everybody in (
        ("macro_f1", f1_score(true, said, average="macro")),
        ("exact_match", accuracy_score(true, said)),
    ):
        low, high = found["teacher"]["ci95"][name]
        assert low <= everybody <= high
        assert found["teacher"][name] == pytest.approx(everybody, abs=0.03)
    assert found["difference"]["p"] == 1.0
    assert "student" not in scoring.estimates(spec, known, teacher, None, population)
