"""What each kind of task demands of a spec, by ``task.type``: asked while a spec is read, before there is one.

Knows no spec, so that the spec's language can ask it. A ``task`` is the section of that name as plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from runner.tasks.single_label import rules as single_label

Found = Iterator[tuple[tuple[str | int, ...], str, str]]
"""Problems: a path into the spec, the problem's code, and what is wrong there."""


class Rules(Protocol):
    """The rules of one kind.

    ``FIELDS`` are the keys of ``task`` that say what an answer is, and ``SCORES`` the figures in which others publish
    how good a system is (fields of ``evaluate.published``).
    """

    NAME: str
    FIELDS: tuple[str, ...]
    SCORES: tuple[str, ...]

    def fields_fit(self, task: Mapping[str, Any]) -> Found:
        """The problems between and within ``FIELDS``."""

    def as_written(self, task: Mapping[str, Any], given: str) -> str | None:
        """The value that a few-shot example gives, as the task writes it; None where it is no value."""

    def not_a_value(self, task: Mapping[str, Any], given: str) -> str:
        """What to say of an example whose value is none."""

    def columns(self, task: Mapping[str, Any]) -> set[str]:
        """The columns that say the answer where a corpus is labelled."""


RULES: dict[str, Rules] = {kind.NAME: kind for kind in (single_label,)}


def rules_of(task: Mapping[str, Any]) -> Rules:
    """Those of the kind of ``task``."""
    return RULES[task["type"]]
