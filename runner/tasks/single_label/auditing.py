"""Where a label is probably wrong: the teacher's probabilities times those of students that did not see the row.

Both are first made as sure as they can be shown to be: the teacher by how often the students say its label, the
students by how often the teacher says theirs (temperature scaling, Guo et al. 2017, arXiv:1706.04599, with the other
in the place of the truth). Then they are multiplied and the labels' shares, which are in both, are divided out: were
their errors independent, that product would be the probability of each label (Genest & Zidek 1986,
doi:10.1214/ss/1177013825). CROWDLAB (Goh, Tkachenko & Mueller 2022, arXiv:2210.06812) takes a weighted mean instead,
which ranks rows nearly as well and says far too high probabilities of error; ``bench/review.py`` compares them.

What cannot be known without experts: whether it is the teacher or the student that errs where they differ. Half of the
blame goes to either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec

COLUMNS = (
    pa.field("opinion", pa.string()),
    pa.field("opinion_probabilities", pa.list_(pa.float64())),
    pa.field("consensus", pa.string()),
    pa.field("consensus_probabilities", pa.list_(pa.float64())),
)

VERSION = 1

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


def key(spec: Spec) -> dict[str, Any]:
    """The version of the formula, and the labels."""
    return {"version": VERSION, "labels": list(spec.task.labels)}


def learned(verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """The rows with a label."""
    return np.array([verdict["label"] is not None for verdict in verdicts], dtype=bool)


def targets(spec: Spec, verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """The teacher's probabilities, shape ``(rows, labels)``; even where it gave none."""
    even = [1 / len(spec.task.labels)] * len(spec.task.labels)
    rows = [verdict["probabilities"] or even for verdict in verdicts]
    return np.array(rows, dtype=np.float32).reshape(-1, len(even))


def findings(
    spec: Spec, verdicts: Sequence[Mapping[str, Any]], opinions: Sequence[NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """See :meth:`runner.tasks.auditing.Auditing.findings`."""
    labels = spec.task.labels
    places = {label: place for place, label in enumerate(labels)}
    given = np.array([places.get(verdict["label"], -1) for verdict in verdicts], dtype=np.int64)
    teacher = targets(spec, verdicts).astype(np.float64)
    students = pooled_opinions(opinions, teacher.shape)
    if not know_something(students, given):
        students = np.full_like(students, np.nan)
    consensus = combined(teacher, given, students)
    doubt = doubts(consensus, given)
    answered = _answered(students)
    return [
        {
            "doubt": float(doubt[row]),
            "opinion": labels[students[row].argmax()] if answered[row] else None,
            "opinion_probabilities": students[row].tolist() if answered[row] else None,
            "consensus": labels[consensus[row].argmax()] if answered[row] else verdict["label"],
            "consensus_probabilities": consensus[row].tolist() if answered[row] else verdict["probabilities"],
        }
        for row, verdict in enumerate(verdicts)
    ]


def agreed(verdict: Mapping[str, Any], finding: Mapping[str, Any]) -> dict[str, Any]:
    """See :meth:`runner.tasks.auditing.Auditing.agreed`. The votes stay those of the teacher."""
    if finding["consensus"] is None:
        return dict(verdict)
    usable = [vote for vote in verdict["votes"] or [] if vote is not None]
    agreement = sum(vote == finding["consensus"] for vote in usable) / len(usable) if usable else verdict["agreement"]
    return {
        **verdict,
        "label": finding["consensus"],
        "probabilities": finding["consensus_probabilities"],
        "agreement": agreement,
        "reason": None,
    }


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
    answered = _answered(students)
    both = answered & (given >= 0)
    result = teacher.copy()
    if not both.any():
        return result
    shares = (teacher[both].sum(axis=0) + 1) / (both.sum() + teacher.shape[1])
    by_students = exponent(teacher[both], students[both].argmax(axis=1), most=1.0) ** BLAME
    by_teacher = exponent(students[both], given[both], most=SURER)
    product = by_students * _log(teacher[answered]) + by_teacher * _log(students[answered])
    result[answered] = np.exp(_normalised(product - SHARES_DIVIDED * np.log(shares)))
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
    both = _answered(students) & (given >= 0)
    if not both.any():
        return False
    counts = np.bincount(given[both], minlength=students.shape[1])
    by_shares = -float((counts * np.log((counts + 1) / (counts.sum() + len(counts)))).sum()) / counts.sum()
    tempered = _normalised(exponent(students[both], given[both], most=SURER) * _log(students[both]))
    by_students = -float(np.take_along_axis(tempered, given[both][:, None], axis=1).mean())
    return bool(by_students < (1 - LEAST_KNOWN) * by_shares)


def _answered(students: NDArray[np.float64]) -> NDArray[np.bool_]:
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
