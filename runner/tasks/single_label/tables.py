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

from runner.tasks.shared.label_list import names
from runner.tasks.shared.shown import ShownRow

MANY = 50
"""Up to so many labels all are listed in a card."""

PICTURED = 20
"""Up to so many labels the page shows a matrix and a bar for each; of more it shows pairs, and the table is folded."""

MOST_ROWS = 200
"""Rows of the page's table by class at most."""

NUMBERED = 12
"""Confusion matrices of more labels than this carry no numbers in their cells: they would not be legible."""

CONFUSED = 30
"""The most pairs of classes in the table of confusions."""

SHOWN = 10
"""Rows in each list of rows."""


def in_tables(scores: Mapping[str, Any]) -> list[str]:
    """The labels of a card's table by class: all, or of many those on which the student does worst."""
    labels = list(scores["labels"])
    return labels if len(labels) <= MANY else worst_first(scores)[:MANY]


def on_page(scores: Mapping[str, Any]) -> list[str]:
    """The labels of the page's table by class: a few in the order of the spec, more by the student's F1."""
    labels = list(scores["labels"])
    return labels if len(labels) <= PICTURED else worst_first(scores)[:MOST_ROWS]


def worst_first(scores: Mapping[str, Any]) -> list[str]:
    """The labels that test texts have, that with the student's lowest F1 first, and of equals the more frequent."""
    rows = scores["student"]["per_class"]
    met = [label for label in scores["labels"] if rows[label]["support"]]
    return sorted(met, key=lambda label: (rows[label]["f1"], -rows[label]["support"]))


def not_on_page(scores: Mapping[str, Any]) -> str:
    """What is said of the page's table where it does not have all classes; nothing where it has."""
    shown, unmet = len(on_page(scores)), len(scores["labels"]) - len(worst_first(scores))
    if shown == len(scores["labels"]):
        return ""
    if shown + unmet == len(scores["labels"]):
        return f"{unmet:,} of {len(scores['labels']):,} classes have no test text and are left out."
    return f"Of {len(scores['labels']):,} classes the {shown} on which the student does worst; report.json has all."


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
    labels, rows = evaluation["labels"], evaluation["student"]["per_class"]
    teacher = {(truth, given): texts for truth, given, texts in pairs(labels, evaluation["teacher"])}
    return [
        Confusion(truth, given, texts, texts / max(1, rows[truth]["support"]), teacher.get((truth, given), 0))
        for truth, given, texts in pairs(labels, evaluation["student"])[:CONFUSED]
    ]


def pairs(labels: Sequence[str], score: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """(truth, prediction, texts) of a system's confusions, the most frequent first and equals in the labels' order."""
    if score["confusion"] is None:
        return [(truth, given, texts) for truth, given, texts in score["confused"]]
    found = [
        (truth, given, texts)
        for row, (truth, counts) in enumerate(zip(labels, score["confusion"], strict=True))
        for column, (given, texts) in enumerate(zip(labels, counts, strict=True))
        if texts and row != column
    ]
    return sorted(found, key=lambda pair: -pair[2])


@dataclass(frozen=True)
class Outside:
    """How well a system finds the texts that belong to none of the classes, written for people."""

    who: str
    at_5: str
    recall: str
    false_alarms: str
    auroc: str
    in_scope: str


def outside(evaluation: Mapping[str, Any]) -> list[Outside]:
    """Teacher and student on texts that are out of scope; nothing where the spec names no such label."""
    scores = [(who, (evaluation.get(who) or {}).get("out_of_scope")) for who in ("teacher", "student")]
    names = ("recall_at_5", "recall", "false_alarms", "auroc", "accuracy_in_scope")
    return [Outside(who, *(_told(found[name], name) for name in names)) for who, found in scores if found]


def _told(figure: float | None, name: str) -> str:
    if figure is None:
        return "\N{EN DASH}"
    return f"{figure:.3f}" if name == "auroc" else f"{100 * figure:.1f} %"


def doubtful(spec: Mapping[str, Any], votes: pa.Table) -> list[ShownRow]:
    """The train rows on which the teacher's two likeliest labels lie closest together."""
    labels = list(names(spec["task"]))
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
    labels = list(names(spec["task"]))
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
