"""All plots of the page by name. The student wears the accent colour, the teacher grey, everywhere."""

from __future__ import annotations

from typing import Any

from runner.report import review
from runner.report.cost_plots import break_even, cost, throughput
from runner.report.drawing import COLOUR
from runner.report.measured import measured
from runner.report.training_plots import agreement, loss
from runner.tasks.kinds import kind_of


def all_plots(report: dict[str, Any]) -> dict[str, str]:
    """Every plot of the page by name."""
    bench, train = report["benchmark"], report["train"]
    plots = kind_of(report["spec"]).showing.plots(report) if measured(report) else {}
    if measured(report) and any(bench[name].get("usd_per_million") is not None for name in COLOUR):
        plots["cost"] = cost(report)
    if bench["student"].get("throughput"):
        plots["throughput"] = throughput(bench["student"]["throughput"])
    if curve := break_even(report):
        plots["break_even"] = curve
    if len(history := train.get("history") or []) > 1:  # one epoch is a point: the table has it
        plots["loss"] = loss(history, train.get("best_epoch"))
        if any(entry.get("val_accuracy") is not None for entry in history):
            plots["agreement"] = agreement(history, train.get("best_epoch"))
    if found := review.curve(report):
        plots["found"] = found
    return plots
