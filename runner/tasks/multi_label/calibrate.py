"""Divide out what a teacher says yes to more readily than to other labels, without gold labels.

As with one label a text (:mod:`runner.tasks.single_label.calibrate`) the teacher is asked about texts that say nothing
(Zhao et al. 2021, arXiv:2102.09690), here of each label by itself. But that no label fits such a text is no bias: it is
the right answer. So each label's odds are moved by how far they are from those of the **mean label**, not from even
odds, and the number of labels that are given stays about what it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runner.tasks.single_label.calibrate import STRENGTH

__all__ = ["STRENGTH", "divide"]

SMALLEST = 1e-9


def divide(probabilities: NDArray[np.float64], bias: NDArray[np.float64], strength: float = 1.0) -> NDArray[np.float64]:
    """``probabilities`` ``(rows, labels)`` of yes with the part of each label's ``bias`` taken out of its odds.

    ``bias`` ``(labels,)`` is each one's mean probability of yes; its odds are divided by those of the mean label (the
    geometric mean of all labels' odds), and the row's odds by that to the power of ``strength``.
    """
    away = _log_odds(bias)
    moved = _log_odds(probabilities) - strength * (away - away.mean())
    result: NDArray[np.float64] = 1 / (1 + np.exp(-moved))
    return result


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    odds: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return odds
