"""Model folders, loaded: tokenizer, configuration, and a classifier from safetensors. No code of a model is run.

Knows torch and transformers; does not know Ray, the spec or the run folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from runner.models.folder import positions, writes_text
from runner.student import pooling, shortcuts
from runner.system.errors import ModelError, first_line

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

LONGEST = 512
"""Tokens of a text that are read where a model folder does not say how many it was trained with."""

_NOT_SAID = 10**9
"""A limit as high as this is how tokenizers say that they have none."""

# Left open, transformers asks on the terminal whether to run a model's own code.
AS_DATA: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_tokenizer(folder: Path) -> Any:
    """The folder's own tokenizer. :raises ModelError: when there is none."""
    try:
        return AutoTokenizer.from_pretrained(folder, **AS_DATA)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no tokenizer could be loaded: {reason(error)}") from error


def load_config(folder: Path) -> Any:
    """The folder's own configuration. :raises ModelError: when there is none, or of an unknown kind."""
    try:
        return AutoConfig.from_pretrained(folder, **AS_DATA)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its configuration cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which is never run; name a model that transformers knows without it"
    return first_line(error)


def load_classifier(folder: Path, labels: Sequence[str] | None = None, pooled: bool = False) -> Any:
    """A sequence classifier from safetensors; with ``labels``, a fresh head of that size.

    With ``pooled`` as well, the head reads the mean of all tokens (:mod:`runner.student.pooling`).

    :raises ModelError: when the folder holds no encoder that can classify, or only pickled weights; without
        ``labels`` also where there is no trained head.
    """
    head: dict[str, Any] = {}
    if labels is not None:
        head = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": "single_label_classification",
            "ignore_mismatched_sizes": True,
        }
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **AS_DATA, **head
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: cannot be loaded as a sequence classifier: {reason(error)}; "
            "the student must be an encoder with safetensors weights"
        ) from error
    config = model.config
    if _generates(config):
        raise ModelError(f"{folder}: {config.model_type} is a generative model; the student must be an encoder")
    if labels is None and any(not name.startswith(f"{model.base_model_prefix}.") for name in found["missing_keys"]):
        raise ModelError(f"{folder}: an encoder that was not trained to classify; train it first (`tutelage run`)")
    if config.num_labels < 2 or (labels is None and config.problem_type == "multi_label_classification"):
        raise ModelError(
            f"{folder}: does not choose one of several labels (num_labels: {config.num_labels}, problem_type: "
            f"{config.problem_type}), so that its answers are no probabilities of labels"
        )
    if pooled:
        pooling.add_mean_pooling(model)
    shortcuts.take(model)
    return model


def can_pool(folder: Path) -> bool:
    """Whether :func:`load_classifier` can have this encoder's head read the mean of its tokens."""
    return load_config(folder).model_type in pooling.KINDS


def _generates(config: Any) -> bool:
    """Whether a model writes text: by its class, or by being of a kind that only ever looks back."""
    kind = config.model_type
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decoder |= config.pad_token_id is None or bool(getattr(config, "is_decoder", False))
    return decoder or writes_text({"architectures": getattr(config, "architectures", None)})


def label_names(config: Any) -> list[str]:
    """The labels of a classifier's configuration, in the order of its logits."""
    return [config.id2label[index] for index in range(config.num_labels)]


def longest_for(tokenizer: Any, config: Any) -> int:
    """How many tokens of a text a model reads: what its tokenizer says, and no more than it has positions for."""
    said = tokenizer.model_max_length
    limits = [said if said < _NOT_SAID else LONGEST, positions(config.to_dict())]
    return min(limit for limit in limits if limit is not None)
