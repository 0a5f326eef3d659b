"""Whether a teacher fits into GPUs, and how many texts it can have in hand there at once.

When vLLM starts (vllm/v1/worker/gpu_worker.py, ``determine_available_memory``) it takes ``gpu_memory_utilization`` of a
GPU's memory; what weights, CUDA, the largest step and the CUDA graphs leave of that is the KV cache. Weights and KV
cache are exact here; the rest is an estimate (:func:`reserve`), which nothing here has measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.models.architecture import (
    Part,
    UnknownArchitectureError,
    head_size,
    kv_heads,
    layers_of,
    names_in,
    positive,
    unless_zero,
    whole,
)
from runner.planning.hardware.layouts import SIZES, Layout, check_divides, layout_of, weight_bytes
from runner.system.accelerators import GIB, Accelerator

UTILISATION = 0.92
"""``gpu_memory_utilization`` of vllm/config/cache.py."""
BLOCK_TOKENS = 16
"""Of a block of the cache where vLLM is left to choose (``DEFAULT_BLOCK_SIZE`` of vllm/config/cache.py)."""
FP8_CACHES = {"fp8", "fp8_e4m3", "fp8_e5m2"}
"""Of ``CacheDType`` in vllm/config/cache.py those of one byte for each number, and nothing else."""
FEW_SEQUENCES = 64
"""With fewer texts in hand at once an engine is mostly waiting for memory: each step reads all weights for them."""
CUDA_BYTES = int(0.6 * GIB)
"""A CUDA context with its libraries: what nvidia-smi shows of a process that has allocated nothing, and cuBLAS's
workspaces. An estimate."""
PEER_BYTES = int(0.9 * GIB)
"""NCCL's buffers and those of vLLM's own all-reduce, with several GPUs. An estimate."""
GRAPH_BYTES = int(0.8 * GIB)
"""CUDA graphs of all batch sizes; logs of vLLM say 0.3 to 2.3 GiB ("Graph capturing finished", vllm-project/vllm#18136
has the largest). An estimate."""
LOGIT_COPIES = 3
"""Of the logits of all sequences in fp32, that sampling holds at once: themselves, sorted, and as probabilities."""
NO_FP16 = {"gemma2", "gemma3", "gemma3_text", "glm4"}
"""Models that vLLM does not compute in fp16 (``_FLOAT16_NOT_SUPPORTED_MODELS`` in vllm/config/model.py)."""
_STATES = ("mamba", "ssm_", "linear_", "attn_layer_period", "layers_block_type", "block_types", "hybrid", "index_topk")


NOT_COUNTED = {
    "cpu_offload_gb",
    "cpu_offload_params",
    "data_parallel_size",
    "decode_context_parallel_size",
    "enable_expert_parallel",
    "enable_lora",
    "enable_prefix_caching",
    "hf_overrides",
    "kv_cache_memory_bytes",
    "kv_offloading_size",
    "num_gpu_blocks_override",
    "offload_group_size",
    "offload_params",
    "pipeline_parallel_size",
    "prefill_context_parallel_size",
    "quantization",
    "speculative_config",
}
"""Options of vLLM that change what lies where, or how much of it is shared, in ways that are not counted here."""


@dataclass(frozen=True)
class Cache:
    """A KV cache on each GPU: bytes for one token, over all layers, and tokens in a block."""

    bytes_per_token: int
    block: int

    def sequences(self, room: int, shared: int, own: int) -> int:
        """How many texts ``room`` bytes hold, of ``own`` tokens each behind ``shared`` ones, which are held once."""
        blocks = room // (self.bytes_per_token * self.block) - 1  # vLLM leaves one empty
        return max(0, (blocks - shared // self.block) // max(1, math.ceil(own / self.block)))


def cache_of(config: Mapping[str, Any], gpus: int, size: int, block: int) -> Cache:
    """What vLLM's KV cache takes: ``page_size_bytes`` of vllm/v1/kv_cache_interface.py for each layer.

    ``size``: bytes of a number. Layers that see a window are counted whole: at most too much.
    :raises UnknownArchitectureError: for models that keep other states than keys and values.
    """
    kinds = [str(kind) for kind in names_in(config, "layer_types")]
    states = [key for key in config if key.startswith(_STATES) and config[key]]
    if states or any("attention" not in kind or "linear" in kind for kind in kinds):
        raise UnknownArchitectureError("it keeps other states than keys and values, which are not counted here")
    layers = _layers(config, kinds)
    if latent := unless_zero(config, "kv_lora_rank"):  # one vector for keys and values of all heads, on every GPU
        return Cache(layers * (latent + whole(config, "qk_rope_head_dim")) * size, block)
    keys = max(1, kv_heads(config) // gpus)
    return Cache(layers * keys * 2 * head_size(config) * size, block)


def _layers(config: Mapping[str, Any], kinds: list[str]) -> int:
    """How many layers' pages a block takes: those of two kinds come in groups of one size, padded where they do not
    divide (``_get_kv_cache_groups_uniform_page_size`` of vllm/v1/core/kv_cache_utils.py)."""
    layers = layers_of(config)
    pattern = unless_zero(config, "sliding_window_pattern")
    if not kinds and pattern:
        kinds = ["full_attention" if (layer + 1) % pattern == 0 else "sliding_attention" for layer in range(layers)]
    counts = sorted(Counter(kinds).values())
    if len(counts) < 2 or not config.get("sliding_window"):
        return layers
    group = counts[-1] if counts[-1] < 1.5 * counts[0] else counts[0]
    return sum(math.ceil(count / group) * group for count in counts)


@dataclass(frozen=True)
class Steps:
    """The largest step of an engine: prompt tokens, and sequences."""

    tokens: int
    sequences: int


def largest_step(gpu: Accelerator, options: Mapping[str, Any], max_context: int) -> Steps:
    """vLLM's defaults for ``LLM`` by memory and name, under the spec's own options.

    ``_set_default_max_num_seqs_and_batched_tokens_args`` of vllm/engine/arg_utils.py. With chunked prefill, which is
    vLLM's default on GPUs, a step may be shorter than a context.
    """
    large = gpu.memory_bytes >= 70 * GIB and gpu.ray != "A100"
    tokens, sequences = (16_384, 1_024) if large else (8_192, 256)
    if options.get("performance_mode") == "throughput":
        tokens, sequences = 2 * tokens, 2 * sequences
    sequences = _given(options, "max_num_seqs", sequences)
    if options.get("enable_chunked_prefill") is False:  # prompts are read whole, so that the longest is one step
        tokens = max(tokens, max_context)
    tokens = _given(options, "max_num_batched_tokens", min(tokens, sequences * max_context))
    return Steps(tokens, min(sequences, tokens))


def _given(options: Mapping[str, Any], name: str, default: Any) -> Any:
    """The spec's value; ``default`` where there is none, or null, which leaves the choice to vLLM."""
    value = options.get(name)
    return default if value is None else value


def reserve(config: Mapping[str, Any], gpus: int, step: Steps, graphs: bool = True, size: int = 2) -> int:
    """Bytes on each GPU that are neither weights nor KV cache, computing with numbers of ``size`` bytes.

    An estimate, and rather too much.

    The largest step holds each token's hidden state four times over (residual, norm, layer's input and output) and
    what a feed-forward layer makes of it (gate and way up beside each other, and their product; with experts for each
    of those that a token is sent to, vllm/model_executor/layers/fused_moe), or all sequences' logits.
    """
    hidden = whole(config, "hidden_size", "n_embd", "dim")
    experts = unless_zero(config, "num_experts_per_tok")
    inner = unless_zero(config, "moe_intermediate_size") if experts else None
    inner = inner or positive(config, "intermediate_size") or 4 * hidden
    times = experts or 1
    token = size * (4 * hidden + times * (3 * inner // gpus + (hidden if times > 1 else 0)))
    logits = LOGIT_COPIES * 4 * step.sequences * whole(config, "vocab_size")
    peers = PEER_BYTES if gpus > 1 else 0
    return CUDA_BYTES + peers + (GRAPH_BYTES if graphs else 0) + max(step.tokens * token, logits)


@dataclass(frozen=True)
class Fit:
    """A teacher on each of its GPUs, in bytes. ``room`` is left for the KV cache, and may be negative."""

    weights: Mapping[str, int]
    reserve: int
    budget: int
    cache: Cache
    step: Steps
    dtype: str
    layout: Layout

    @property
    def weight_bytes(self) -> int:
        return sum(self.weights.values())

    @property
    def room(self) -> int:
        return self.budget - self.weight_bytes - self.reserve

    def holds(self, max_context: int) -> bool:
        """Whether one whole context fits, without which vLLM does not start (``check_enough_kv_cache_memory``)."""
        return self.sequences(0, max_context) >= 1

    def may_hold(self, max_context: int) -> bool:
        """Whether it would, if vLLM needed nothing beside weights, cache and CUDA itself: what else is an estimate."""
        return self.cache.sequences(self.budget - self.weight_bytes - CUDA_BYTES, 0, max_context) >= 1

    def sequences(self, shared: int, own: int) -> int:
        """How many texts may be in hand at once, of which ``own`` tokens each are held, and ``shared`` ones once."""
        return min(self.step.sequences, self.cache.sequences(self.room, shared, own))


def fit(
    config: Mapping[str, Any],
    parts: Counter[Part],
    gpu: Accelerator,
    gpus: int,
    max_context: int,
    options: Mapping[str, Any],
) -> Fit:
    """A model of which ``parts`` are the weights, on each of ``gpus`` GPUs, with vLLM's ``options`` of the spec.

    :raises UnknownArchitectureError: when it cannot be counted, with the reason.
    :raises IndivisibleError: when it cannot be spread over so many GPUs.
    """
    if others := sorted(name for name in NOT_COUNTED if _changes(name, options.get(name))):
        raise UnknownArchitectureError(f"engine_options.{others[0]} changes what lies where")
    layout = layout_of(config)
    check_divides(config, parts, gpus, layout)
    dtype = computing_dtype(config, gpu, options)
    if dtype not in SIZES:
        raise UnknownArchitectureError(f"dtype {dtype} is not known here")
    kept = str(_given(options, "kv_cache_dtype", "auto"))
    if kept != "auto" and kept not in SIZES and kept not in FP8_CACHES:
        raise UnknownArchitectureError(f"a KV cache in {kept} is not counted here")
    size = SIZES[dtype] if kept == "auto" else SIZES.get(kept, 1)
    step = largest_step(gpu, options, max_context)
    return Fit(
        weights=weight_bytes(parts, gpus, kv_heads(config), layout, dtype),
        reserve=reserve(config, gpus, step, graphs=not options.get("enforce_eager"), size=SIZES[dtype]),
        budget=int(gpu.memory_bytes * utilisation(options)),
        cache=cache_of(config, gpus, size, _given(options, "block_size", BLOCK_TOKENS)),
        step=step,
        dtype=dtype,
        layout=layout,
    )


def utilisation(options: Mapping[str, Any]) -> float:
    """The share of a GPU's memory that vLLM takes."""
    return float(_given(options, "gpu_memory_utilization", UTILISATION))


def _changes(option: str, value: Any) -> bool:
    """Whether the option is set to what is not its default."""
    if option == "enable_prefix_caching":
        return value is False
    return bool(value) and not (option.endswith("_parallel_size") and value == 1)


def computing_dtype(config: Mapping[str, Any], gpu: Accelerator | None, options: Mapping[str, Any]) -> str:
    """In which dtype vLLM computes: the spec's, else the model's, in fp16 where the GPU has no bf16.

    vllm/config/model.py, ``_resolve_auto_dtype``: a model in fp32 is computed in half precision.
    """
    asked = str(_given(options, "dtype", "auto")).removeprefix("torch.")
    if asked != "auto":
        return {"half": "float16", "float": "float32"}.get(asked, asked)
    own = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    can = ["bfloat16"] * (gpu is None or gpu.bf16) + ["float16"] * (str(config.get("model_type")) not in NO_FP16)
    can.append("float32")
    return own if own in can and own != "float32" else can[0]
