"""How the corpus is labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.spec.sections.shared import Found
from runner.tasks.rules import rules_of


@dataclass(frozen=True, kw_only=True)
class Apply:
    """How the corpus is labelled, and what is written of it."""

    abstain_below: float
    keep: tuple[str, ...]
    part_rows: int


WRITTEN = frozenset({"file", "row", "text", "abstain"})
"""The columns that labelling a corpus writes besides those of the answer: none of its own may be called so."""


def kept_columns_are_apart(spec: dict[str, Any]) -> Found:
    written = WRITTEN | rules_of(spec["task"]).output_columns(spec["task"])
    for index, column in enumerate(spec["apply"]["keep"]):
        if column in written:
            yield (
                ("apply", "keep", index),
                "spec.column-taken",
                f"a column {column!r} is written anyway: rename it in the corpus",
            )
