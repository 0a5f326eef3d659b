"""What is shown of a task with many labels: the classes that matter, and which are taken for which.

A matrix or a table of a thousand classes can be read by nobody; ``report.json`` has all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from runner.report.drawing import MUTED, TEACHER, draw
from runner.report.text import cut, flat

MANY = 50
"""Up to so many labels all are shown."""

BARS = 20
"""So many classes, or pairs of them, have a bar of their own where there are many."""

CONFUSED = 15


def in_tables(scores: dict[str, Any]) -> list[str]:
    """The labels of a table by class: all, or of many those on which the student does worst."""
    labels = list(scores["labels"])
    if len(labels) <= MANY:
        return labels
    rows = scores["student"]["per_class"]
    met = [label for label in labels if rows[label]["support"]]
    return sorted(met, key=lambda label: (rows[label]["f1"], -rows[label]["support"]))[:MANY]


def left_out(scores: dict[str, Any]) -> str:
    """What is said of a table that does not have all classes; nothing where it has."""
    labels = len(scores["labels"])
    if labels <= MANY:
        return ""
    return f"Of {labels:,} classes the {len(in_tables(scores))} on which the student does worst; report.json has all."


def with_bars(labels: Sequence[str], truth: NDArray[np.int_]) -> list[int]:
    """The places of the classes that have bars: all, or of many the most frequent ones."""
    if len(labels) <= MANY:
        return list(range(len(labels)))
    return [int(place) for place in np.argsort(-truth, kind="stable")[:BARS]]


def given(score: dict[str, Any], labels: Sequence[str]) -> NDArray[np.int_]:
    """How often each label was given."""
    if score["confusion"] is not None:
        counts: NDArray[np.int_] = np.array(score["confusion"]).sum(axis=0)
        return counts
    places = {label: place for place, label in enumerate(labels)}
    counts = np.array([round(row["recall"] * row["support"]) for row in (score["per_class"][one] for one in labels)])
    for _, said, rows in score["confused"]:
        counts[places[said]] += rows
    return counts


def most_confused(name: str, score: dict[str, Any]) -> str:
    """The pairs of classes that are taken for each other most often, as bars: instead of a matrix of many labels."""
    pairs = score["confused"][:BARS]
    names = [f"{cut(flat(truth), 26)} \u2192 {cut(flat(said), 26)}" for truth, said, _ in pairs]
    rows = [count for _, _, count in pairs]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.barh(range(len(pairs)), rows, 0.6, color=TEACHER, linewidth=0)
        for place, count in enumerate(rows):
            axes.annotate(
                f"{count:,}", (count, place), (3, 0), textcoords="offset points", va="center", fontsize=7, color=MUTED
            )
        axes.set_yticks(range(len(pairs)), names, fontsize=6)
        axes.set_ylim(max(len(pairs), 1) - 0.5, -0.5)
        axes.set_xlim(0, max(rows, default=1) * 1.15)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(xlabel=f"texts: the experts say \u2192 the {name} says")

    first = "; ".join(f"{truth} taken for {said}: {count}" for truth, said, count in pairs[:3])
    says = f"The classes that the {name} confuses most often. {first or 'None'}."
    return draw(f"confusion-{name}", says, max(1.6, 0.8 + 0.2 * len(pairs)), paint)


@dataclass(frozen=True)
class Confusion:
    """How often the student takes one class for another, and its teacher does."""

    truth: str
    given: str
    texts: int
    share: float
    teacher: int


def confused(evaluation: dict[str, Any]) -> list[Confusion]:
    """The student's most frequent confusions, the most frequent first."""
    labels, teacher = evaluation["labels"], evaluation["teacher"]["confusion"]
    pairs = [
        Confusion(truth, given, count, count / max(1, sum(counts)), teacher[row][column])
        for row, (truth, counts) in enumerate(zip(labels, evaluation["student"]["confusion"], strict=True))
        for column, (given, count) in enumerate(zip(labels, counts, strict=True))
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair.texts)[:CONFUSED]
