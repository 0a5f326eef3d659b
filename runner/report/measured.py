"""What quality was measured on: texts with experts' labels, a blind sample, or nothing yet."""

from __future__ import annotations

from typing import Any

from runner.report.text import percent

NEXT = "tutelage review RUN"


def measured(report: dict[str, Any]) -> bool:
    """Whether there is a text that a person has labelled, so that quality has been measured."""
    return bool(report["evaluate"]["rows"])


def agreement(report: dict[str, Any]) -> str | None:
    """How often the student gives its teacher's value on held-out texts; None where none were held out."""
    held_out = report["evaluate"].get("held_out") or {}
    return percent(held_out["agree"] / held_out["rows"]) if held_out.get("rows") else None


def measured_on(report: dict[str, Any]) -> str:
    """The texts that quality was measured on, in words."""
    rows, population = report["evaluate"]["rows"], report["evaluate"].get("population")
    if population:
        return f"a blind sample of {rows:,} of the {population:,} texts"
    return f"{rows:,} expert-labelled test texts"


def opening(report: dict[str, Any]) -> str:
    """The verdict's first sentences."""
    said = "How often teacher and student are right is not measured yet: nobody has labelled a text."
    if share := agreement(report):
        rows = report["evaluate"]["held_out"]["rows"]
        said += (
            f" The student gives its teacher's answer on {share} of {rows:,} held-out training texts, which says "
            "nothing of whether that answer is right."
        )
    return f"{said} Next: {NEXT}, which draws a sample of the texts to label, and says how sure the figures are."
