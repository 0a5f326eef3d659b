"""The options that vLLM's engine takes, read from its source: importing it would take many seconds."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

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
