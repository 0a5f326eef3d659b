"""The common cases of a teacher on GPUs: its models as their ``config.json`` describes them, and how many GPUs.

Sizes are those of the published configurations on the Hub: mistralai/Mixtral-8x7B-Instruct-v0.1,
TheBloke/Mixtral-8x7B-Instruct-v0.1-AWQ, neuralmagic/Mixtral-8x7B-Instruct-v0.1-FP8, Qwen/Qwen2.5-7B-Instruct and
Qwen/Qwen2.5-1.5B-Instruct. No weights are needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = ("T4", "L4", "A10G", "A100", "A100-80G", "L40S", "H100", "H200", "B200")

MIXTRAL: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}
QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_hidden_layers": 28,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "static"}

MODELS: dict[str, dict[str, Any]] = {
    "mixtral": MIXTRAL,
    "mixtral-awq": MIXTRAL | {"torch_dtype": "float16", "quantization_config": AWQ},
    "mixtral-fp8": MIXTRAL | {"quantization_config": FP8},
    "qwen-7b": QWEN
    | {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}
    | {"vocab_size": 152064},
    "qwen-1.5b": QWEN
    | {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
    | {"vocab_size": 151936, "tie_word_embeddings": True},
}
TEACHERS = (
    ("mixtral", 2),
    ("mixtral", 4),
    ("mixtral-awq", 1),
    ("mixtral-fp8", 1),
    ("qwen-7b", 1),
    ("qwen-1.5b", 1),
)
"""Each with its number of GPUs."""


def write_configs(root: Path) -> dict[str, Path]:
    """A folder for each of :data:`MODELS`, with nothing but its ``config.json``."""
    folders = {}
    for name, config in MODELS.items():
        folders[name] = root / name
        folders[name].mkdir()
        (folders[name] / "config.json").write_text(json.dumps(config))
    return folders
