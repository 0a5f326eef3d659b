"""Who else is compared with the student: recorded annotators, and figures that others published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.report.text import NOTHING, WRITERS, interval, number, written
from runner.tasks.kinds import kind_of

_SPEED = {"texts_per_second": "texts per second", "latency_ms": "latency, ms"}


@dataclass(frozen=True)
class Other:
    """One recorded annotator beside the student, on the rows that it has."""

    name: str
    rows: int
    primary: str
    interval: str
    scores: dict[str, Any]
    student: str
    paired: str


def others(report: dict[str, Any]) -> list[Other]:
    """Everybody whose labels were recorded, each with the student's primary figure on exactly the same rows."""
    task = kind_of(report["spec"])
    primary = task.showing.FIGURES[0]
    return [
        Other(
            name=name,
            rows=other["rows"],
            primary=written(primary, other["annotator"]),
            interval=interval(*other["annotator"]["ci95"][primary.name]),
            scores=other["annotator"],
            student=written(primary, other["student"]),
            paired=task.showing.beside(other[task.scoring.PAIRED]["student"]),
        )
        for name, other in (report["evaluate"].get("others") or {}).items()
    ]


@dataclass(frozen=True)
class Published:
    """One figure as others published it, and ours."""

    name: str
    figure: str
    published: str
    here: str
    beside: str
    note: str


def published(report: dict[str, Any]) -> list[Published]:
    """What others published beside what was measured here."""
    figures = {
        figure.name: (figure.words, WRITERS[figure.format]) for figure in kind_of(report["spec"]).showing.FIGURES
    }
    figures |= {name: (words, number) for name, words in _SPEED.items()}
    lines = []
    for line in report.get("published") or []:
        words, write = figures[line["figure"]]
        here = NOTHING if line["here"] is None else write(line["here"])
        beside = "the same" if line["beside"] == line["name"] else line["beside"] or ""
        beside += f", {line['rows']:,} texts" if beside and line.get("rows") else ""
        lines.append(Published(line["name"], words, write(line["published"]), here, beside, line["note"] or ""))
    return lines
