"""How many bytes the weight matrices take on each GPU, as they are stored while vLLM works: by dtype, quantised or not.

The layouts are those that ``create_weights`` of vLLM's quantisation methods registers
(vllm/model_executor/layers/quantization). Layers that a method leaves alone (embedding, output layer, norms, routers
of experts) stay in the model's dtype.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from runner.models.architecture import Part, UnknownArchitectureError, kv_heads, names_in, whole

VOCABULARY_PADDING = 64
"""``DEFAULT_VOCAB_PADDING_SIZE`` in vllm/model_executor/layers/vocab_parallel_embedding.py."""
SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "int32": 4, "int8": 1, "float8_e4m3fn": 1}
"""Bytes of a number."""

_LISTS = ("modules_to_not_convert", "ignored_layers", "ignore")
_NEVER_QUANTISED = {"lm_head", "embed_tokens", "norm", "input_layernorm", "post_attention_layernorm"}

Method = Literal["none", "awq", "gptq", "fp8", "int8", "packed"]


class IndivisibleError(Exception):
    """Tensor parallelism over so many GPUs does not divide the model, as the rest of a sentence."""


@dataclass(frozen=True)
class Layout:
    """How the linear layers are stored. ``group``: inputs for each scale, 0 for all together.

    ``block``: rows and columns of weights for each scale of fp8, where a scale is not for a whole matrix.
    ``channels``: whether fp8 has a scale for each output. ``static``: whether inputs have a scale too.
    """

    method: Method = "none"
    bits: int = 16
    group: int = 0
    block: tuple[int, int] | None = None
    channels: bool = False
    zeros: bool = True
    static: bool = False

    @property
    def name(self) -> str:
        """For people: ``AWQ, 4 bits``."""
        return "" if self.method == "none" else f"{self.method.upper()}, {self.bits} bits"


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The layout that config.json names. :raises UnknownArchitectureError: for one that is not known here."""
    found = config.get("quantization_config")
    if found is None:
        return Layout()
    if not isinstance(found, Mapping):
        raise UnknownArchitectureError(f"its quantization_config is no mapping: {repr(found)[:60]}")
    method = str(found.get("quant_method"))
    _check_left_alone(config, found)
    if method == "awq":
        return Layout("awq", _bits(found, "AWQ", (4,)), _group(found))
    if method == "gptq":
        return _gptq(found)
    if method == "fp8":
        static = found.get("activation_scheme") == "static"
        return Layout("fp8", 8, block=_block(found.get("weight_block_size")), static=static)
    if method == "compressed-tensors":
        return _compressed(found)
    raise UnknownArchitectureError(f"weights quantised by {method!r} are not counted here")


def _gptq(found: Mapping[str, Any]) -> Layout:
    """``AutoGPTQConfig`` of vllm/model_executor/layers/quantization/auto_gptq.py."""
    group = _group(found)
    if found.get("desc_act") and group:  # with one group for all inputs their order does not matter
        raise UnknownArchitectureError("this vLLM refuses GPTQ with desc_act: true, but for group_size: -1")
    if found.get("sym") is False:
        raise UnknownArchitectureError("this vLLM refuses GPTQ with sym: false")
    if found.get("dynamic"):
        raise UnknownArchitectureError("its GPTQ has rules for single layers (dynamic), which are not counted here")
    return Layout("gptq", _bits(found, "GPTQ", (4, 8)), group)


def _bits(found: Mapping[str, Any], method: str, kinds: tuple[int, ...]) -> int:
    """Bits of a weight. :raises UnknownArchitectureError: for a number of which vLLM has no kernel (``TYPE_MAP``)."""
    bits = whole(found, "bits", "w_bit")
    if bits not in kinds:
        raise UnknownArchitectureError(f"this vLLM has no {method} of {bits} bits")
    return bits


def _group(found: Mapping[str, Any]) -> int:
    """Inputs for each scale, 0 for all together, which is written as -1."""
    name = next((name for name in ("group_size", "q_group_size") if found.get(name) is not None), "group_size")
    return 0 if found.get(name) == -1 else whole(found, name)


def _block(found: Any) -> tuple[int, int] | None:
    if found is None:
        return None
    sizes = tuple(found) if isinstance(found, list | tuple) else ()
    if len(sizes) != 2 or any(type(size) is not int or size < 1 for size in sizes):
        raise UnknownArchitectureError(f"its weight_block_size is not two whole numbers: {repr(found)[:60]}")
    return sizes[0], sizes[1]


def _check_left_alone(config: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """:raises UnknownArchitectureError: when the build leaves linear layers alone: which ones is not counted here."""
    names = [str(name) for key in _LISTS for name in names_in(found, key)]
    routed = any(key in config for key in ("num_local_experts", "num_experts", "n_routed_experts"))
    usual = _NEVER_QUANTISED | ({"gate", "router", "shared_expert_gate"} if routed else set())
    others = [name for name in names if re.split(r"[.:$]", name.rstrip("$"))[-1] not in usual]
    if others:
        raise UnknownArchitectureError(f"its quantisation leaves {others[0]!r} alone, which is not counted here")


def _compressed(found: Mapping[str, Any]) -> Layout:
    given = found.get("config_groups")
    groups = list(given.values()) if isinstance(given, Mapping) else []
    if len(groups) != 1 or not isinstance(groups[0], Mapping) or not isinstance(groups[0].get("weights"), Mapping):
        raise UnknownArchitectureError("its compressed-tensors do not have one config_group, and no other is counted")
    weights, activations = groups[0]["weights"], groups[0].get("input_activations") or {}
    if not isinstance(activations, Mapping):
        raise UnknownArchitectureError(f"its input_activations are no mapping: {repr(activations)[:60]}")
    bits, kind, strategy = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    static = bool(activations) and not activations.get("dynamic", False)
    if kind == "float" and bits == 8 and strategy in ("tensor", "channel"):
        return Layout("fp8", 8, channels=strategy == "channel", static=static)
    if kind == "int" and bits == 8 and activations and strategy == "channel":
        return Layout("int8", 8, static=static)
    if kind == "int" and bits in (4, 8) and not activations and strategy in ("group", "channel"):
        if type(weights.get("symmetric")) is not bool:
            raise UnknownArchitectureError("its compressed-tensors do not say whether they are symmetric")
        return Layout("packed", bits, _group(weights) if strategy == "group" else 0, zeros=not weights["symmetric"])
    raise UnknownArchitectureError(f"compressed-tensors of {bits} bits ({kind}, {strategy}) are not counted here")


def check_divides(config: Mapping[str, Any], parts: Counter[Part], gpus: int, layout: Layout) -> None:
    """:raises IndivisibleError: when vLLM would refuse to spread the model over ``gpus``, with the sizes that do."""
    if reason := _obstacle(config, parts, gpus, layout):
        fits = [size for size in (1, 2, 4, 8, 16) if _obstacle(config, parts, size, layout) is None]
        raise IndivisibleError(f"{reason}: {_or(fits)} can" if fits else f"{reason}, nor among any other number")


def _obstacle(config: Mapping[str, Any], parts: Counter[Part], gpus: int, layout: Layout) -> str | None:
    """What of the model cannot be divided among ``gpus``."""
    heads, keys = whole(config, "num_attention_heads", "n_head", "n_heads"), kv_heads(config)
    if heads % gpus:
        return f"its {heads} attention heads cannot be divided among {gpus} GPUs"
    if keys % gpus and gpus % keys:
        return f"its {keys} key-value heads can neither be divided among {gpus} GPUs nor repeated"
    for part in parts:
        size = part.inner if part.split == "rows" else part.out
        if part.split in ("columns", "rows") and size % gpus:
            return f"its layers of {size} neurons cannot be divided among {gpus} GPUs"
        inner = part.inner // gpus if part.split == "rows" else part.inner
        if part.linear and layout.group and inner % layout.group:
            return f"its quantisation groups of {layout.group} weights cannot be divided among {gpus} GPUs"
    return None


def _or(sizes: list[int]) -> str:
    words = [str(size) for size in sizes]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def on_gpu(part: Part, gpus: int, keys: int) -> Part:
    """What one of ``gpus`` has of a matrix; ``keys``: heads with keys and values of their own, over all GPUs."""
    if part.split == "vocabulary":
        padded = math.ceil(part.out / VOCABULARY_PADDING) * VOCABULARY_PADDING
        return replace(part, out=math.ceil(padded / gpus))
    if part.split == "rows":
        return replace(part, inner=part.inner // gpus)
    if part.split == "kv":
        return replace(part, out=part.out // keys * max(1, keys // gpus))
    return replace(part, out=part.out // gpus) if part.split != "whole" else part


def weight_bytes(parts: Counter[Part], gpus: int, keys: int, layout: Layout, dtype: str) -> dict[str, int]:
    """Bytes of weights on each GPU, by the dtype that they are stored in; ``dtype`` is what is not quantised."""
    found: Counter[str] = Counter()
    for part, count in parts.items():
        mine = on_gpu(part, gpus, keys)
        stored = _stored(mine, layout, dtype) if part.linear else {dtype: mine.out * mine.inner}
        for name, numbers in stored.items():
            found[name] += count * numbers * SIZES[name]
    return {name: size for name, size in found.items() if size}


def _stored(part: Part, layout: Layout, dtype: str) -> dict[str, int]:
    """Numbers by dtype of one linear layer."""
    out, inner = part.out, part.inner
    groups = math.ceil(inner / layout.group) if layout.group else 1
    per_word = 32 // layout.bits if layout.bits < 32 else 1
    if layout.method in ("awq", "gptq"):
        return {"int32": inner * out // per_word + groups * out // per_word, dtype: groups * out}
    if layout.method == "packed":
        words = out * math.ceil(inner * layout.bits / 32) + (groups * out // per_word if layout.zeros else 0)
        return {"int32": words, dtype: groups * out}
    if layout.method == "int8":
        return {"int8": out * inner, "float32": out + layout.static}
    if layout.method == "fp8":
        scales = out if layout.channels else 1
        if layout.block:
            scales = math.ceil(out / layout.block[0]) * math.ceil(inner / layout.block[1])
        return {"float8_e4m3fn": out * inner, "float32": scales + layout.static}
    return {dtype: out * inner}
