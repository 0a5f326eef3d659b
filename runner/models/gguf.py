"""Unpacks a GGUF file into a plain Hugging Face folder in bf16: config, safetensors, tokenizer.

Runs as a process of its own (``python -m runner.models.gguf SOURCE TARGET``), so that the memory
which this takes, about 1.7 times the folder's size, is free again before a teacher starts.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def convert(source: Path, target: Path) -> None:
    """Write ``target`` from ``source``. Raises ValueError where the result could not be used to chat."""
    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    if not tokenizer.chat_template:
        raise ValueError(f"{name} holds no chat template, so it is not an instruction-tuned model")
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{name} does not say which token ends a turn")
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    # The file says nothing of the tokenizer's limit, and the default (10^30) would let any text through.
    tokenizer.model_max_length = model.config.max_position_embeddings
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


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
    convert(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
