"""What a kind of task gives to show: to the report, and to people who are asked for a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Figure:
    """A figure of a system's scores: ``name`` is where it stands (``ci95.accuracy``), ``format`` how it is written
    (:data:`runner.report.text.WRITERS`), and ``note`` how to read it. ``adjective`` is what a system is on
    that share of the texts (``right``), where the figure is such a share."""

    name: str
    words: str
    format: str
    note: str = ""
    adjective: str = ""


@dataclass(frozen=True)
class ShownRow:
    """One row worth a look.

    ``given`` is the label it got (None: the teacher abstained, for ``reason``), ``chances`` are (label,
    probability) pairs, the likeliest first, and ``figure`` is what the list is sorted by.
    """

    text: str
    given: str | None
    chances: list[tuple[str, float]]
    figure: float
    reason: str | None = None
    truth: str | None = None
    teacher: str | None = None


Quality = Literal["better", "worse", "same", "not-shown"]
"""The student against its teacher. ``same``: right and wrong on the same texts; ``not-shown``: no significant
difference, which on few texts does not mean that there is none."""


@dataclass(frozen=True)
class Choice:
    """A value to choose: ``value`` as it is stored, ``name`` as people read it, ``description`` where there is one."""

    value: Any
    name: str
    description: str = ""


@dataclass(frozen=True)
class Question:
    """How people are asked for a value. ``choice``: exactly one of ``choices``, in the order in which they stand."""

    kind: Literal["choice"]
    choices: tuple[Choice, ...]

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is an answer; ``True`` is not 1."""
        return any(type(choice.value) is type(value) and choice.value == value for choice in self.choices)

    def name_of(self, value: Any) -> str:
        """A value as people read it; one that is no answer (of an earlier spec) as Python writes it."""
        return next((choice.name for choice in self.choices if choice.value == value), str(value))
