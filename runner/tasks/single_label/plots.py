"""The plots of quality: confusion, reliability and class shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from runner.report.drawing import COLOUR, DASHED, INK, LINE, MUTED, STUDENT, TEACHER, draw, percent_axis
from runner.report.text import cut, flat
from runner.tasks.single_label.tables import NUMBERED, PICTURED, pairs

BARS = PICTURED
"""So many classes, or pairs of them, have a bar of their own where there are many."""


def all_plots(report: Mapping[str, Any]) -> dict[str, str]:
    """The plots by name."""
    scores = report["evaluate"]
    height = max(3.2, 0.6 + 0.36 * min(len(scores["labels"]), BARS))  # of both: they stand side by side
    return {
        **{f"confusion_{name}": confusion(name, scores["labels"], scores[name]) for name in ("teacher", "student")},
        "reliability": reliability(scores, height),
        "shares": shares(report, height),
    }


def confusion(name: str, labels: Sequence[str], score: dict[str, Any]) -> str:
    """Truth by row, prediction by column, a cell as strong as its share of the row; of many labels the worst pairs."""
    if len(labels) > PICTURED:
        return most_confused(name, labels, score)
    counts = np.array(score["confusion"])
    columns = _names(labels)
    abstained = [score.get("abstained_by_class", {}).get(label, 0) for label in labels]
    if any(abstained):
        counts = np.column_stack([counts, abstained])
        columns.append("abstained")
    small = 8 if len(labels) <= NUMBERED else 5

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        numbered = len(labels) <= NUMBERED
        for row, column in np.ndindex(*counts.shape) if numbered else np.argwhere(counts).tolist():
            _cell(axes, row, column, float(share[row, column]), counts if numbered else None)
        axes.set_xlim(-0.5, counts.shape[1] - 0.5)
        axes.set_ylim(counts.shape[0] - 0.5, -0.5)
        upright = len(columns) > 6 or max(map(len, columns)) * len(columns) > 50
        axes.set_xticks(range(counts.shape[1]), columns, rotation=90 if upright else 0, fontsize=small)
        axes.set_yticks(range(counts.shape[0]), _names(labels), fontsize=small)
        axes.set(xlabel=f"the {name} says", ylabel="the experts say")
        axes.spines[:].set_visible(False)

    says = f"{int(np.trace(counts))} of {int(counts.sum())} texts are on the diagonal."
    height = min(max(2.6, 1.1 + 0.45 * len(labels)), 5.0)
    return draw(f"confusion-{name}", f"Confusion matrix of the {name}: {says}", height, paint)


def _cell(axes: Axes, row: int, column: int, part: float, counts: NDArray[np.int_] | None) -> None:
    """One cell: the accent where truth and prediction meet, grey elsewhere."""
    colour = STUDENT if row == column else TEACHER
    corner = (column - 0.47, row - 0.46)
    axes.add_patch(Rectangle(corner, 0.94, 0.92, facecolor=colour, alpha=0.06 + 0.5 * part, linewidth=0))
    if counts is not None:
        ink = INK if counts[row, column] else MUTED
        weight = "bold" if row == column else "normal"
        text = f"{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color=ink, weight=weight, fontsize=9)


def reliability(scores: Mapping[str, Any], height: float = 3.2) -> str:
    """Confidence against accuracy, and below it how many of the student's rows fall into each bin."""
    bins = {name: scores[name].get("reliability") or [] for name in COLOUR}

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        upper.plot([0, 1], [0, 1], color=LINE, linewidth=1.4, linestyle=DASHED)
        for name, colour in COLOUR.items():
            if bins[name]:
                places = [entry["confidence"] for entry in bins[name]]
                heights = [entry["accuracy"] for entry in bins[name]]
                upper.plot(places, heights, "o-", color=colour, markersize=4.5, label=name)
        edges, rows = [b["lower"] for b in bins["student"]], [b["rows"] for b in bins["student"]]
        lower.bar(edges, rows, width=0.094, align="edge", color=STUDENT, alpha=0.5, linewidth=0)
        upper.set(xlim=(0, 1.02), ylim=(0, 1.04), ylabel="share that is right")
        if any(bins.values()):
            upper.legend(loc="best")
        lower.set(xlabel="confidence", ylabel="texts")
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        percent_axis(upper.xaxis)
        percent_axis(upper.yaxis)

    errors = [
        f"the {name}'s expected calibration error is {100 * scores[name]['ece']:.1f} %"
        for name in ("student", "teacher")
        if scores[name].get("ece") is not None
    ]
    return draw("reliability", f"Reliability: {'; '.join(errors) or 'no probabilities'}.", height, paint)


def shares(report: Mapping[str, Any], height: float = 3.2) -> str:
    """How often each class is given: by the teacher in all its labels, by experts and student in the test.

    Of many classes those in whose shares experts and student differ most.
    """
    scores = report["evaluate"]
    labels = list(scores["labels"])
    given = counts_given(scores["student"], labels)
    truth = np.array([scores["student"]["per_class"][label]["support"] for label in labels])
    teacher = report["label"]["class_shares"]
    shown = with_bars(labels, truth)
    labels = [labels[place] for place in shown]
    bars = [
        ("experts, test", (truth / max(truth.sum(), 1))[shown], INK, 0.75),
        ("student, test", (given / max(given.sum(), 1))[shown], STUDENT, 1.0),
        ("teacher, all labels", np.array([teacher.get(label) or 0.0 for label in labels]), TEACHER, 1.0),
    ]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, (name, values, colour, alpha) in enumerate(bars):
            places = np.arange(len(labels)) + (k - 1) * 0.26
            axes.barh(places, values, 0.22, color=colour, alpha=alpha, label=name, linewidth=0)
            for place, value in zip(places, values, strict=True):
                _beside(axes, value, place)
        axes.set_yticks(range(len(labels)), _names(labels))
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(0, max(float(values.max()) for _, values, _, _ in bars) * 1.12 or 1)
        axes.xaxis.set_major_locator(NullLocator())
        axes.spines["bottom"].set_visible(False)
        columns = {"handlelength": 0.9, "columnspacing": 1, "handletextpad": 0.5}
        figure.legend(loc="outside lower center", ncols=3, fontsize=7, **columns)

    said = ", ".join(f"{label} {100 * part:.0f} %" for label, part in zip(labels, bars[0][1], strict=True))
    return draw("shares", f"Class shares among the experts' labels: {said}.", height, paint)


def _beside(axes: Axes, value: float, place: float) -> None:
    """A bar's share, written at its end."""
    said = f"{100 * value:.0f} %"
    axes.annotate(said, (value, place), (3, 0), textcoords="offset points", va="center", fontsize=7, color=MUTED)


def _names(labels: Sequence[str], longest: int = 16) -> list[str]:
    """Labels cut to fit; where two would then read alike, the middle is left out and not the end."""
    whole = [flat(label) for label in labels]
    short = [cut(label, longest) for label in whole]
    alike = {name for name, count in Counter(short).items() if count > 1}
    return [_middle_cut(label, longest) if name in alike else name for label, name in zip(whole, short, strict=True)]


def _middle_cut(label: str, longest: int) -> str:
    return label if len(label) <= longest else f"{label[: longest // 3]}…{label[-(longest - longest // 3 - 1) :]}"


def with_bars(labels: Sequence[str], truth: NDArray[np.int_]) -> list[int]:
    """The places of the classes that have bars: all, or of many the most frequent ones."""
    if len(labels) <= PICTURED:
        return list(range(len(labels)))
    return [int(place) for place in np.argsort(-truth, kind="stable")[:BARS]]


def counts_given(score: dict[str, Any], labels: Sequence[str]) -> NDArray[np.int_]:
    """How often each label was given."""
    if score["confusion"] is not None:
        counts: NDArray[np.int_] = np.array(score["confusion"]).sum(axis=0)
        return counts
    places = {label: place for place, label in enumerate(labels)}
    counts = np.array(
        [round(row["recall"] * row["support"]) for row in (score["per_class"][label] for label in labels)]
    )
    for _, said, texts in score["confused"]:
        counts[places[said]] += texts
    return counts


def most_confused(name: str, labels: Sequence[str], score: dict[str, Any]) -> str:
    """The pairs of classes that are taken for each other most often, as bars: instead of a matrix of many labels."""
    worst = pairs(labels, score)[:BARS]
    short = dict(zip(labels, _names(labels, 22), strict=True))
    names = [f"{short[truth]} \u2192 {short[said]}" for truth, said, _ in worst]
    rows = [count for _, _, count in worst]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.barh(range(len(worst)), rows, 0.6, color=COLOUR[name], linewidth=0)
        for place, count in enumerate(rows):
            axes.annotate(
                f"{count:,}", (count, place), (3, 0), textcoords="offset points", va="center", fontsize=7, color=MUTED
            )
        axes.set_yticks(range(len(worst)), names, fontsize=7)
        axes.set_ylim(max(len(worst), 1) - 0.5, -0.5)
        axes.set_xlim(0, max(rows, default=1) * 1.15)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(xlabel=f"texts (experts \u2192 {name})")

    first = "; ".join(f"{truth} taken for {said}: {count}" for truth, said, count in worst[:3])
    says = f"The classes that the {name} confuses most often. {first or 'None'}."
    return draw(f"confusion-{name}", says, max(1.6, 0.8 + 0.2 * len(worst)), paint)
