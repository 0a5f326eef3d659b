"""The weight matrices of a language model, as its config.json describes them: no weights are read, nor is torch.

:func:`parts` knows the decoders that are written like Llama's. :mod:`runner.planning.hardware.meta` asks transformers
itself, for any architecture and for the same answer, but has to load torch, which takes seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["vocabulary", "columns", "heads", "kv", "rows", "whole"]


@dataclass(frozen=True)
class Part:
    """A matrix of ``out`` x ``inner`` (a vector: ``inner`` 1), and how tensor parallelism divides it.

    vocabulary: by rows that are padded to 64 each (vllm/model_executor/layers/vocab_parallel_embedding.py); columns:
    by ``out``; heads: by ``out``, in whole heads; kv: likewise, where fewer heads than GPUs are held more than once
    (``QKVParallelLinear`` in linear.py); rows: by ``inner``; whole: every GPU has all of it. ``linear``: one of the
    layers that a quantised build quantises.
    """

    out: int
    inner: int
    split: Split
    linear: bool = False


class UnknownArchitectureError(Exception):
    """The model has weights of which it is not known how vLLM divides them, or is described in a way unknown here."""


_LLAMA_LIKE = {
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen2_moe",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
    "granite",
}
_ROUTED = {"mixtral", "qwen2_moe", "qwen3_moe"}
"""Each token goes to some of several experts."""
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_NORMS = {"gemma2": 4, "gemma3_text": 4}
"""Norms a layer, where they are not 2."""
_QK_NORMS = {"qwen3", "qwen3_moe", "gemma3_text"}
_TIED = {"gemma", "gemma2", "gemma3_text"}
"""Where config.json says nothing of ``tie_word_embeddings``, these tie them, by transformers' defaults."""


MOST_LAYERS = 10_000
"""More than any model has; config.json may hold any number."""


def knows(config: Mapping[str, Any]) -> bool:
    """Whether :func:`parts` can tell the weights of such a model."""
    return str(config.get("model_type")) in _LLAMA_LIKE


def positive(config: Mapping[str, Any], name: str) -> int | None:
    """A field's whole number, None where there is none or null.

    :raises UnknownArchitectureError: when it holds anything else, or a number under 1.
    """
    value = config.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise UnknownArchitectureError(
            f"config.json says {name}: {repr(value)[:60]}, where a whole number of 1 or more is expected"
        )
    return value


def unless_zero(config: Mapping[str, Any], name: str) -> int | None:
    """As :func:`positive`, but 0 says, like null, that the model has none of it (experts, a latent vector)."""
    return None if config.get(name) == 0 else positive(config, name)


def whole(config: Mapping[str, Any], *names: str) -> int:
    """The first of the fields that is there. :raises UnknownArchitectureError: when none is, or as :func:`positive`."""
    for name in names:
        if (value := positive(config, name)) is not None:
            return value
    raise UnknownArchitectureError(f"config.json has no {names[0]}")


def names_in(config: Mapping[str, Any], name: str) -> list[Any]:
    """What a field lists; nothing where it is not there. :raises UnknownArchitectureError: when it holds no list."""
    value = config.get(name)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise UnknownArchitectureError(f"config.json says {name}: {repr(value)[:60]}, where a list is expected")
    return list(value)


def head_size(config: Mapping[str, Any]) -> int:
    """Numbers in a head's key. :raises UnknownArchitectureError: when config.json does not tell."""
    if size := positive(config, "head_dim"):
        return size
    hidden, heads = whole(config, "hidden_size", "n_embd", "dim"), whole(config, *_HEADS)
    if hidden < heads:
        raise UnknownArchitectureError(f"config.json divides a hidden size of {hidden} among {heads} heads")
    return hidden // heads


def kv_heads(config: Mapping[str, Any]) -> int:
    """Heads that have keys and values of their own (vllm/transformers_utils/model_arch_config_convertor.py)."""
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
    return whole(config, *names, *_HEADS)


def layers_of(config: Mapping[str, Any]) -> int:
    """How many layers a model has. :raises UnknownArchitectureError: as :func:`whole`, or for an impossible number."""
    layers = whole(config, "num_hidden_layers", "n_layer", "n_layers")
    if layers > MOST_LAYERS:
        raise UnknownArchitectureError(f"config.json describes {layers} layers")
    return layers


def parts(config: Mapping[str, Any]) -> Counter[Part]:
    """How many there are of each matrix and vector.

    :raises UnknownArchitectureError: for a ``model_type`` that is not written like Llama's, or lacks what it needs.
    """
    kind = str(config.get("model_type"))
    if kind not in _LLAMA_LIKE:
        raise UnknownArchitectureError(f"model_type {kind!r} is not known here")
    hidden, vocabulary = whole(config, "hidden_size"), whole(config, "vocab_size")
    found: Counter[Part] = Counter({Part(vocabulary, hidden, "vocabulary"): 1, Part(hidden, 1, "whole"): 1})
    if not config.get("tie_word_embeddings", kind in _TIED):
        found[Part(vocabulary, hidden, "vocabulary")] += 1
    for layer in range(layers_of(config)):
        found += _attention(config, kind)
        found += _feed_forward(config, kind, layer)
    return found


def active_parameters(config: Mapping[str, Any]) -> int:
    """Weights that one token passes through, where experts are chosen for each. :raises UnknownArchitectureError: as
    :func:`parts`."""
    total = sum(part.out * part.inner * count for part, count in parts(config).items())
    kind = str(config["model_type"])
    if kind not in _ROUTED:
        return total
    hidden, experts = whole(config, "hidden_size"), whole(config, "num_local_experts", "num_experts")
    each = 3 * hidden * whole(config, "intermediate_size" if kind == "mixtral" else "moe_intermediate_size")
    sparse = sum(not _is_dense(config, kind, layer) for layer in range(layers_of(config)))
    return total - sparse * (experts - whole(config, "num_experts_per_tok")) * each


def _attention(config: Mapping[str, Any], kind: str) -> Counter[Part]:
    hidden, size = whole(config, "hidden_size"), head_size(config)
    queries, keys = whole(config, "num_attention_heads") * size, kv_heads(config) * size
    found = Counter({Part(queries, hidden, "heads", True): 1, Part(keys, hidden, "kv", True): 2})
    found[Part(hidden, queries, "rows", True)] += 1
    biased = config.get("attention_bias", kind in ("qwen2", "qwen2_moe") and config.get("qkv_bias", True))
    if kind != "phi3" and biased:
        found += Counter({Part(queries, 1, "heads"): 1})
        found[Part(keys, 1, "kv")] += 2
        if kind not in ("qwen2", "qwen2_moe"):
            found[Part(hidden, 1, "whole")] += 1
    found[Part(hidden, 1, "whole")] += _NORMS.get(kind, 2)
    if kind in _QK_NORMS:
        found[Part(size, 1, "whole")] += 2
    if kind == "olmo2":  # it norms all heads' queries, and keys, together, and every GPU has the whole norm
        found[Part(queries, 1, "whole")] += 1
        found[Part(keys, 1, "whole")] += 1
    return found


def _feed_forward(config: Mapping[str, Any], kind: str, layer: int) -> Counter[Part]:
    hidden = whole(config, "hidden_size")
    if kind not in _ROUTED or _is_dense(config, kind, layer):
        return _gated(hidden, whole(config, "intermediate_size"), bool(config.get("mlp_bias")))
    experts = whole(config, "num_local_experts", "num_experts")
    each = whole(config, "intermediate_size" if kind == "mixtral" else "moe_intermediate_size")
    found = Counter({part: count * experts for part, count in _gated(hidden, each, False).items()})
    found[Part(experts, hidden, "whole")] += 1
    if kind == "qwen2_moe":
        found += _gated(hidden, whole(config, "shared_expert_intermediate_size"), False)
        found[Part(1, hidden, "whole")] += 1
    return found


def _is_dense(config: Mapping[str, Any], kind: str, layer: int) -> bool:
    """Whether this layer has no experts (``decoder_sparse_step`` and ``mlp_only_layers`` of Qwen's models)."""
    if kind == "mixtral":
        return False
    step = positive(config, "decoder_sparse_step") or 1
    return layer in names_in(config, "mlp_only_layers") or (layer + 1) % step != 0


def _gated(hidden: int, inner: int, biased: bool) -> Counter[Part]:
    """A feed-forward network of a gate, a way up and a way down."""
    found = Counter({Part(inner, hidden, "columns", True): 2, Part(hidden, inner, "rows", True): 1})
    if biased:
        found[Part(inner, 1, "columns")] += 2
        found[Part(hidden, 1, "whole")] += 1
    return found
