"""The result table: teacher against student, for the page, the cards and a terminal. Reads ``report.json`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.observe.tables import cells, pad
from runner.report.comparisons import others
from runner.report.measured import agreement, measured, measured_on, opening
from runner.report.speed import busy
from runner.report.text import NOTHING, cut, flat, money, number, written
from runner.report.verdict import paired
from runner.tasks.kinds import kind_of
from runner.tasks.shared.shown import Figure


@dataclass(frozen=True)
class Line:
    """One line of the result table; ``note`` says how to read it."""

    what: str
    teacher: str
    student: str
    note: str = ""


def lines(report: dict[str, Any]) -> list[Line]:
    """The result table, teacher against student."""
    speed, price = report["benchmark"]["student"], report["benchmark"]["teacher"]

    latency = speed.get("latency_ms") or {}
    costs = price.get("usd_per_million"), speed.get("usd_per_million")
    return [
        *(_quality(report, figure) for figure in kind_of(report["spec"]).showing.FIGURES if measured(report)),
        *([] if measured(report) else [_agreement(report)]),
        Line("texts per second", number(price.get("rows_per_second")), number(speed.get("texts_per_second"))),
        Line(
            "latency p50 / p95",
            NOTHING,
            f"{number(latency.get('p50'))} / {number(latency.get('p95'))} ms",
            "one text at a time",
        ),
        *([Line("USD per million texts", *map(money, costs))] if costs != (None, None) else []),
    ]


def _quality(report: dict[str, Any], figure: Figure) -> Line:
    teacher, student = (written(figure, report["evaluate"][who]) for who in ("teacher", "student"))
    return Line(figure.words, teacher, student, figure.note)


def _agreement(report: dict[str, Any]) -> Line:
    """All that is known of quality where nobody has labelled a text."""
    return Line("agrees with the teacher", NOTHING, agreement(report) or NOTHING, "on held-out training texts")


def models(report: dict[str, Any]) -> tuple[str, str]:
    """The teacher's and the student's model, fit to show."""
    teacher = report["label"].get("model") or report["label"].get("engine") or ""
    return flat(str(teacher)), flat(str(report["train"].get("model") or ""))


def result_table(report: dict[str, Any]) -> str:
    """The result as an aligned table for a terminal: teacher against student, and the paired test in words."""
    teacher, student = (cut(name, 34) for name in models(report))
    head = [("", "teacher", "student"), ("", teacher, student)]
    rows = head + [(line.what, line.teacher, line.student) for line in lines(report)]
    widths = [max(cells(row[k]) for row in rows) for k in range(3)]
    rows.insert(2, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    table = "\n".join(
        f"{pad(a, widths[0])}  {pad(b, widths[1], right=True)}  {pad(c, widths[2], right=True)}" for a, b, c in rows
    )
    compared = [
        f"{flat(cut(other.name, 60))}: {other.primary} ({other.interval}) on {other.rows:,} of them, "
        f"the student {other.student} there; {other.paired}"
        for other in others(report)
    ]
    said = opening(report)
    if measured(report):
        said = f"Measured on {measured_on(report)}. {paired(report)}"
    warning = busy(report["benchmark"]["student"])
    return "\n".join([f"{report['name']}\n\n{table}\n\n{said}", *compared, *filter(None, [warning])]) + "\n"
