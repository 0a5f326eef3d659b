"""A run folder -> ``report.json`` as a dict, and ``report.html`` as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.report.gather import Run, gather
from runner.report.page import render
from runner.report.summary import summarise


def build_report(read: Callable[[str], bytes], exists: Callable[[str], bool]) -> tuple[dict[str, Any], str]:
    """The report of a finished run: ``report.json`` as a dict, and ``report.html`` as text.

    ``read`` and ``exists`` take paths relative to the run folder. The same folder gives the same report,
    byte for byte.

    :raises DataError: when the folder holds no finished run, or one of its files is broken.
    """
    return show(gather(read, exists))


def show(run: Run) -> tuple[dict[str, Any], str]:
    """As :func:`build_report`, of a run that was read already."""
    report = summarise(run)
    return report, render(report, run)
