"""Recorded answers: a cell is a label, or probabilities by label as JSON, or neither. Never prose: what a sentence
means is for people to say. Knows no files and no rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from runner.tasks.shared.columns import Columns
from runner.tasks.shared.labels import find, listed, look_alike, shown
from runner.tasks.single_label.answers import named

CLOSE_TO_ONE = 0.01
"""How far probabilities may be from 1 together: they may be written with two digits."""


def distribution(cell: str, labels: Sequence[str]) -> list[float] | None:
    """The probabilities of ``{"negative": 0.1, "neutral": 0.9}`` in the order of ``labels``, summing to 1.

    Labels that are not named have none. None where the cell is anything else.

    :raises ValueError: when it names labels with numbers that are no distribution, with what is wrong.
    """
    found = _object(cell)
    if not found or any(isinstance(v, bool) or not isinstance(v, int | float) for v in found.values()):
        return None
    by_label: dict[str, float] = {}
    strangers = []
    for name, value in found.items():
        if (label := find(name, labels)) is None:
            strangers.append(name)
        elif label in by_label:
            raise ValueError(f"two probabilities of {label!r}")
        else:
            by_label[label] = _number(value)
    if not by_label:
        return None
    if strangers:
        # A field beside the probabilities, or a label that was left out of the task: nobody can tell.
        twin = next((label for label in labels if look_alike(strangers[0], label)), None)
        hint = f"; it only looks like {twin!a}" if twin else ""
        name = shown(strangers[0], labels)
        raise ValueError(f"a probability of {name}, which is not among task.labels ({listed(labels)}){hint}")
    values = [by_label.get(label, 0.0) for label in labels]
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"{wrong[0]:g} is no probability")
    total = math.fsum(values)
    if abs(total - 1) > CLOSE_TO_ONE:
        raise ValueError(f"the probabilities sum to {total:.4g}, not to 1")
    return [value / total for value in values]


def label_of(cell: str, labels: Sequence[str]) -> str | None:
    """The label that a cell says: it is one, or JSON that holds one (``{"label": "neutral"}``), or probabilities of
    which one is the largest. None where it says nothing, and for all prose.

    :raises ValueError: as :func:`distribution`.
    """
    if (chances := distribution(cell, labels)) is not None:
        top = max(chances)
        best = [label for label, chance in zip(labels, chances, strict=True) if chance == top]
        return best[0] if len(best) == 1 else None
    found = _object(cell)
    if found is None:
        return named(cell, labels)
    return named({name.casefold(): value for name, value in found.items()}.get("label"), labels)


def columns(names: Sequence[str], labels: Sequence[str]) -> Columns:
    """What the columns ``names`` hold of answers that are one of ``labels``, or probabilities of them."""

    def is_usable(cell: str) -> bool:
        return distribution(cell, labels) is not None or label_of(cell, labels) is not None

    return Columns(names, is_usable, lambda cell: shown(cell, labels, 40), f"task.labels are {listed(labels)}")


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:  # JSON knows whole numbers of any length
        return math.inf


def _object(cell: str) -> dict[str, object] | None:
    if not cell.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
