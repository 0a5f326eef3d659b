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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec
from runner.tasks.shared.two_opinions import (
    SURER,
    answered,
    combined,
    doubts,
    exponent,
    know_something,
    pooled_opinions,
)

__all__ = [
    "COLUMNS",
    "SURER",
    "agreed",
    "combined",
    "doubts",
    "exponent",
    "findings",
    "key",
    "know_something",
    "learned",
    "pooled_opinions",
    "targets",
]

COLUMNS = (
    pa.field("opinion", pa.string()),
    pa.field("opinion_probabilities", pa.list_(pa.float64())),
    pa.field("consensus", pa.string()),
    pa.field("consensus_probabilities", pa.list_(pa.float64())),
)

VERSION = 1


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
    heard = answered(students)
    return [
        {
            "doubt": float(doubt[row]),
            "opinion": labels[students[row].argmax()] if heard[row] else None,
            "opinion_probabilities": students[row].tolist() if heard[row] else None,
            "consensus": labels[consensus[row].argmax()] if heard[row] else verdict["label"],
            "consensus_probabilities": consensus[row].tolist() if heard[row] else verdict["probabilities"],
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
