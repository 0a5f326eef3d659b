"""The plots of speed and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter, NullLocator

from runner.report.drawing import COLOUR, DASHED, INK, MUTED, STUDENT, TEACHER, draw, percent_axis
from runner.report.economics import about
from runner.report.text import cut, flat, money, number, said
from runner.tasks.kinds import kind_of

COMPARED = 5
"""The most systems that the student's cost is drawn against."""

_DASHES = ((0, (6, 2)), (0, (3, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))


def cost(report: dict[str, Any]) -> str:
    """The primary figure with its interval against the cost of a million texts; a teacher without a price is a line."""
    scores, bench = report["evaluate"], report["benchmark"]
    primary = kind_of(report["spec"]).showing.FIGURES[0]
    prices = {name: bench[name].get("usd_per_million") for name in COLOUR}
    known = [price for price in prices.values() if price is not None]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for name, price in prices.items():
            _system(axes, name, price, primary.name, scores[name])
        if known and min(known) > 0:
            axes.set_xscale("log")
            axes.set_xlim(min(known) / 3, max(known) * 8)
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
        axes.set(xlabel="USD for a million texts", ylabel=primary.words)
        if primary.format == "percent":
            percent_axis(axes.yaxis)

    says = "; ".join(
        f"{name} {said(primary, scores[name][primary.name])} at "
        + ("a cost that is not known" if price is None else f"{money(price)} USD")
        for name, price in prices.items()
    )
    return draw("cost", f"Cost of a million texts against {primary.words}: {says}.", 2.9, paint)


def _system(axes: Axes, name: str, price: float | None, figure: str, score: dict[str, Any]) -> None:
    """One system on the cost plot, by the ``figure`` of its scores."""
    value = score[figure]
    low, high = score["ci95"][figure]
    if price is None:
        axes.axhline(value, color=COLOUR[name], linestyle=DASHED, linewidth=1.4)
        label = f"{name}, cost not known"
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(label, (0.02, value), (0, 4), color=MUTED, **place)  # type: ignore[arg-type]
        return
    # With few rows a figure can lie on its interval's end; a rounding error must not make a bar negative.
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar([price], [value], reach, fmt="o", color=COLOUR[name], markersize=8, elinewidth=1.6)
    label = f"{name}\n{money(price)} USD"
    axes.annotate(label, (price, value), (10, 0), textcoords="offset points", va="center", linespacing=1.5)


def break_even(report: dict[str, Any]) -> str | None:
    """All that is spent by a number of texts: the student's line begins at its one-off cost and rises the slowest."""
    costs = report["benchmark"].get("economics")
    if not costs or not costs["one_off"]["usd"]:
        return None
    mode = "cot" if "cot" in costs["tokens"] else "direct"
    rows = [row for row in costs["rows"] if row["outcome"] == "pays" and row["mode"] in (None, mode)]
    rows = sorted(rows, key=lambda row: row["break_even_texts"])
    rows = rows[:2] + rows[2:][-(COMPARED - 2) :]  # the dearest, and those that pay last
    if not rows:
        return None
    start, slope = costs["one_off"]["usd"], report["benchmark"]["student"]["usd_per_million"] / 1e6
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

    says = "; ".join(f"after {about(row['break_even_texts'])} texts against {row['name']}" for row in rows)
    return draw("break-even", f"The student breaks even {says}.", 3.2, paint)


def throughput(measured: Sequence[dict[str, Any]]) -> str:
    """Texts per second by batch size; the best one stands out."""
    speeds = [entry["texts_per_second"] for entry in measured]
    sizes = ["full" if entry["batch_size"] is None else str(entry["batch_size"]) for entry in measured]

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
        axes.set(xlabel="texts in a batch, at most", ylabel="texts per second")

    said = ", ".join(f"{number(speed)} at {size}" for speed, size in zip(speeds, sizes, strict=True))
    return draw("throughput", f"The student's texts per second by batch size: {said}.", 2.9, paint)
