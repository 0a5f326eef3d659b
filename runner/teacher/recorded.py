"""Recorded answers: a label in some words, or probabilities by label, as JSON. Knows no files and no rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

CLOSE_TO_ONE = 0.01
"""How far probabilities may be from 1 together: they may be written with two digits."""


def distribution(cell: str, labels: Sequence[str]) -> list[float] | None:
    """The probabilities of ``{"negative": 0.1, "neutral": 0.9}`` in the order of ``labels``, summing to 1.

    Labels that are not named have none. None where the cell is anything else.

    :raises ValueError: when it names labels with numbers that are no distribution, with what is wrong.
    """
    if not cell.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not found.keys() & set(labels):
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found.values()):
        return None
    if strangers := sorted(found.keys() - set(labels)):
        raise ValueError(
            f"a probability of {strangers[0][:60]!r}, which is not among task.labels ({', '.join(labels)})"
        )
    values = [float(found.get(label, 0.0)) for label in labels]
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"{wrong[0]:g} is no probability")
    total = math.fsum(values)
    if abs(total - 1) > CLOSE_TO_ONE:
        raise ValueError(f"the probabilities sum to {total:.4g}, not to 1")
    return [value / total for value in values]
