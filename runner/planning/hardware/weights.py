"""The weight matrices of a model, from whichever tells them soonest: arithmetic, an earlier answer, transformers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.models.architecture import Part, UnknownArchitectureError, knows, parts
from runner.models.store import cache_dir, remember

FORMAT = 1
"""Of what is kept: another number, and nothing kept before counts."""


def parts_of(config: Mapping[str, Any], folder: Path | None) -> Counter[Part]:
    """How many there are of each matrix of a model; ``folder`` holds its config.json, None where only that is known.

    For architectures that are not known here transformers is asked, which takes the seconds that torch takes to load,
    once for each config.json.
    :raises UnknownArchitectureError: when nobody can tell.
    """
    if knows(config):
        return parts(config)
    if folder is None:
        raise UnknownArchitectureError(f"model_type {config.get('model_type')!r} is not known here")
    note = _note(config)
    if (counted := _read(note)) is not None:
        return counted
    from runner.planning.hardware.meta import meta_parts  # imports torch and transformers

    try:
        counted = meta_parts(folder, config)
    except ModuleNotFoundError as error:  # as on the head of a cluster, which computes nothing
        what = f"model_type {config.get('model_type')!r}"
        raise UnknownArchitectureError(f"{what} is not known here, where there is no {error.name}") from error
    remember(note, [{"part": asdict(part), "count": count} for part, count in counted.items()])
    return counted


def _note(config: Mapping[str, Any]) -> Path:
    text = json.dumps([FORMAT, config], sort_keys=True)
    return cache_dir() / "architectures" / (hashlib.sha256(text.encode()).hexdigest()[:32] + ".json")


def _read(note: Path) -> Counter[Part] | None:
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
        return Counter({Part(**one["part"]): int(one["count"]) for one in kept})
    except (OSError, ValueError, TypeError, KeyError):
        return None
