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
from transformers import AutoModelForSequenceClassification

from runner.student import pooling, shortcuts
from runner.student.load import AS_DATA, generates, reason
from runner.student.views import views
from runner.system.errors import ModelError
from runner.tasks.single_label.linear_head import fit_head
from runner.tasks.single_label.out_of_fold import out_of_fold
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
    """A classifier with a new head for ``labels``, in fp32 on the processor.

    With ``pooled`` the head reads the mean of all tokens (:mod:`runner.student.pooling`).

    :raises ModelError: when the folder holds no encoder that can classify, or only pickled weights.
    """
    head = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "single_label_classification",
        "ignore_mismatched_sizes": True,
    }
    model, _ = _load(folder, head)
    _check(model.config, folder)
    if pooled:
        pooling.add_mean_pooling(model)
    shortcuts.apply_shortcuts(model)
    return model


def trained(folder: Path) -> Any:
    """A classifier with the head that it was trained with, in fp32 on the processor.

    :raises ModelError: when the folder holds none, or only pickled weights.
    """
    model, missing = _load(folder, {})
    if any(not name.startswith(f"{model.base_model_prefix}.") for name in missing):
        raise ModelError(
            "model.no-labels", f"{folder}: an encoder that was not trained to classify; train it first (`tutelage run`)"
        )
    _check(model.config, folder, multi_label=model.config.problem_type == "multi_label_classification")
    shortcuts.apply_shortcuts(model)
    return model


def _load(folder: Path, head: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model, and the names of the weights that the folder does not have."""
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **AS_DATA, **head
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            "model.not-a-classifier",
            f"{folder}: cannot be loaded as a sequence classifier: {reason(error)}; "
            "the student must be an encoder with safetensors weights",
        ) from error
    if generates(model.config):
        raise ModelError(
            "model.is-generative",
            f"{folder}: {model.config.model_type} is a generative model; the student must be an encoder",
        )
    return model, info["missing_keys"]


def _check(config: Any, folder: Path, multi_label: bool = False) -> None:
    if config.num_labels < 2 or multi_label:
        raise ModelError(
            "model.not-single-label",
            f"{folder}: does not choose one of several labels (num_labels: {config.num_labels}, problem_type: "
            f"{config.problem_type}), so that its answers are no probabilities of labels",
        )


def outputs_of(config: Any) -> list[str]:
    """The labels of a classifier's configuration, in the order of its logits."""
    return [config.id2label[index] for index in range(config.num_labels)]


def decision_of(config: Any) -> None:
    """The most probable label is given, whatever its probability."""


def settle(model: Any, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """There is nothing to choose."""


def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``logits`` against probabilities, both ``(rows, labels)``."""
    return -(targets * torch.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()


def is_right(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Whether each row's most probable label is the teacher's, bool ``(rows,)``; both are ``(rows, labels)``."""
    return logits.argmax(dim=-1) == targets.argmax(dim=-1)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of logits, both ``(rows, labels)``; NaN where a row's are not finite."""
    found: NDArray[np.float32] = softmax(logits, axis=-1)
    return found
