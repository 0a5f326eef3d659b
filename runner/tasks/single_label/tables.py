"""What is shown of the labels: figures by class, the classes that are taken for each other, and rows worth a look.

A matrix or a table of a thousand classes can be read by nobody; ``report.json`` has all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runner.tasks.shared.shown import ShownRow

MANY = 50
"""Up to so many labels all are shown."""

NUMBERED = 12
"""Confusion matrices of more labels than this carry no numbers in their cells: they would not be legible."""

NAMED = 30
"""Confusion matrices of more labels than this carry no names on their axes."""

CONFUSED = 15
"""The most pairs of classes in the table of confusions."""

SHOWN = 10
"""Rows in each list of rows."""


def in_tables(scores: Mapping[str, Any]) -> list[str]:
    """The labels of a table by class: all, or of many those on which the student does worst."""
    labels = list(scores["labels"])
    if len(labels) <= MANY:
        return labels
    rows = scores["student"]["per_class"]
    met = [label for label in labels if rows[label]["support"]]
    return sorted(met, key=lambda label: (rows[label]["f1"], -rows[label]["support"]))[:MANY]


def left_out(scores: Mapping[str, Any]) -> str:
    """What is said of a table that does not have all classes; nothing where it has."""
    labels = len(scores["labels"])
    if labels <= MANY:
        return ""
    return f"Of {labels:,} classes the {len(in_tables(scores))} on which the student does worst; report.json has all."


@dataclass(frozen=True)
class Confusion:
    """How often the student takes one class for another, and its teacher does."""

    truth: str
    given: str
    texts: int
    share: float
    teacher: int


def confused(evaluation: Mapping[str, Any]) -> list[Confusion]:
    """The student's most frequent confusions, the most frequent first."""
    labels, teacher = evaluation["labels"], evaluation["teacher"]["confusion"]
    pairs = [
        Confusion(truth, given, count, count / max(1, sum(counts)), teacher[row][column])
        for row, (truth, counts) in enumerate(zip(labels, evaluation["student"]["confusion"], strict=True))
        for column, (given, count) in enumerate(zip(labels, counts, strict=True))
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair.texts)[:CONFUSED]


def doubtful(spec: Mapping[str, Any], votes: pa.Table) -> list[ShownRow]:
    """The train rows on which the teacher's two likeliest labels lie closest together."""
    labels = list(spec["task"]["labels"])
    chances = _matrix(votes["probabilities"], len(labels))
    top = np.sort(chances, axis=1)
    margin = top[:, -1] - top[:, -2]
    order = [int(k) for k in np.argsort(margin, kind="stable")[:SHOWN] if np.isfinite(margin[k])]
    return [
        ShownRow(
            text=row["text"] or "",
            given=row["label"],
            chances=_ranked(labels, chances[k]),
            figure=float(margin[k]),
            reason=row.get("reason"),
        )
        for k, row in zip(order, votes.take(pa.array(order, pa.int64())).to_pylist(), strict=True)
    ]


def mistaken(spec: Mapping[str, Any], predictions: pa.Table) -> list[ShownRow]:
    """The test rows on which the student is wrong and most sure of it."""
    labels = list(spec["task"]["labels"])
    wrong = pc.fill_null(pc.not_equal(predictions["label"], predictions["student_label"]), False)
    predictions = predictions.filter(wrong)
    chances = _matrix(predictions["student_probabilities"], len(labels))
    places = {label: k for k, label in enumerate(labels)}
    given = [places.get(label, 0) for label in predictions["student_label"].to_pylist()]
    confidence = chances[np.arange(len(given)), given]
    order = [int(k) for k in np.argsort(-confidence, kind="stable")[:SHOWN] if np.isfinite(confidence[k])]
    return [
        ShownRow(
            text=row["text"] or "",
            given=row["student_label"],
            chances=_ranked(labels, chances[k]),
            figure=float(confidence[k]),
            truth=row["label"],
            teacher=row.get("teacher_label"),
        )
        for k, row in zip(order, predictions.take(pa.array(order, pa.int64())).to_pylist(), strict=True)
    ]


def _matrix(column: pa.ChunkedArray, width: int) -> NDArray[np.float64]:
    """A column of lists as rows by ``width``; NaN where there is none, or one of another length."""
    chances = np.full((len(column), width), np.nan)
    fits = pc.fill_null(pc.equal(pc.list_value_length(column), width), False).to_numpy(zero_copy_only=False)
    lists = column.filter(pa.array(fits))
    chances[fits] = pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(-1, width)
    return chances


def _ranked(labels: Sequence[str], chances: NDArray[np.float64]) -> list[tuple[str, float]]:
    return [(labels[int(k)], float(chances[k])) for k in np.argsort(-chances, kind="stable")]
