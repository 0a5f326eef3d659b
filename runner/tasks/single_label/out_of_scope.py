"""How well texts are found that belong to none of the classes: recall at a share of false alarms, and AUROC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

FALSE_ALARMS = 0.05
"""The share of the other texts that may raise one, as in Larson et al. 2019 and later work on such queries."""


def out_of_scope(
    labels: Sequence[str],
    name: str,
    truth: Sequence[str],
    predicted: Sequence[str | None],
    probabilities: NDArray[np.floating[Any]] | None,
) -> dict[str, Any]:
    """How well texts of the label ``name``, which means none of the others, are told from the rest.

    ``recall`` and ``false_alarms`` are those of the labels that were given, as shares of the texts that are of ``name``
    and that are not; ``accuracy_in_scope`` is that of the latter. ``recall_at_5`` is the share found where so strict a
    threshold on the probability of ``name`` is taken that at most 5 % of the others raise an alarm, and ``threshold``
    is that one; ``auroc`` is the probability that a text of ``name`` gets more than another one. The last three are
    None without probabilities, shape ``(rows, labels)``, and all are where texts of only one sort are there; rows whose
    probabilities are not finite count as sure of being in scope.
    """
    outside = np.array([label == name for label in truth])
    found: dict[str, Any] = dict.fromkeys(
        ("recall", "false_alarms", "accuracy_in_scope", "recall_at_5", "threshold", "auroc")
    )
    found = {"label": name, "rows": int(outside.sum()), "others": int((~outside).sum())} | found
    if outside.all() or not outside.any():
        return found
    said = np.array([label == name for label in predicted])
    right = np.array([label == given for label, given in zip(truth, predicted, strict=True)])
    found["recall"], found["false_alarms"] = float(said[outside].mean()), float(said[~outside].mean())
    found["accuracy_in_scope"] = float(right[~outside].mean())
    if probabilities is None:
        return found
    chance = np.nan_to_num(np.asarray(probabilities, dtype=np.float64)[:, list(labels).index(name)], nan=0.0)
    threshold = _threshold(chance[~outside])
    return found | {
        "recall_at_5": float((chance[outside] > threshold).mean()),
        "threshold": threshold,
        "auroc": float(roc_auc_score(outside, chance)),
    }


def _threshold(others: NDArray[np.float64]) -> float:
    """The smallest value that at most :data:`FALSE_ALARMS` of ``others`` exceed."""
    allowed = int(FALSE_ALARMS * len(others))
    return float(np.sort(others)[len(others) - 1 - allowed])
