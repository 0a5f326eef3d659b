"""What is shown of lists of labels: figures by label, labels given for others, and rows worth a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from runner.tasks.multi_label.thresholds import HALF
from runner.tasks.shared.label_list import names
from runner.tasks.shared.shown import ShownRow

MANY = 50
"""Up to so many labels all are shown."""

CONFUSED = 15
"""The most pairs of labels in the table of confusions."""

SHOWN = 10
"""Rows in each list of rows."""

NOTHING = "no label"


def words(value: Sequence[str] | None) -> str | None:
    """A list of labels as people read it."""
    return None if value is None else ", ".join(value) or NOTHING


def in_tables(scores: Mapping[str, Any]) -> list[str]:
    """The labels of a table by label: all, or of many those on which the student does worst."""
    labels = list(scores["labels"])
    if len(labels) <= MANY:
        return labels
    rows = scores["student"]["per_class"]
    met = [label for label in labels if rows[label]["support"]]
    return sorted(met, key=lambda label: (rows[label]["f1"], -rows[label]["support"]))[:MANY]


def left_out(scores: Mapping[str, Any]) -> str:
    """What is said of a table that does not have all labels; nothing where it has."""
    labels = len(scores["labels"])
    if labels <= MANY:
        return ""
    return f"Of {labels:,} labels the {len(in_tables(scores))} on which the student does worst; report.json has all."


@dataclass(frozen=True)
class Confusion:
    """In how many texts the student misses one label and gives another that does not apply, and its teacher does."""

    missed: str
    given: str
    texts: int
    share: float
    teacher: int


def confused(evaluation: Mapping[str, Any]) -> list[Confusion]:
    """The student's most frequent ones, the most frequent first."""
    teacher = {(missed, given): count for missed, given, count in evaluation["teacher"]["confused"]}
    support = {label: one["support"] for label, one in evaluation["student"]["per_class"].items()}
    return [
        Confusion(missed, given, count, count / max(1, support[missed]), teacher.get((missed, given), 0))
        for missed, given, count in evaluation["student"]["confused"][:CONFUSED]
    ]


def doubtful(spec: Mapping[str, Any], votes: pa.Table) -> list[ShownRow]:
    """The train rows on which the teacher is least sure of a label: its probability is nearest to one half."""
    labels = list(names(spec["task"]))
    found = []
    for place, chances in enumerate(votes["probabilities"].to_pylist()):
        if chances and len(chances) == len(labels):
            found.append((float(np.abs(2 * np.array(chances) - 1).min()), place))
    chosen = sorted(found)[:SHOWN]
    rows = votes.take(pa.array([place for _, place in chosen], pa.int64())).to_pylist()
    return [
        ShownRow(
            text=row["text"] or "",
            given=words(row["label"]),
            chances=_nearest_to_half(labels, row["probabilities"]),
            figure=margin,
            reason=row.get("reason"),
        )
        for (margin, _), row in zip(chosen, rows, strict=True)
    ]


def mistaken(spec: Mapping[str, Any], predictions: pa.Table) -> list[ShownRow]:
    """The test rows with the mistakes that the student is surest of: labels that it gives or leaves out wrongly.

    ``figure`` is the probability of that label where it is given wrongly, and one less it where it is missing.
    """
    labels = list(names(spec["task"]))
    found = []
    for place, row in enumerate(predictions.to_pylist()):
        chances = row["student_probabilities"]
        if row["student_label"] is None or not chances or len(chances) != len(labels):
            continue
        wrong = set(row["label"]) ^ set(row["student_label"])
        sure = [
            share if label in row["student_label"] else 1 - share
            for label, share in zip(labels, chances, strict=True)
            if label in wrong
        ]
        if sure:
            found.append((-max(sure), place, row))
    return [
        ShownRow(
            text=row["text"] or "",
            given=words(row["student_label"]),
            chances=sorted(zip(labels, row["student_probabilities"], strict=True), key=lambda pair: -pair[1]),
            figure=-sure,
            truth=words(row["label"]),
            teacher=words(row.get("teacher_label")),
        )
        for sure, _, row in sorted(found, key=lambda one: one[:2])[:SHOWN]
    ]


def _nearest_to_half(labels: Sequence[str], chances: Sequence[float]) -> list[tuple[str, float]]:
    return sorted(zip(labels, chances, strict=True), key=lambda pair: abs(pair[1] - HALF))
