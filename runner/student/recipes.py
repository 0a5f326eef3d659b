"""What a student is told to learn: ``fast`` takes the teacher's word, ``best`` asks students of other rows as well.

Also how held-out rows choose: between settings, and between a fine-tuned student and a head on the encoder as it is.

A teacher's mistakes on single rows are much like noise. A student that never saw a row has learned the rule and not
the mistake: what it says of the row corrects the teacher where both differ, and is unsure where the row is hard. So
``best`` trains students on parts of the rows, asks each about the rows that it did not see, and has the last student
learn the mean of both (self-distillation on out-of-fold predictions; Furlanello et al. 2018, arXiv:1805.04770, and,
for noisy labels, Northcutt et al. 2021, arXiv:1911.00068). ``docs/training.md`` has the figures that chose it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LOWEST_RATE = 0.2
"""The share of the learning rate that is left for a student's lowest layer."""

FOLDS = 4
"""Students that are asked about rows that they did not see; each learns from three quarters of the rows."""

FOLD_STEPS = 0.5
"""The share of the steps that such a student takes: it need not be the best, only of another opinion."""

TEACHERS_SHARE = 0.5
"""Of what the last student learns; the rest is what the students of other rows say."""


def fold_of(count: int, seed: int) -> NDArray[np.int64]:
    """The fold that each of ``count`` rows is in, shape ``(count,)``: as even as can be, decided by the seed."""
    return np.random.default_rng(seed).permutation(count) % FOLDS


def out_of_fold_targets(teacher: NDArray[np.float32], students: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the last student learns: the mean of the teacher's targets and the students' answers, of one shape.

    The teacher's alone in rows where a student's are not finite numbers.
    """
    answered = np.isfinite(students).all(axis=1, keepdims=True)
    both = TEACHERS_SHARE * teacher + (1 - TEACHERS_SHARE) * students
    return np.where(answered, both, teacher).astype(np.float32)


def effective_sample_size(weights: NDArray[np.float32]) -> float:
    """How many rows of weight 1 tell as much as rows of these weights, shape ``(rows,)`` (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def standard_error(share: float, rows: float) -> float:
    """Of a share that was seen on so many rows."""
    return math.sqrt(share * (1 - share) / max(1.0, rows))


HEAD_IS_ENOUGH = 0.95
"""The agreement of a head alone, on rows that it did not learn from, over which nothing is fine-tuned to beat it."""


def chosen_trial(agreements: Sequence[float], rows: float) -> int:
    """The best trial, but the first one, which is what the spec says, where held-out rows cannot tell them apart.

    Of many trials one is the best by luck alone: that is no reason to change anything.
    """
    best = max(agreements)
    if agreements[0] >= best - standard_error(best, rows):
        return 0
    return agreements.index(best)


FEW_ROWS_DOUBT, MANY_ROWS_DOUBT = 1.0, 2.0
"""Standard errors by which held-out rows must show a head to be better than a student that was fine-tuned from it with
few rows a label, and than one that had many: where rows are many, fine-tuning seldom loses, and held-out rows that say
otherwise are chance more often than not."""


def standard_errors_ahead(head: Sequence[float], tuned: Sequence[float], weights: NDArray[np.float32]) -> float:
    """By how many standard errors a head is right more often than a fine-tuned student; negative where it is not.

    Both are judged by the same rows, each counted by its weight, so that it is their differences that tell: of how
    right each is, from 0 to 1.
    """
    apart = np.asarray(head, dtype=np.float64) - np.asarray(tuned, dtype=np.float64)
    mean = float((weights * apart).sum() / weights.sum())
    error = float(np.sqrt((weights**2 * (apart - mean) ** 2).sum()) / weights.sum())
    return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
