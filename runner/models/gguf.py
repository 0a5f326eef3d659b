"""Unpacks a GGUF file into a plain Hugging Face folder, in bf16 or int8: config, safetensors, tokenizer.

Runs as a process of its own (``python -m runner.models.gguf SOURCE TARGET [int8]``), so that the memory
which this takes, about 1.7 times the folder's size, is free again before a teacher starts.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

_INT8: dict[str, Any] = {"num_bits": 8, "type": "int", "symmetric": True}
INT8_CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": _INT8 | {"strategy": "channel", "dynamic": False},
            "input_activations": _INT8 | {"strategy": "token", "dynamic": True},
        }
    },
}
"""What tells vLLM how the weights are stored (compressed-tensors: W8A8, dynamic)."""


def convert(source: Path, target: Path, int8: bool = False) -> None:
    """Write ``target`` from ``source``. Raises ValueError where the result could not be used to chat."""
    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise ValueError(f"{name} holds no chat template, so it is not an instruction-tuned model")
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{name} does not say which token ends a turn")
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        trust_remote_code=False,
    )
    # The file says nothing of the tokenizer's limit, and the default (10^30) would let any text through.
    tokenizer.model_max_length = model.config.max_position_embeddings
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    if int8:
        _save_int8(model, target)
    else:
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _save_int8(model: Any, target: Path) -> None:
    target.mkdir()
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    settings = target / "config.json"
    config = json.loads(settings.read_text(encoding="utf-8")) | {"quantization_config": INT8_CONFIG}
    settings.write_text(json.dumps(config, indent=2), encoding="utf-8")
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights: dict[str, torch.Tensor] = {}
    for name, weight in model.state_dict().items():
        if name in linear and not name.startswith("lm_head"):
            weights[name], weights[f"{name}_scale"] = to_int8(weight)
        elif name not in tied:
            weights[name] = weight.contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(out, in)`` weights as int8 and a bf16 scale ``(out, 1)`` for each output channel, rounded to nearest."""
    scale = (weight.float().abs().amax(1, keepdim=True) / 127).clamp(min=1e-8).to(torch.bfloat16)
    return torch.round(weight.float() / scale.float()).clamp(-127, 127).to(torch.int8), scale


def _read_once() -> None:
    """Halve the time: transformers opens the file three times, and slices of a memory map are slow to make.

    Changes the libraries in this process, which does nothing else.
    """
    memmap = np.memmap

    def plain(*arguments: Any, **options: Any) -> Any:
        return memmap(*arguments, **options).view(np.ndarray)

    gguf.gguf_reader.np.memmap = plain
    gguf.GGUFReader = cache(gguf.GGUFReader)


if __name__ == "__main__":
    _read_once()
    convert(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int8="int8" in sys.argv[3:])
