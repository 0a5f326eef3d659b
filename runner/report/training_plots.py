"""The plots of training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runner.report.drawing import DASHED, LINE, MUTED, STUDENT, TEACHER, draw, percent_axis
from runner.report.text import number, percent


def loss(history: Sequence[dict[str, Any]], best: int | None) -> str:
    """Training and held-out loss by epoch, with the chosen epoch."""

    def paint(figure: Figure) -> None:
        axes = _by_epoch(figure, history, best, "loss")
        for key, name, colour in (("train_loss", "training", TEACHER), ("val_loss", "held out", STUDENT)):
            _line(axes, history, key, name, colour)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.1)  # room for the word above the lines
        axes.legend(loc="best")

    last = history[-1]
    says = f"Loss by epoch: after the last, {number(last.get('train_loss'))} in training, "
    return draw("loss", f"{says}{number(last.get('val_loss'))} held out.", 2.9, paint)


def agreement(history: Sequence[dict[str, Any]], best: int | None) -> str:
    """On how many of the held-out texts the student says what its teacher says, by epoch."""

    def paint(figure: Figure) -> None:
        axes = _by_epoch(figure, history, best, "same label as the teacher")
        _line(axes, history, "val_accuracy", "held out", STUDENT)
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low), high + 0.12 * (high - low))
        percent_axis(axes.yaxis, whole=high - low > 0.05)
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= 1.0])  # no share is above 100 %

    return draw("agreement", f"Agreement by epoch: {percent(history[-1].get('val_accuracy'))} at last.", 2.9, paint)


def _by_epoch(figure: Figure, history: Sequence[dict[str, Any]], best: int | None, what: str) -> Axes:
    """Axes with epochs below, and a mark at the chosen one."""
    axes = figure.add_subplot()
    axes.grid(axis="y")
    epochs = [entry["epoch"] for entry in history]
    if best is not None and best in epochs:
        axes.axvline(best, color=LINE, linewidth=1.4, linestyle=DASHED)
        left = 2 * best > epochs[0] + epochs[-1]
        place = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "ha": "right" if left else "left",
        }
        axes.annotate("chosen", (best, 1), (-4 if left else 4, -8), color=MUTED, **place)  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    reach = 0.06 * (epochs[-1] - epochs[0]) or 0.5
    axes.set(xlabel="epoch", ylabel=what, xlim=(epochs[0] - reach, epochs[-1] + reach))
    return axes


def _line(axes: Axes, history: Sequence[dict[str, Any]], key: str, name: str, colour: str) -> None:
    values = [np.nan if entry.get(key) is None else entry[key] for entry in history]
    axes.plot([entry["epoch"] for entry in history], values, "o-", color=colour, markersize=4.5, label=name)
