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
