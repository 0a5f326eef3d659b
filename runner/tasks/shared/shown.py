"""What a kind of task gives the report to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """A figure of a system's scores: ``name`` is where it stands (``ci95.accuracy``), ``format`` how it is written
    (:data:`runner.report.text.WRITERS`), and ``note`` how to read it."""

    name: str
    words: str
    format: str
    note: str = ""


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
