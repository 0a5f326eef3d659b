"""The plots of quality: F1 by label, reliability, and how often each label is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runner.report.drawing import COLOUR, DASHED, INK, LINE, STUDENT, TEACHER, draw, percent_axis
from runner.report.text import cut, flat

BARS = 30
"""So many labels have bars of their own."""


def all_plots(report: Mapping[str, Any]) -> dict[str, str]:
    """The plots by name."""
    scores = report["evaluate"]
    height = max(3.2, 0.6 + 0.3 * min(len(scores["labels"]), BARS))  # of all: they stand side by side
    return {
        "f1": f1(scores, height),
        "shares": shares(report, height),
        "reliability": reliability(scores, min(height, 4.0)),
    }


def f1(scores: Mapping[str, Any], height: float) -> str:
    """F1 of each label, the frequent ones first; of many labels those on which the student does worst."""
    rows = scores["student"]["per_class"]
    labels = [label for label in scores["labels"] if rows[label]["support"]]
    if len(labels) > BARS:
        labels = sorted(labels, key=lambda label: rows[label]["f1"])[:BARS]
    labels.sort(key=lambda label: -rows[label]["support"])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        bars = [(who, [scores[who]["per_class"][label]["f1"] for label in labels], COLOUR[who]) for who in COLOUR]
        _bars(axes, labels, bars)
        axes.set(xlabel="F1", xlim=(0, 1.02))

    worst = min(labels, key=lambda label: rows[label]["f1"], default=None)
    says = f"lowest for {flat(cut(worst, 40))} ({100 * rows[worst]['f1']:.0f} %)" if worst else "no label was met"
    return draw("f1", f"F1 of each label: the student's is {says}.", height, paint)


def shares(report: Mapping[str, Any], height: float) -> str:
    """In which share of texts each label is given: by experts and student in the test, by the teacher in its labels."""
    scores, teacher = report["evaluate"], report["label"]["class_shares"]
    rows, texts = scores["student"]["per_class"], max(1, scores["student"]["rows"])
    labels = sorted(scores["labels"], key=lambda label: -rows[label]["support"])[:BARS]
    truth, given = ([rows[label][name] / texts for label in labels] for name in ("support", "given"))

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        bars = [
            ("experts, test", truth, INK),
            ("student, test", given, STUDENT),
            ("teacher, train", [teacher.get(label, 0.0) for label in labels], TEACHER),
        ]
        _bars(axes, labels, bars)
        axes.set(xlabel="share of the texts")
        percent_axis(axes.xaxis)

    far = max(range(len(labels)), key=lambda k: abs(truth[k] - given[k]))
    says = f"{flat(cut(labels[far], 40))} by the student {100 * given[far]:.1f} %, by experts {100 * truth[far]:.1f} %"
    return draw("shares", f"How often labels are given, where student and experts differ most: {says}.", height, paint)


def _bars(axes: Axes, labels: list[str], groups: list[tuple[str, list[float], str]]) -> None:
    """Bars of each group beside each other, a line for each label, the first on top."""
    places, width = np.arange(len(labels)), 0.8 / len(groups)
    for number, (name, lengths, colour) in enumerate(groups):
        middle = places - 0.4 + width * (number + 0.5)
        axes.barh(middle, lengths, width * 0.9, color=colour, label=name, linewidth=0)
    axes.set_yticks(places, [flat(cut(label, 24)) for label in labels], fontsize=8 if len(labels) <= 15 else 6)
    axes.invert_yaxis()
    axes.legend(loc="lower right")


def reliability(scores: Mapping[str, Any], height: float) -> str:
    """Of all labels together: the probability that one applies against how often it does, and how many lie there."""
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
        if rows:
            lower.set_yscale("symlog")  # nearly all labels do not apply to a text
        upper.set(xlim=(0, 1.02), ylim=(0, 1.04), ylabel="share that applies")
        if any(bins.values()):
            upper.legend(loc="best")
        lower.set(xlabel="probability of a label", ylabel="labels of texts")
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        percent_axis(upper.xaxis)
        percent_axis(upper.yaxis)

    errors = [
        f"the {name}'s mean expected calibration error is {100 * scores[name]['ece']:.1f} %"
        for name in ("student", "teacher")
        if scores[name].get("ece") is not None
    ]
    return draw("reliability", f"Reliability: {'; '.join(errors) or 'no probabilities'}.", height, paint)
