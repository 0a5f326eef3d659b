"""What vLLM is started with. Knows no vLLM: plans ask it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.models.folder import attends_sparsely, quantised_by
from runner.system import machine

BLOCK_TOKENS, SPARSE_BLOCK_TOKENS = 32, 64
"""Prefix caching reuses whole blocks. vLLM's CPU default, 128, wastes much of a 200-token prefix. Kernels for sparse
attention (DeepSeek-V3.2) know no smaller ones than 64."""

CPU_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is started with; lengths in tokens. ``options`` go to vLLM as they are."""

    max_context: int
    gpus: int
    seed: int
    start_minutes: float = 30.0
    options: dict[str, Any] = field(default_factory=dict)


def engine_options(settings: EngineSettings, folder: Path | None = None) -> dict[str, Any]:
    """vLLM's engine arguments that we choose, under those that the user wrote; the model is in ``folder``."""
    chosen: dict[str, Any] = {
        "max_model_len": settings.max_context,
        "tensor_parallel_size": max(1, settings.gpus),
        "block_size": SPARSE_BLOCK_TOKENS if folder and attends_sparsely(folder) else BLOCK_TOKENS,
        "enable_prefix_caching": True,
        "seed": settings.seed,
        "disable_log_stats": True,
        "trust_remote_code": False,
    }
    if settings.gpus == 0:
        # Where the processor cannot multiply bf16, doing it in steps takes many times as long as fp32.
        dtype = "bfloat16" if machine.has_bf16() or _half_alone(folder) else "float32"
        chosen |= {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True, "dtype": dtype}
        # A seeded request whose prompt is read in two steps breaks the step on processors (vLLM 0.32: "CPU Generator
        # does not use offset"), so that prompts are read whole.
        chosen |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, settings.max_context)}
    return chosen | settings.options


def _half_alone(folder: Path | None) -> bool:
    """Whether vLLM computes this model in half precision alone, as most of its kernels for quantised weights do."""
    return folder is not None and quantised_by(folder) not in (None, "compressed-tensors")


def block_tokens(settings: EngineSettings) -> int:
    """Tokens in a block of the engine's cache, as it is asked for; 1 where vLLM is left to choose."""
    size = engine_options(settings)["block_size"]
    return size if isinstance(size, int) else 1
