"""What a kind of task gives to show: to the report, and to people who are asked for a value."""

from __future__ import annotations

from collections.abc import Sequence
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


NONE = "none"
"""People's word for no choice at all."""

BETWEEN = "; "
"""Between the names of several choices."""


@dataclass(frozen=True)
class Choice:
    """A value to choose: ``value`` as it is stored, ``name`` as people read it, ``description`` where there is one."""

    value: Any
    name: str
    description: str = ""


def choices(labels: Sequence[str], descriptions: Sequence[str]) -> tuple[Choice, ...]:
    """Labels to choose from, in their order; ``descriptions`` are as many, or none."""
    pairs = zip(labels, descriptions or ("",) * len(labels), strict=True)
    return tuple(Choice(label, label, description) for label, description in pairs)


@dataclass(frozen=True)
class Question:
    """How people are asked for a value: ``choice`` for exactly one of ``choices``, ``choices`` for any number of them.

    The value of several is the list of theirs, in the order in which they stand here; it may be empty.
    """

    kind: Literal["choice", "choices"]
    choices: tuple[Choice, ...]

    @property
    def several(self) -> bool:
        """Whether an answer may be several of the choices, or none."""
        return self.kind == "choices"

    def allows(self, value: Any) -> bool:
        """Whether ``value`` is an answer; ``True`` is not 1."""
        if not self.several:
            return self._place(value) is not None
        places = [self._place(one) for one in value] if isinstance(value, list) else [None]
        known = [place for place in places if place is not None]
        return len(known) == len(places) and known == sorted(set(known))

    def name_of(self, value: Any) -> str:
        """A value as people read it; one that is no answer (of an earlier spec) as Python writes it."""
        if self.several and isinstance(value, list):
            return BETWEEN.join(map(self._name, value)) or self.none
        return self._name(value)

    @property
    def none(self) -> str:
        """The word for an answer without a choice; in brackets where one of the choices is called so."""
        return f"({NONE})" if any(choice.name.casefold() == NONE for choice in self.choices) else NONE

    def _name(self, value: Any) -> str:
        return next((choice.name for choice in self.choices if choice.value == value), str(value))

    def _place(self, value: Any) -> int | None:
        places = enumerate(self.choices)
        same = (place for place, choice in places if type(choice.value) is type(value) and choice.value == value)
        return next(same, None)
