"""Where a value is probably wrong: the teacher's probabilities times those of students that did not see the row.

The arithmetic of :mod:`runner.tasks.single_label.auditing`, of one choice among labels: which label a text has, or yes
or no. Where it comes from is said there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLAME = 0.5
"""The teacher's part in its disagreements with students. With all of it a sound teacher of few rows, whose students
are weak, would be doubted throughout; with none a teacher that is always sure would never be."""

SURER = 1.5
"""How much surer than they are students may be made: those that only copy the teacher agree with it all the time."""

SHARES_DIVIDED = 0.5
"""How far the labels' shares are divided out. Not wholly: where a teacher prefers a label, so do its students."""

LEAST_PROBABILITY = 1e-6
"""No label is impossible, whatever the teacher says."""

LEAST_KNOWN = 0.02
"""Of what the labels' shares leave open, what students must know of the teacher's labels to be heard."""

EXPONENTS = tuple(math.exp(step / 20) for step in range(-80, 21))
"""Tried to make probabilities more or less sure; the prior of their logarithms is normal with a deviation of 1."""


def pooled_opinions(opinions: Sequence[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The geometric mean of the groups of students that answered, shape ``(rows, labels)``; NaN where none did.

    :raises ValueError: when one has another shape than ``(rows, labels)``.
    """
    if wrong := [opinion.shape for opinion in opinions if opinion.shape != shape]:
        raise ValueError(f"opinions of shape {wrong[0]} on teachers' probabilities of shape {shape}")
    heard = [np.isfinite(opinion).all(axis=1, keepdims=True) for opinion in opinions]
    logs = [np.where(known, _log(opinion), 0.0) for known, opinion in zip(heard, opinions, strict=True)]
    count = np.sum(heard, axis=0) if heard else np.zeros((shape[0], 1))
    total = np.sum(logs, axis=0) if logs else np.zeros(shape)
    return np.where(count > 0, np.exp(_normalised(total / np.maximum(count, 1))), np.nan)


def combined(
    teacher: NDArray[np.float64], given: NDArray[np.int64], students: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The probability of each label from both, shape ``(rows, labels)``; the teacher's own where no student answered.

    ``teacher`` and ``students`` have that shape, the latter NaN where none answered; ``given`` is the place of the
    teacher's label, -1 where it abstained.
    """
    heard = answered(students)
    both = heard & (given >= 0)
    result = teacher.copy()
    if not both.any():
        return result
    shares = (teacher[both].sum(axis=0) + 1) / (both.sum() + teacher.shape[1])
    by_students = exponent(teacher[both], students[both].argmax(axis=1), most=1.0) ** BLAME
    by_teacher = exponent(students[both], given[both], most=SURER)
    product = by_students * _log(teacher[heard]) + by_teacher * _log(students[heard])
    result[heard] = np.exp(_normalised(product - SHARES_DIVIDED * np.log(shares)))
    return result


def doubts(consensus: NDArray[np.float64], given: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability that the label in place ``given`` is wrong, shape ``(rows,)``; 1 where it is -1."""
    right = np.take_along_axis(consensus, np.maximum(given, 0)[:, None], axis=1)[:, 0]
    return np.clip(np.where(given < 0, 1.0, 1.0 - right), 0.0, 1.0)


def exponent(probabilities: NDArray[np.float64], labels: NDArray[np.int64], most: float) -> float:
    """The power, at most ``most``, in which ``probabilities`` ``(rows, labels)`` say ``labels`` ``(rows,)`` best."""
    logs, powers = _log(probabilities), (power for power in EXPONENTS if power < most)

    def badness(power: float) -> float:
        right = np.take_along_axis(_normalised(power * logs), labels[:, None], axis=1)
        return float(np.log(power) ** 2 / 2 - right.sum())

    return float(min((*powers, most), key=badness))


def know_something(students: NDArray[np.float64], given: NDArray[np.int64]) -> bool:
    """Whether students predict the teacher's labels better than the labels' shares alone: else they are not heard.

    Shapes as in :func:`combined`.
    """
    both = answered(students) & (given >= 0)
    if not both.any():
        return False
    counts = np.bincount(given[both], minlength=students.shape[1])
    by_shares = -float((counts * np.log((counts + 1) / (counts.sum() + len(counts)))).sum()) / counts.sum()
    tempered = _normalised(exponent(students[both], given[both], most=SURER) * _log(students[both]))
    by_students = -float(np.take_along_axis(tempered, given[both][:, None], axis=1).mean())
    return bool(by_students < (1 - LEAST_KNOWN) * by_shares)


def answered(students: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The rows on which students say something, shape ``(rows,)``."""
    return np.array(np.isfinite(students).all(axis=1), dtype=bool)


def _log(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    return logs


def _normalised(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of probabilities, from those of numbers in proportion to them, shape ``(rows, labels)``."""
    shifted = logs - logs.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
