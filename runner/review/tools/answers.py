"""What passes between a run and an annotation tool: what goes out with the rows, and answers as they come back.

A tool is a module with ``export`` and ``read`` (:class:`Tool`). Tools know file formats; what an answer means for the
run, and whether it may be taken, is decided in :mod:`runner.review.tools.imports`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from runner.review.lists import Item
from runner.tasks.shared.shown import Question

BLIND = "sample"
"""The list whose rows are labelled without a look at the teacher's value."""

Action = Literal["label", "unclear", "skip", "open"]
"""``open``: the row stands in the file without an answer."""


@dataclass(frozen=True)
class About:
    """What a tool shows besides the rows: the run's name, the task's question and instructions, the teacher's name."""

    run: str
    question: Question
    instructions: str
    teacher: str


@dataclass(frozen=True)
class Answer:
    """One reviewer's answer to one row, as a file has it, and where it stands there (``labels.csv:17``).

    ``value`` of a ``label`` is a name as it was written, which may be the word for "unclear", or several names where
    the tool has a list of them. ``reviewer``: None where
    the file does not say. ``seconds`` that it took, and ``time`` (ISO 8601), where the tool measures them.
    """

    place: str
    id: str
    list: str
    text: str
    action: Action = "open"
    value: str | tuple[str, ...] | None = None
    reviewer: str | None = None
    seconds: float | None = None
    time: str | None = None

    def answered(self, action: Action, value: str | tuple[str, ...] | None = None) -> Answer:
        """This row with an answer."""
        return replace(self, action=action, value=value)


@dataclass(frozen=True)
class Unreadable:
    """An answer that says nothing that can be taken, and why."""

    place: str
    why: str


class Tool(Protocol):
    """The form of a tool's module."""

    NAME: str

    def export(self, items: Sequence[Item], target: Path, about: About) -> list[Path]:
        """Write ``items``, in their order, to ``target``; the files that were written.

        :raises UserError: when the format cannot hold them, or the file cannot be written.
        """

    def read(self, path: Path) -> Iterator[Answer | Unreadable]:
        """The answers in a file that came back. :raises DataError: when it is broken or cut off."""


def chosen(names: Sequence[str]) -> str | tuple[str, ...]:
    """The value of an :class:`Answer` in which these names were chosen, one at least."""
    return names[0] if len(names) == 1 else tuple(names)


def blind(item: Item) -> bool:
    """Whether a row is labelled without a look at what the teacher said: no tool may show it."""
    return item.list == BLIND
