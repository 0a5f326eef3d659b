"""How well texts that belong to no class are told from the rest: against scikit-learn, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from runner.tasks.single_label.out_of_scope import out_of_scope

LABELS = ("a", "b", "none")


def drawn(rows: int = 2000, seed: int = 0):
    chance = np.random.default_rng(seed)
    truth = chance.choice(LABELS, rows, p=[0.5, 0.3, 0.2])
    logits = chance.normal(size=(rows, 3)) + 1.5 * (truth[:, None] == np.array(LABELS))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return list(truth), [LABELS[k] for k in probabilities.argmax(axis=1)], probabilities


def test_it_is_what_the_roc_curve_says():
    truth, predicted, probabilities = drawn()
    found = out_of_scope(LABELS, "none", truth, predicted, probabilities)
    outside = np.array(truth) == "none"
    false_alarms, recall, _ = roc_curve(outside, probabilities[:, 2], drop_intermediate=False)
    assert found["recall_at_5"] == pytest.approx(recall[false_alarms <= 0.05].max())
    assert found["auroc"] == pytest.approx(roc_auc_score(outside, probabilities[:, 2]))
    assert (probabilities[~outside, 2] > found["threshold"]).mean() <= 0.05
    right = (np.array(truth) == np.array(predicted))[~outside]
    assert found["accuracy_in_scope"] == pytest.approx(right.mean())
    assert found["rows"] + found["others"] == len(truth)


def test_ties_raise_no_more_alarms_than_they_may():
    """All others tied with those that are outside: nobody can be found."""
    truth = ["none"] * 10 + ["a"] * 100
    probabilities = np.tile([0.2, 0.2, 0.6], (110, 1))
    found = out_of_scope(LABELS, "none", truth, ["none"] * 110, probabilities)
    assert (found["recall_at_5"], found["recall"], found["false_alarms"]) == (0.0, 1.0, 1.0)
    assert found["auroc"] == 0.5


def test_without_probabilities_or_such_texts_nothing_is_invented():
    found = out_of_scope(LABELS, "none", ["none", "a"], ["a", None], None)
    assert found["recall_at_5"] is found["auroc"] is None and found["recall"] == 0.0 and found["false_alarms"] == 0.0
    found = out_of_scope(LABELS, "none", ["b", "a"], ["b", "a"], np.eye(3)[[1, 0]])
    assert found["rows"] == 0 and found["recall"] is found["recall_at_5"] is found["accuracy_in_scope"] is None


def test_a_row_without_finite_numbers_counts_as_in_scope():
    probabilities = np.array([[np.nan] * 3, [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    found = out_of_scope(LABELS, "none", ["none", "none", "a"], [None, "none", "a"], probabilities)
    assert found["recall_at_5"] == 0.5
