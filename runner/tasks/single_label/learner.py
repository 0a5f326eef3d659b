"""A student that chooses one of the labels: a sequence classifier, taught by soft cross-entropy.

Knows torch and transformers: it is imported where a student learns or predicts, and by no driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from runner.student.head_start import Head
from runner.student.views import views
from runner.system.errors import ModelError
from runner.tasks.shared import classifier, linear_head
from runner.tasks.shared import out_of_fold as folds
from runner.tasks.shared.classifier import outputs_of
from runner.tasks.single_label.targets import confidence

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


def fresh(folder: Path, labels: Sequence[str], pooled: bool = False) -> Any:
    """See :func:`runner.tasks.shared.classifier.fresh`."""
    model = classifier.fresh(folder, labels, "single_label_classification", pooled)
    _check(model.config, folder)
    return model


def trained(folder: Path) -> Any:
    """See :func:`runner.tasks.shared.classifier.trained`. :raises ModelError: also when it gives several labels."""
    model = classifier.trained(folder)
    _check(model.config, folder, multi_label=model.config.problem_type == "multi_label_classification")
    return model


def _check(config: Any, folder: Path, multi_label: bool = False) -> None:
    if config.num_labels < 2 or multi_label:
        raise ModelError(
            "model.not-single-label",
            f"{folder}: does not choose one of several labels (num_labels: {config.num_labels}, problem_type: "
            f"{config.problem_type}), so that its answers are no probabilities of labels",
        )


def decision_of(config: Any) -> None:
    """The most probable label is given, whatever its probability."""


def settle(model: Any, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """There is nothing to choose."""


def losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What each label adds to the cross-entropy of each row; all are ``(rows, labels)``."""
    return -(targets * torch.log_softmax(logits, dim=-1))


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``logits`` against probabilities, both ``(rows, labels)``."""
    return losses(logits.float(), targets).sum(dim=-1).mean()


def is_right(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Whether each row's most probable label is the teacher's, bool ``(rows,)``; both are ``(rows, labels)``."""
    return logits.argmax(dim=-1) == targets.argmax(dim=-1)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of logits, both ``(rows, labels)``; NaN where a row's are not finite."""
    found: NDArray[np.float32] = softmax(logits, axis=-1)
    return found


def fit_head(features: torch.Tensor, targets: torch.Tensor, seed: int) -> Head:
    """Multinomial logistic regression (:func:`runner.tasks.shared.linear_head.fit_head`)."""
    return linear_head.fit_head(features, targets, seed, losses, is_right, _by_label)


def _by_label(right: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of rows that are ``right``, as a mean over labels: a frequent one does not decide it."""
    labels = targets.argmax(dim=-1)
    shares = [float(right[labels == label].mean()) for label in torch.unique(labels)]
    return sum(shares) / len(shares)


def out_of_fold(features: Any, targets: NDArray[np.float32], learned: NDArray[np.bool_], seed: int) -> Any:
    """Softmax regression on the rows of other folds (:func:`runner.tasks.shared.out_of_fold.out_of_fold`)."""
    return folds.out_of_fold(features, targets, learned, seed, losses, lambda logits: logits.log_softmax(dim=-1).exp())
