"""Encoders with a linear head over labels, as ``transformers`` has them: made anew, loaded, and told from others.

Knows torch and transformers: it is imported where a student learns or predicts, and by no driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from runner.student import pooling, shortcuts
from runner.student.load import AS_DATA, generates, reason
from runner.system.errors import ModelError


def fresh(folder: Path, labels: Sequence[str], problem_type: str, pooled: bool = False) -> Any:
    """A classifier with a new head for ``labels``, in fp32 on the processor.

    With ``pooled`` the head reads the mean of all tokens (:mod:`runner.student.pooling`).

    :raises ModelError: when the folder holds no encoder that can classify, or only pickled weights.
    """
    head = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": problem_type,
        "ignore_mismatched_sizes": True,
    }
    model, _ = _load(folder, head)
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
    shortcuts.apply_shortcuts(model)
    return model


def outputs_of(config: Any) -> list[str]:
    """The labels of a classifier's configuration, in the order of its logits."""
    return [config.id2label[index] for index in range(config.num_labels)]


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
