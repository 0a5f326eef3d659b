"""The weight matrices of any model that transformers knows, from its config.json: built on torch's meta device.

Nothing is read but config.json, no weight is made, and no network is asked. Loading torch and transformers takes
seconds; building the model a fraction of one.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.models.architecture import Part, Split, UnknownArchitectureError, head_size, kv_heads

_SPLITS: tuple[tuple[str, Split], ...] = (
    (r"(embed_tokens|wte|word_embeddings|embed_in|lm_head|embed_out)$", "vocabulary"),
    (r"\b(k_proj|v_proj)$", "kv"),
    (r"\b(q_proj|q_b_proj|kv_b_proj)$", "heads"),
    (r"\b(gate_proj|up_proj|gate_up_proj|w1|w3)$", "columns"),
    (r"\b(o_proj|down_proj|w2)$", "rows"),
    (r"\b(q_a_proj|kv_a_proj_with_mqa|gate|router|shared_expert_gate)$", "whole"),
)
"""By a matrix's name in transformers: how vLLM divides its own of the same name."""


def meta_model(folder: Path, *, dtype: str | None = None) -> Any:
    """The language model, or the encoder, of ``folder``'s config.json without weights.

    ``dtype``: of its parameters, None for the one that config.json names.
    :raises UnknownArchitectureError: when transformers cannot build it without running the model's own code.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if hasattr(config, "quantization_config"):  # layouts are counted by runner.planning.hardware.layouts
            del config.quantization_config
        writes = any("CausalLM" in str(name) for name in config.architectures or [])
        wanted = getattr(torch, dtype) if dtype else config.dtype or torch.float32
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build = AutoModelForCausalLM if writes else AutoModel
            return build.from_config(config, trust_remote_code=False, dtype=wanted)
    except Exception as error:  # of any kind: config.json may hold anything, and transformers checks little of it
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UnknownArchitectureError(f"transformers cannot build it: {reason[0]}") from error


def meta_bytes(folder: Path) -> dict[str, int]:
    """Bytes by dtype ("bfloat16", ...), tied weights once. :raises UnknownArchitectureError: as ``meta_model``."""
    found: Counter[str] = Counter()
    for parameter in meta_model(folder).parameters():
        found[str(parameter.dtype).removeprefix("torch.")] += parameter.numel() * parameter.element_size()
    return dict(found)


def meta_parts(folder: Path, config: Mapping[str, Any]) -> Counter[Part]:
    """How many there are of each matrix and vector of a decoder, as ``architecture.parts`` says it.

    :raises UnknownArchitectureError: as ``meta_model``, or for a matrix of which it is not known how vLLM divides it.
    """
    counted: Counter[Part] = Counter()
    for name, parameter in meta_model(folder).named_parameters():
        for part, count in _parts(name, tuple(parameter.shape), config):
            counted[part] += count
    return counted


def _parts(name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> Iterator[tuple[Part, int]]:
    stem = name.removesuffix(".weight").removesuffix(".bias")
    split = next((split for pattern, split in _SPLITS if re.search(pattern, stem)), None)
    if stem.endswith("qkv_proj"):
        size = head_size(config)
        keys = kv_heads(config) * size
        for out, how, count in ((shape[0] - 2 * keys, "heads", 1), (keys, "kv", 2)):
            yield _part((out, *shape[1:]), how, name), count  # type: ignore[arg-type]
    elif len(shape) == 1 and (split is None or split == "rows"):  # norms, and biases that every GPU adds alone
        yield Part(shape[0], 1, "whole"), 1
    elif split is None:
        raise UnknownArchitectureError(f"of its weights {name} {list(shape)} it is not known how vLLM divides them")
    elif stem.endswith("gate_up_proj"):  # two matrices, one below the other; of experts one of these for each
        yield _part((shape[-2] // 2, shape[-1]), split, name), 2 * (shape[0] if len(shape) == 3 else 1)
    elif len(shape) == 3:
        yield _part(shape[1:], split, name), shape[0]
    else:
        yield _part(shape, split, name), 1


def _part(shape: tuple[int, ...], split: Split, name: str) -> Part:
    inner = shape[1] if len(shape) > 1 else 1
    return Part(shape[0], inner, split, len(shape) > 1 and split not in ("vocabulary", "whole"))
