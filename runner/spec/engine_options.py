"""The options that vLLM's engine takes, read from its source: importing it would take many seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runner.system.errors import did_you_mean

ours = {
    "model": "use teacher.model",
    "tokenizer": "it comes with teacher.model",
    "revision": "use teacher.revision",
    "max_model_len": "use teacher.max_context",
    "tensor_parallel_size": "use teacher.resources.gpus",
    "seed": "use teacher.seed",
    "trust_remote_code": "code that comes with a model is never run",
}

_CODE = "it can name code to be run, and a spec only describes a job"
_WEIGHTS = "weights come from teacher.model, as safetensors"
_ABROAD = "it would open connections to places that the runner knows nothing of"
refused = {
    "worker_cls": _CODE,
    "worker_extension_cls": _CODE,
    "scheduler_cls": _CODE,
    "ec_manager_config": _CODE,
    "distributed_executor_backend": _CODE,
    "logits_processors": _CODE,
    "io_processor_plugin": _CODE,
    "reasoning_parser_plugin": _CODE,
    "model_class_overrides": _CODE,
    "compilation_config": _CODE,
    "logging_config": _CODE,
    "log_config_file": _CODE,
    "load_format": _WEIGHTS,
    "model_loader_extra_config": _WEIGHTS,
    "model_weights": _WEIGHTS,
    "kv_transfer_config": _ABROAD,
    "ec_transfer_config": _ABROAD,
    "kv_events_config": _ABROAD,
    "weight_transfer_config": _ABROAD,
    "otlp_traces_endpoint": _ABROAD,
    "hf_token": "no secret may stand in a spec: set HF_TOKEN in the environment",
}
"""Options that would make a spec more than a description of a job, each with the reason."""


@dataclass(frozen=True)
class Expected:
    """What an option may be: in words, and as a check of a value. ``none``: vLLM's own default is None, which leaves
    the choice to vLLM; any other option cannot be null."""

    words: str
    allows: Callable[[Any], bool]
    none: bool = False
    choices: tuple[str, ...] = ()


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**63  # more is no number of vLLM's, nor one that floats hold


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 1


def _one_of(*choices: str) -> Expected:
    words = f"one of {', '.join(choices)}"
    return Expected(words, lambda value: isinstance(value, str) and value in choices, choices=choices)


_COUNT = Expected("a whole number, 1 or more", _is_count)
_COUNT_OR_NONE = Expected("a whole number, 1 or more, or null", _is_count, none=True)
_SWITCH = Expected("true or false", lambda value: type(value) is bool)
_SWITCH_OR_NONE = Expected("true, false or null", lambda value: type(value) is bool, none=True)

read_here: Mapping[str, Expected] = {
    "max_num_seqs": _COUNT_OR_NONE,
    "max_num_batched_tokens": _COUNT_OR_NONE,
    "block_size": _COUNT_OR_NONE,
    "num_gpu_blocks_override": _COUNT_OR_NONE,
    "kv_cache_memory_bytes": _COUNT_OR_NONE,
    "pipeline_parallel_size": _COUNT,
    "data_parallel_size": _COUNT,
    "decode_context_parallel_size": _COUNT,
    "prefill_context_parallel_size": _COUNT,
    "gpu_memory_utilization": Expected("a number over 0, at most 1", _is_share),
    "enable_chunked_prefill": _SWITCH_OR_NONE,
    "enable_prefix_caching": _SWITCH_OR_NONE,
    "enforce_eager": _SWITCH,
    "kv_cache_dtype": Expected("a name, such as auto or fp8", lambda value: isinstance(value, str) and bool(value)),
    "dtype": _one_of("auto", "half", "float16", "bfloat16", "float", "float32"),
    "performance_mode": _one_of("balanced", "interactivity", "throughput"),
}
"""Options whose values this program computes with: types, ranges and defaults are those of vLLM's own fields
(``EngineArgs`` of vllm/engine/arg_utils.py; vllm/config/scheduler.py, cache.py, parallel.py, model.py, vllm.py)."""


def wrong_value(name: str, value: Any) -> str | None:
    """Why an option cannot have this value, as a message; None where it can, or where vLLM alone reads it."""
    expected = read_here.get(name)
    if expected is None or expected.allows(value) or (value is None and expected.none):
        return None
    if value is None:
        return f"expected {expected.words}, found null: leave the option out for vLLM's default"
    hint = did_you_mean(value, expected.choices) if isinstance(value, str) and expected.choices else ""
    return f"expected {expected.words}, found {_shown(value)}{hint}"


def _shown(value: Any) -> str:
    """As the spec writes it, in a few characters."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def known_options() -> frozenset[str]:
    """The fields of vLLM's ``EngineArgs``; empty where vLLM is not installed, so that nothing can be said."""
    found = importlib.util.find_spec("vllm")  # finds the package without running it
    if found is None or found.origin is None:
        return frozenset()
    source = Path(found.origin).parent / "engine" / "arg_utils.py"
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return frozenset()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            return frozenset(
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            )
    return frozenset()
