"""Where labels are probably wrong, or lacking: each label as a question of yes and no of its own.

Teacher and students are put together for each label as for the one label of a text
(:mod:`runner.tasks.shared.two_opinions`). A row's doubt is the probability that at least one of its labels is wrong,
were the labels' errors independent: where they come together it is too high, but for the order of the rows no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec
from runner.tasks.multi_label.judging import HALF
from runner.tasks.multi_label.votes import agreement
from runner.tasks.shared.two_opinions import combined, doubts, know_something, pooled_opinions

COLUMNS = (
    pa.field("opinion", pa.list_(pa.string())),
    pa.field("opinion_probabilities", pa.list_(pa.float64())),
    pa.field("consensus", pa.list_(pa.string())),
    pa.field("consensus_probabilities", pa.list_(pa.float64())),
)

VERSION = 1


def key(spec: Spec) -> dict[str, Any]:
    """The version of the formula, and the labels."""
    return {"kind": "multi-label", "version": VERSION, "labels": list(spec.task.labels)}


def learned(verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """The rows with a value."""
    return np.array([verdict["label"] is not None for verdict in verdicts], dtype=bool)


def targets(spec: Spec, verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """The teacher's probabilities of yes, shape ``(rows, labels)``; one half where it gave none."""
    unknown = [HALF] * len(spec.task.labels)
    rows = [verdict["probabilities"] or unknown for verdict in verdicts]
    return np.array(rows, dtype=np.float32).reshape(-1, len(unknown))


def findings(
    spec: Spec, verdicts: Sequence[Mapping[str, Any]], opinions: Sequence[NDArray[np.float64]]
) -> list[dict[str, Any]]:
    """See :meth:`runner.tasks.auditing.Auditing.findings`."""
    labels = spec.task.labels
    teacher = targets(spec, verdicts).astype(np.float64)
    known = learned(verdicts)
    if wrong := [opinion.shape for opinion in opinions if opinion.shape != teacher.shape]:
        raise ValueError(f"opinions of shape {wrong[0]} on teachers' probabilities of shape {teacher.shape}")
    students, consensus, right = np.empty_like(teacher), np.empty_like(teacher), np.ones(len(verdicts))
    knows = np.zeros(len(labels), dtype=bool)
    for place, label in enumerate(labels):
        given = np.array([int(label in (verdict["label"] or ())) for verdict in verdicts], dtype=np.int64)
        given = np.where(known, given, -1)
        said = pooled_opinions([_both(opinion[:, place]) for opinion in opinions], (len(verdicts), 2))
        knows[place] = know_something(said, given)
        together = combined(_both(teacher[:, place]), given, said if knows[place] else np.full_like(said, np.nan))
        if not knows[place] and known.any():  # of a text on which the teacher abstained its share is all that is known
            together[~known] = _both(teacher[known, place].mean(keepdims=True))
        students[:, place], consensus[:, place] = said[:, 1], together[:, 1]
        right *= 1 - doubts(together, given)
    answered = np.array(np.isfinite(students).all(axis=1) & bool(knows.any()), dtype=bool)
    return [
        {
            "doubt": 1 - float(right[row]),
            "opinion": _given(labels, students[row]) if answered[row] else None,
            "opinion_probabilities": students[row].tolist() if answered[row] else None,
            "consensus": _given(labels, consensus[row]) if answered[row] else verdict["label"],
            "consensus_probabilities": consensus[row].tolist() if answered[row] else verdict["probabilities"],
        }
        for row, verdict in enumerate(verdicts)
    ]


def agreed(verdict: Mapping[str, Any], finding: Mapping[str, Any]) -> dict[str, Any]:
    """See :meth:`runner.tasks.auditing.Auditing.agreed`. The votes stay those of the teacher."""
    if finding["consensus"] is None:
        return dict(verdict)
    usable = [vote for vote in verdict["votes"] or [] if vote is not None]
    return {
        **verdict,
        "label": finding["consensus"],
        "probabilities": finding["consensus_probabilities"],
        "agreement": agreement(usable, finding["consensus"]) if usable else verdict["agreement"],
        "reason": None,
    }


def _given(labels: Sequence[str], probabilities: NDArray[np.float64]) -> list[str]:
    return [label for label, share in zip(labels, probabilities.tolist(), strict=True) if share > HALF]


def _both(yes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities of no and of yes, shape ``(rows, 2)``."""
    return np.stack([1 - yes, yes], axis=1)
