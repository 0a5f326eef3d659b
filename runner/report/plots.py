"""The plots. The student wears the accent colour, the teacher grey: on every plot of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from runner.report import classes
from runner.report.drawing import DASHED, INK, LINE, MUTED, STUDENT, TEACHER, draw
from runner.report.economics import about
from runner.report.text import cut, flat, money, number

NUMBERED = 12
"""Confusion matrices of more labels than this carry no numbers in their cells: they would not be legible."""

COMPARED = 5
"""The most systems that the student's cost is drawn against."""

_DASHES = ((0, (6, 2)), (0, (3, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))

COLOUR = {"teacher": TEACHER, "student": STUDENT}


def all_plots(report: dict[str, Any]) -> dict[str, str]:
    """Every plot of the page by name."""
    scores = report["evaluate"]
    plots = {
        "confusion_teacher": confusion("teacher", scores["labels"], scores["teacher"]),
        "confusion_student": confusion("student", scores["labels"], scores["student"]),
        "reliability": reliability(scores),
        "shares": shares(report),
        "cost": cost(report),
    }
    if report["benchmark"]["student"].get("throughput"):
        plots["throughput"] = throughput(report["benchmark"]["student"]["throughput"])
    if curve := break_even(report):
        plots["break_even"] = curve
    if report["train"].get("history"):
        plots["loss"] = loss(report["train"]["history"], report["train"].get("best_epoch"))
    return plots


def confusion(name: str, labels: Sequence[str], score: dict[str, Any]) -> str:
    """Truth by row, prediction by column, a cell as strong as its share of the row; of many labels the worst pairs."""
    if score["confusion"] is None:
        return classes.most_confused(name, score)
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
        for (row, column), part in np.ndenumerate(share):
            _cell(axes, row, column, part, counts if len(labels) <= NUMBERED else None)
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


def reliability(scores: dict[str, Any]) -> str:
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
    return draw("reliability", f"Reliability: {'; '.join(errors) or 'no probabilities'}.", 3.2, paint)


def shares(report: dict[str, Any]) -> str:
    """How often each class is given: by the teacher in all its labels, by experts and student in the test."""
    scores = report["evaluate"]
    labels = list(scores["labels"])
    given = classes.given(scores["student"], labels)
    truth = np.array([scores["student"]["per_class"][label]["support"] for label in labels])
    teacher = report["label"]["class_shares"]
    shown = classes.with_bars(labels, truth)
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
                text = f"{100 * value:.0f} %"
                axes.annotate(
                    text,
                    (value, place),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    color=MUTED,
                )
        axes.set_yticks(range(len(labels)), _names(labels))
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(0, max(float(values.max()) for _, values, _, _ in bars) * 1.12 or 1)
        axes.xaxis.set_major_locator(NullLocator())
        axes.spines["bottom"].set_visible(False)
        figure.legend(
            loc="outside lower center",
            ncols=3,
            fontsize=7,
            handlelength=0.9,
            columnspacing=1,
            handletextpad=0.5,
        )

    said = ", ".join(f"{label} {100 * part:.0f} %" for label, part in zip(labels, bars[0][1], strict=True))
    height = min(3.2 if len(labels) <= 5 else 0.6 + 0.5 * len(labels), 12)
    return draw("shares", f"Class shares among the experts' labels: {said}.", height, paint)


def cost(report: dict[str, Any]) -> str:
    """Accuracy with its interval against the cost of a million texts; a teacher without a price is a line."""
    scores, bench = report["evaluate"], report["benchmark"]
    prices = {name: bench[name].get("usd_per_million") for name in COLOUR}
    known = [price for price in prices.values() if price is not None]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for name, price in prices.items():
            _system(axes, name, price, scores[name])
        if known and min(known) > 0:
            axes.set_xscale("log")
            axes.set_xlim(min(known) / 3, max(known) * 8)
            axes.xaxis.set_minor_formatter(NullFormatter())
        if not known:
            axes.xaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
        axes.set(xlabel="USD for a million texts", ylabel="accuracy")
        _percent_axis(axes.yaxis)

    says = "; ".join(
        f"{name} {100 * scores[name]['accuracy']:.1f} % right at {money(price)} USD" for name, price in prices.items()
    )
    return draw("cost", f"Cost of a million texts against accuracy: {says}.", 2.9, paint)


def _system(axes: Axes, name: str, price: float | None, score: dict[str, Any]) -> None:
    """One system on the cost plot."""
    accuracy = score["accuracy"]
    low, high = score["ci95"]["accuracy"]
    if price is None:
        axes.axhline(accuracy, color=COLOUR[name], linestyle=DASHED, linewidth=1.4)
        said = f"{name}, cost not measured"
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(said, (0.02, accuracy), (0, 4), color=MUTED, **place)  # type: ignore[arg-type]
        return
    # With few rows an accuracy can lie on its interval's end; a rounding error must not make a bar negative.
    reach = [[max(0.0, accuracy - low)], [max(0.0, high - accuracy)]]
    axes.errorbar([price], [accuracy], reach, fmt="o", color=COLOUR[name], markersize=8, elinewidth=1.6)
    said = f"{name}\n{money(price)} USD"
    axes.annotate(said, (price, accuracy), (10, 0), textcoords="offset points", va="center", linespacing=1.5)


def break_even(report: dict[str, Any]) -> str | None:
    """All that is spent by a number of texts: the student's line begins at its one-off cost and rises the slowest."""
    found = report["benchmark"].get("economics")
    if not found or not found["one_off"]["usd"]:
        return None
    mode = "cot" if "cot" in found["tokens"] else "direct"
    rows = [row for row in found["rows"] if row["outcome"] == "pays" and row["mode"] in (None, mode)]
    rows = sorted(rows, key=lambda row: row["break_even_texts"])
    rows = rows[:2] + rows[2:][-(COMPARED - 2) :]  # the dearest, and those that pay last
    if not rows:
        return None
    start, slope = found["one_off"]["usd"], report["benchmark"]["student"]["usd_per_million"] / 1e6
    places = np.array([max(1, row["break_even_texts"]) for row in rows], dtype=float)
    texts = np.geomspace(places.min() / 10, places.max() * 30, 60)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for row, dashes in zip(rows, _DASHES, strict=False):
            teacher = row["mode"] is None
            colour, style = (TEACHER, "solid") if teacher else (INK, dashes)
            name = "teacher" if teacher else cut(flat(row["name"]), 26)
            spent = texts * row["usd_per_million"] / 1e6
            axes.plot(texts, spent, color=colour, linestyle=style, linewidth=1.2, label=name)
        axes.plot(texts, start + texts * slope, color=STUDENT, label="student", linewidth=2.4)
        axes.plot(places, start + places * slope, "o", color=STUDENT, markersize=6)
        axes.set(xscale="log", yscale="log", xlabel="texts", ylabel="USD")
        axes.set_ylim(bottom=start / 20)
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        figure.legend(loc="outside lower center", ncols=2, fontsize=7)

    says = "; ".join(f"from {about(row['break_even_texts'])} texts on against {row['name']}" for row in rows)
    return draw("break-even", f"The student pays {says}.", 3.2, paint)


def throughput(measured: Sequence[dict[str, Any]]) -> str:
    """Texts per second by batch size; the best one stands out."""
    speeds = [entry["texts_per_second"] for entry in measured]
    sizes = [str(entry["batch_size"]) for entry in measured]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        bars = axes.bar(sizes, speeds, width=min(0.6, 0.15 * len(sizes)), color=STUDENT, linewidth=0)
        for bar, speed in zip(bars, speeds, strict=True):
            bar.set_alpha(1.0 if speed == max(speeds) else 0.45)
            top = (bar.get_x() + bar.get_width() / 2, speed)
            axes.annotate(number(speed), top, (0, 4), textcoords="offset points", ha="center")
        axes.set_ylim(0, max(speeds) * 1.12 or 1)
        axes.margins(x=0.1)
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
        axes.set(xlabel="texts in a batch", ylabel="texts per second")

    said = ", ".join(f"{number(speed)} at {size}" for speed, size in zip(speeds, sizes, strict=True))
    return draw("throughput", f"The student's texts per second by batch size: {said}.", 2.9, paint)


def loss(history: Sequence[dict[str, Any]], best: int | None) -> str:
    """Training and held-out loss by epoch, with the chosen epoch."""
    epochs = [entry["epoch"] for entry in history]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        if best is not None and best in epochs:
            axes.axvline(best, color=LINE, linewidth=1.4, linestyle=DASHED)
            place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate("chosen", (best, 1), (-4, -8), ha="right", color=MUTED, **place)  # type: ignore[arg-type]
        for key, name, colour in (("train_loss", "training", TEACHER), ("val_loss", "held out", STUDENT)):
            values = [np.nan if entry.get(key) is None else entry[key] for entry in history]
            axes.plot(epochs, values, "o-", color=colour, markersize=4.5, label=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel="loss")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08)
        axes.legend(loc="best")

    last = history[-1]
    says = f"Loss by epoch: after the last, {number(last.get('train_loss'))} in training, "
    return draw("loss", f"{says}{number(last.get('val_loss'))} held out.", 2.9, paint)


def _names(labels: Sequence[str], longest: int = 16) -> list[str]:
    return [cut(flat(label), longest) for label in labels]


def _percent_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
