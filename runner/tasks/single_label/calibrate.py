"""Divide out the teacher's bias towards some labels, without gold labels.

Content-free calibration asks the teacher about texts that say nothing (:mod:`runner.teacher.random_texts`) and
divides each row's distribution by the mean of those answers (Zhao et al. 2021, arXiv:2102.09690; random
in-domain words: Fei et al. 2023, arXiv:2305.19148). Batch calibration divides by the mean over the corpus
itself (Zhou et al. 2024, arXiv:2309.17249) and so assumes that all classes are equally common.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-9

STRENGTH = 0.25
"""The power of the bias that content-free calibration divides by. Random words look neutral to a teacher,
so that dividing by all of it trades too much of the commonest class away; a part of it keeps nearly all that
raw has on skewed data and gains elsewhere (docs/calibration.md)."""


def bias_of(free: NDArray[np.float64], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean of each label's probability over the texts that show it, from ``free`` ``(texts, labels)``.

    ``shown`` has the same shape. A label that none of them shows is taken to be as any other.
    """
    texts = shown.sum(axis=0)
    bias: NDArray[np.float64] = np.where(shown, free, 0.0).sum(axis=0) / np.maximum(texts, 1)
    return np.where(texts > 0, bias, bias[texts > 0].mean())


def divide(probabilities: NDArray[np.float64], bias: NDArray[np.float64], strength: float = 1.0) -> NDArray[np.float64]:
    """``probabilities`` ``(rows, labels)`` over ``bias ** strength`` ``(labels,)``; rows sum to one again."""
    weighted = np.maximum(probabilities, SMALLEST) / np.maximum(bias, SMALLEST) ** strength
    result: NDArray[np.float64] = weighted / weighted.sum(axis=1, keepdims=True)
    return result
