"""How the corpus is labelled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runner.spec.sections.shared import Found


@dataclass(frozen=True, kw_only=True)
class Apply:
    """How the corpus is labelled, and what is written of it."""

    abstain_below: float
    keep: tuple[str, ...]
    part_rows: int


def written_columns(labels: Iterable[str]) -> set[str]:
    """The columns that labelling a corpus writes: none of its own may be called so."""
    return {"file", "row", "text", "label", "probability", "abstain", *(f"probability_{label}" for label in labels)}


def kept_columns_are_apart(spec: dict[str, Any]) -> Found:
    written = written_columns(spec["task"]["labels"])
    for index, column in enumerate(spec["apply"]["keep"]):
        if column in written:
            yield (
                ("apply", "keep", index),
                "spec.column-taken",
                f"a column {column!r} is written anyway: rename it in the corpus",
            )
