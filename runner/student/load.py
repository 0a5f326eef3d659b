"""Model folders, loaded: tokenizer and configuration. No code of a model is run.

Knows transformers; does not know Ray, the spec or the run folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from runner.models.folder import positions, writes_text
from runner.student import pooling
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
        raise ModelError("model.no-tokenizer", f"{folder}: no tokenizer could be loaded: {reason(error)}") from error


def load_config(folder: Path) -> Any:
    """The folder's own configuration. :raises ModelError: when there is none, or of an unknown kind."""
    try:
        return AutoConfig.from_pretrained(folder, **AS_DATA)
    except (OSError, ValueError) as error:
        raise ModelError(
            "model.config-broken", f"{folder}: its configuration cannot be read: {reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which is never run; name a model that transformers knows without it"
    return first_line(error)


def can_pool(folder: Path) -> bool:
    """Whether a classifier can have this encoder's head read the mean of its tokens."""
    return load_config(folder).model_type in pooling.KINDS


def generates(config: Any) -> bool:
    """Whether a model writes text: by its class, or by being of a kind that only ever looks back."""
    kind = config.model_type
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decoder |= config.pad_token_id is None or bool(getattr(config, "is_decoder", False))
    return decoder or writes_text({"architectures": getattr(config, "architectures", None)})


def longest_for(tokenizer: Any, config: Any) -> int:
    """How many tokens of a text a model reads: what its tokenizer says, and no more than it has positions for."""
    said = tokenizer.model_max_length
    limits = [said if said < _NOT_SAID else LONGEST, positions(config.to_dict())]
    return min(limit for limit in limits if limit is not None)
