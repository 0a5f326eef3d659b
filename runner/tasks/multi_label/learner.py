"""A student that says of each label whether it applies: a sequence classifier, taught by binary cross-entropy.

Knows torch: it is imported where a student learns or predicts, and by no driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch.nn.functional import binary_cross_entropy_with_logits

from runner.student.head_start import Head
from runner.student.views import views
from runner.system.errors import ModelError
from runner.tasks.multi_label import thresholds
from runner.tasks.multi_label.targets import confidence
from runner.tasks.shared import classifier, linear_head
from runner.tasks.shared import out_of_fold as folds
from runner.tasks.shared.classifier import outputs_of

__all__ = [
    "confidence",
    "decision_of",
    "fit_head",
    "fresh",
    "is_right",
    "loss",
    "out_of_fold",
    "outputs_of",
    "probabilities",
    "settle",
    "trained",
    "views",
]

PROBLEM_TYPE = "multi_label_classification"
"""By which ``transformers`` knows that a classifier's labels are independent."""


def fresh(folder: Path, labels: Sequence[str], pooled: bool = False) -> Any:
    """See :func:`runner.tasks.shared.classifier.fresh`."""
    return classifier.fresh(folder, labels, PROBLEM_TYPE, pooled)


def trained(folder: Path) -> Any:
    """See :func:`runner.tasks.shared.classifier.trained`. :raises ModelError: also when it chooses one label."""
    model = classifier.trained(folder)
    if model.config.problem_type != PROBLEM_TYPE:
        raise ModelError(
            "model.not-multi-label",
            f"{folder}: does not say of each label whether it applies (problem_type: {model.config.problem_type}, "
            f"and not {PROBLEM_TYPE}), so that its answers are no probabilities of that",
        )
    decision_of(model.config)
    return model


def decision_of(config: Any) -> dict[str, float] | None:
    """The threshold of each label; None where the configuration has none, and one half is meant.

    :raises ModelError: when there is not one for each label, from 0 to 1.
    """
    found = getattr(config, "thresholds", None)
    if found is None:
        return None
    labels = outputs_of(config)
    sound = isinstance(found, dict) and set(found) == set(labels)
    if not sound or not all(isinstance(found[label], int | float) and 0 <= found[label] <= 1 for label in labels):
        raise ModelError(
            "model.thresholds-broken",
            "config.json: thresholds must have a number from 0 to 1 for each label of id2label; train the student "
            "again, or remove the field, and one half is taken",
        )
    return {label: float(found[label]) for label in labels}


def settle(model: Any, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Choose a threshold for each label (:func:`runner.tasks.multi_label.thresholds.choose`)."""
    chosen = thresholds.choose(probabilities(logits.float().numpy()), targets.numpy() > thresholds.HALF)
    labels = outputs_of(model.config)
    model.config.thresholds = {label: round(float(one), 4) for label, one in zip(labels, chosen, strict=True)}


def losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The binary cross-entropy of each label; all are ``(rows, labels)``."""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over labels of binary cross-entropy against probabilities, as a mean over rows."""
    return losses(logits.float(), targets).sum(dim=-1).mean()


def is_right(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How near each row's probabilities are to the teacher's, from 0 to 1, shape ``(rows,)``.

    Jaccard's index of labels with shares (Ruzicka 1958): what both have, over what either has; that no label applies
    counts as one more label. It needs no thresholds, which are chosen only when the training is over.
    """
    ours, theirs = (_with_none(one) for one in (torch.sigmoid(logits.float()), targets.float()))
    return torch.minimum(ours, theirs).sum(dim=-1) / torch.maximum(ours, theirs).sum(dim=-1)


def _with_none(shares: torch.Tensor) -> torch.Tensor:
    return torch.cat([shares, (1 - shares).prod(dim=-1, keepdim=True)], dim=-1)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of logits, both ``(rows, labels)``; NaN where a row's are not finite."""
    sound = np.isfinite(logits).all(axis=-1, keepdims=True)
    return np.where(sound, expit(logits), np.nan).astype(np.float32)


def fit_head(features: torch.Tensor, targets: torch.Tensor, seed: int) -> Head:
    """Logistic regression of each label, one penalty for all (:func:`runner.tasks.shared.linear_head.fit_head`)."""
    return linear_head.fit_head(features, targets, seed, losses, is_right, lambda right, _: float(right.mean()))


def out_of_fold(features: Any, targets: NDArray[np.float32], learned: NDArray[np.bool_], seed: int) -> Any:
    """Logistic regression on the rows of other folds (:func:`runner.tasks.shared.out_of_fold.out_of_fold`)."""
    return folds.out_of_fold(features, targets, learned, seed, losses, torch.sigmoid)
