"""The columns that files of cells have in common: csv and workbooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.review.lists import Item
from runner.review.tools.answers import Answer, blind
from runner.review.tools.choices import Choices

NEEDED, MORE = ("text", "label", "list", "id"), ("reviewer",)
"""The columns that are read: without the first no answer can be taken."""
_TEACHER = ("teacher", "probability", "reason")
_ROW = "row-"
"""Ids begin with it, so that no program takes one for a number."""


def columns_of(items: Sequence[Item]) -> list[str]:
    """What is shown first; the teacher's columns only where a row may show them."""
    shown = () if all(map(blind, items)) else _TEACHER
    return ["text", *shown, "label", "reviewer", "list", "id"]


def row_of(item: Item, choices: Choices) -> dict[str, str]:
    """The cells of a row, without its answer."""
    cells = {"text": item.text, "list": item.list, "id": _ROW + item.id}
    if not blind(item):
        probability = choices.probability(item)
        cells |= {"teacher": choices.name(item.value) or "", "reason": item.reason or ""}
        cells["probability"] = "" if probability is None else f"{probability:.2f}"
    return cells


def answer_of(place: str, cells: Mapping[str, str]) -> Answer:
    """The answer in a row of cells; a row that nobody filled in is open."""
    label = cells["label"].strip()
    return Answer(
        place,
        cells["id"].strip().removeprefix(_ROW),
        cells["list"].strip(),
        cells["text"],
        "label" if label else "open",
        label or None,
        cells.get("reviewer", "").strip() or None,
    )
