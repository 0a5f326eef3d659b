"""A trained student, written as a folder that plain ``transformers`` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def save_student(model: Any, tokenizer: Any, folder: Path, max_length: int) -> None:
    """Safetensors, tokenizer and label names, so that a plain ``transformers.pipeline`` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8"))
    config["model_max_length"] = max_length
    config["split_special_tokens"] = True  # text from the world is text, whoever loads the folder
    settings.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
