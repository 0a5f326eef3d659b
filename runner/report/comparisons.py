"""Who else is compared with the student: recorded annotators, and figures that others published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.report.quality import SIGNIFICANT
from runner.report.text import NOTHING, interval, number, percent, probability

_FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy", percent),
    "macro_f1": ("macro F1", "{:.3f}".format),
    "texts_per_second": ("texts per second", number),
    "latency_ms": ("latency, ms", number),
}


@dataclass(frozen=True)
class Other:
    """One recorded annotator beside the student, on the rows that it has."""

    name: str
    rows: int
    accuracy: str
    interval: str
    macro_f1: str
    student: str
    paired: str


def others(report: dict[str, Any]) -> list[Other]:
    """Everybody whose labels were recorded, each with the student's accuracy on exactly the same rows."""
    return [
        Other(
            name=name,
            rows=found["rows"],
            accuracy=percent(found["annotator"]["accuracy"]),
            interval=interval(*found["annotator"]["ci95"]["accuracy"]),
            macro_f1=f"{found['annotator']['macro_f1']:.3f}",
            student=percent(found["student"]["accuracy"]),
            paired=_against(found["mcnemar"]["student"]),
        )
        for name, found in (report["evaluate"].get("others") or {}).items()
    ]


def _against(test: dict[str, Any]) -> str:
    """McNemar's test of another (a) and the student (b), in a few words."""
    if not test["only_a_right"] + test["only_b_right"]:
        return "the same texts right"
    if test["p"] >= SIGNIFICANT:
        return f"no significant difference ({probability(test['p'])})"
    better = "the student" if test["only_b_right"] > test["only_a_right"] else "it"
    return f"{better} is better ({probability(test['p'])})"


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
    lines = []
    for line in report.get("published") or []:
        words, write = _FIGURES[line["figure"]]
        here = NOTHING if line["here"] is None else write(line["here"])
        beside = "the same" if line["beside"] == line["name"] else line["beside"] or ""
        beside += f", {line['rows']:,} texts" if beside and line.get("rows") else ""
        lines.append(Published(line["name"], words, write(line["published"]), here, beside, line["note"] or ""))
    return lines
