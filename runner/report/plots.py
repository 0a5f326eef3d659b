"""The plots, as SVG that stands inside the page.

matplotlib draws with stand-in colours which become the page's own (CSS variables), and leaves text as text:
so a plot follows light and dark, takes the page's font, and needs no file of its own. Every id gets the
plot's name in front, as ids are global in a page; no date goes in, so that equal figures give equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from runner.report.text import cut, flat, money, number

INK, MUTED, LINE, STUDENT, TEACHER = "#0a0b0c", "#1a1b1c", "#2a2b2c", "#3a3b3c", "#4a4b4c"
_COLOURS = {INK: "ink", MUTED: "muted", LINE: "line", STUDENT: "accent", TEACHER: "grey"}

WIDTH = 4.6
"""Inches: at 72 points each a little over 330 points, shown at about 500 pixels, so 8 points read as 12."""

NUMBERED = 12
"""Confusion matrices of more labels than this carry no numbers in their cells: they would not be legible."""


def _style() -> AbstractContextManager[None]:
    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "tutelage",
            "font.family": "DejaVu Sans",
            "font.size": 8,
            "text.parse_math": False,  # a dollar sign in a label is a dollar sign
            "text.color": INK,
            "axes.labelcolor": MUTED,
            "axes.edgecolor": LINE,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": False,
            "grid.color": LINE,
            "grid.linewidth": 0.6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "xtick.minor.size": 0,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "legend.fontsize": 8,
        }
    )


def _svg(figure: Figure, name: str, says: str) -> str:
    """The drawing as an ``<svg>`` element with a text alternative."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    for stand_in, variable in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None, "matplotlib wrote no viewBox"
    label = flat(says).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    start = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box.group()} role="img" aria-label="{label}">'
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"<svg[^>]*>", lambda _: start, svg, count=1)).strip()


def _names(labels: Sequence[str], longest: int = 16) -> list[str]:
    return [cut(flat(label), longest) for label in labels]


def confusion(name: str, labels: Sequence[str], score: dict[str, Any]) -> str:
    """Truth by row, prediction by column; a cell's strength is its share of the row."""
    counts = np.array(score["confusion"])
    columns = _names(labels)
    abstained = [score.get("abstained_by_class", {}).get(label, 0) for label in labels]
    if any(abstained):
        counts = np.column_stack([counts, abstained])
        columns.append("abstained")
    with _style():
        size = min(1.6 + 0.5 * len(labels), 9)
        figure = Figure(figsize=(WIDTH, max(2.6, size)), layout="constrained")
        axes = figure.add_subplot()
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for (row, column), share in np.ndenumerate(shares):
            _cell(axes, row, column, share, counts if len(labels) <= NUMBERED else None)
        axes.set_xlim(-0.5, counts.shape[1] - 0.5)
        axes.set_ylim(counts.shape[0] - 0.5, -0.5)
        upright = len(labels) > 6 or max(map(len, columns)) > 11
        small = 8 if len(labels) <= NUMBERED else 5
        axes.set_xticks(range(counts.shape[1]), columns, rotation=90 if upright else 0, fontsize=small)
        axes.set_yticks(range(counts.shape[0]), _names(labels), fontsize=small)
        axes.set_xlabel(f"the {name} says")
        axes.set_ylabel("the experts say")
        axes.spines[:].set_visible(False)
        right = int(np.trace(counts))
        says = f"Confusion matrix of the {name}: {right} of {int(counts.sum())} texts on the diagonal."
        return _svg(figure, f"confusion-{name}", says)


def _cell(axes: Axes, row: int, column: int, share: float, counts: NDArray[np.int_] | None) -> None:
    """One cell: the accent where truth and prediction meet, grey elsewhere."""
    colour = STUDENT if row == column else TEACHER
    place = (column - 0.47, row - 0.46)
    axes.add_patch(Rectangle(place, 0.94, 0.92, facecolor=colour, alpha=0.06 + 0.5 * share, linewidth=0))
    if counts is not None:
        ink = INK if counts[row, column] else MUTED
        weight = "bold" if row == column else "normal"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=ink, weight=weight)


def reliability(scores: dict[str, dict[str, Any]]) -> str:
    """Confidence against accuracy, and below it how many of the student's rows fall into each bin."""
    with _style():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        upper.plot([0, 1], [0, 1], color=LINE, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, colour in (("teacher", TEACHER), ("student", STUDENT)):
            bins = scores[name].get("reliability") or []
            places = [entry["confidence"] for entry in bins]
            if bins:
                upper.plot(places, [b["accuracy"] for b in bins], "o-", color=colour, markersize=4, label=name)
        bins = scores["student"].get("reliability") or []
        lower.bar(
            [entry["lower"] for entry in bins],
            [entry["rows"] for entry in bins],
            width=0.1,
            align="edge",
            color=STUDENT,
            alpha=0.45,
            linewidth=0,
        )
        upper.set(xlim=(0, 1.02), ylim=(0, 1.04), ylabel="share that is right")
        if upper.get_legend_handles_labels()[0]:
            upper.legend(loc="upper left")
        lower.set(xlabel="confidence", ylabel="texts")
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        _percent_axis(upper.xaxis)
        _percent_axis(upper.yaxis)
        errors = [
            f"the {name}'s expected calibration error is {100 * scores[name]['ece']:.1f} %"
            for name in ("student", "teacher")
            if scores[name].get("ece") is not None
        ]
        return _svg(figure, "reliability", f"Reliability: {'; '.join(errors) or 'no probabilities'}.")


def _percent_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def cost(report: dict[str, Any]) -> str:
    """Accuracy with its interval against the cost of a million texts; a teacher without a price is a line."""
    scores, bench = report["evaluate"], report["benchmark"]
    known = []
    with _style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for name, colour in (("teacher", TEACHER), ("student", STUDENT)):
            price, accuracy = bench[name].get("usd_per_million"), scores[name]["accuracy"]
            low, high = scores[name]["ci95"]["accuracy"]
            if price is None:
                axes.axhline(accuracy, color=colour, linestyle=(0, (4, 3)), linewidth=1.4)
                said = f"{name} (cost not measured)"
                axes.annotate(said, (0.02, accuracy), ("axes fraction", "data"), (0, 4), textcoords="offset points")
                continue
            known.append(price)
            axes.errorbar([price], [accuracy], [[accuracy - low], [high - accuracy]], fmt="o", color=colour)
            axes.annotate(f"{name}\n{money(price)} USD", (price, accuracy), xytext=(8, 0), va="center", textcoords="offset points")
        if known and min(known) > 0:
            axes.set_xscale("log")
            axes.set_xlim(min(known) / 3, max(known) * 12)
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
        axes.set(xlabel="USD for a million texts", ylabel="accuracy")
        _percent_axis(axes.yaxis)
        says = "; ".join(
            f"{name} {100 * scores[name]['accuracy']:.1f} % right at {money(bench[name].get('usd_per_million'))} USD"
            for name in ("student", "teacher")
        )
        return _svg(figure, "cost", f"Cost of a million texts against accuracy: {says}.")
