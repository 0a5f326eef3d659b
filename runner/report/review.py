"""What people decided, in words and lines. Reads ``report.json`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runner.report.drawing import DASHED, MUTED, STUDENT, draw
from runner.report.text import money, number, seconds, written
from runner.tasks.kinds import kind_of

SEVERAL = 2


@dataclass(frozen=True)
class Reviewer:
    """One reviewer's line of the table."""

    name: str
    decisions: int
    median: str
    time: str


def decisions(report: dict[str, Any]) -> dict[str, Any] | None:
    """What people decided; None without a review."""
    found: dict[str, Any] | None = (report.get("review") or {}).get("decisions")
    return found


def sentences(report: dict[str, Any]) -> list[str]:
    """What was looked at, what it changed, what it cost, and what is still open."""
    found = decisions(report)
    if found is None:
        return []
    return [
        *_looked_at(found),
        *_cost(report, found),
        *_agreement(found),
        *_not_learned(report, found),
    ]


def _looked_at(found: dict[str, Any]) -> list[str]:
    said = []
    sample, queue = found["sample"], found["queue"]
    if sample["rows"] or sample["unclear"]:
        unclear = f"; {sample['unclear']:,} more were unclear" if sample["unclear"] else ""
        said.append(
            f"{sample['rows']:,} texts of the blind sample were labelled{unclear}: they measure, and nobody learns "
            "from them."
        )
    if queue["rows"]:
        share = f"{100 * queue['changed'] / queue['rows']:.0f} %"
        said.append(
            f"{queue['rows']:,} texts of the queue were checked, and {queue['changed']:,} labels changed ({share})."
        )
    return said


def _cost(report: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The time that it took, and what that cost where its price is known."""
    if found["seconds"] is None:
        return []
    each = found["seconds"] / max(1, sum(reviewer["decisions"] for reviewer in found["reviewers"]))
    said = f"It took {seconds(found['seconds'])}, {number(each)} s a decision, long pauses left out"
    price = ((report["spec"].get("benchmark") or {}).get("review") or {}).get("usd_per_hour")
    if price is None:
        return [f"{said}."]
    return [f"{said}: {money(found['seconds'] / 3600 * price)} USD at {money(price)} USD an hour."]


def _agreement(found: dict[str, Any]) -> list[str]:
    agreed = found["agreement"]
    if not agreed:
        return []
    alpha = "not defined" if agreed["alpha"] is None else f"{agreed['alpha']:.2f}"
    return [
        f"{agreed['rows']:,} texts have several reviewers' labels, who differ on {agreed['conflicts']:,} "
        f"(Krippendorff's alpha {alpha}; 1 is full agreement, 0 what chance gives)."
    ]


def _not_learned(report: dict[str, Any], found: dict[str, Any]) -> list[str]:
    said = []
    if found["open"]:
        said.append(
            f"{found['open']:,} texts are open, because as many reviewers say one thing as another: they count as "
            "nobody's until one more has decided."
        )
    applied = report["review"]
    known = applied.get("sample", 0) + applied.get("corrected", 0) + applied.get("gone", 0)
    settled = found["sample"]["rows"] + found["queue"]["rows"] - found["queue"]["unclear"] - found["open"]
    if settled > known:
        said.append("Some of this was decided after the run: run the spec again to learn and measure with all of it.")
    return said


def reviewers(report: dict[str, Any]) -> list[Reviewer]:
    """A line for each reviewer."""
    return [
        Reviewer(
            each["name"],
            each["decisions"],
            "not measured" if each["median"] is None else f"{number(each['median'])} s",
            "not measured" if each["seconds"] is None else seconds(each["seconds"]),
        )
        for each in (decisions(report) or {}).get("reviewers", [])
    ]


def pairs(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each two reviewers with texts in common: how many, on how many they agree, and Cohen's kappa."""
    return list(((decisions(report) or {}).get("agreement") or {}).get("pairs", []))


def before_and_after(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(who, before, now) of the primary figure on the same test texts; empty where before was not measured on them."""
    before = (report.get("review") or {}).get("before")
    if not before:
        return []
    primary = kind_of(report["spec"]).showing.FIGURES[0]
    return [(who, written(primary, before[who]), written(primary, report["evaluate"][who])) for who in before]


def curve(report: dict[str, Any]) -> str | None:
    """Labels changed against texts checked, as measured; None where too few were checked to draw."""
    points = (decisions(report) or {}).get("curve") or []
    if len(points) <= SEVERAL:
        return None
    rows, changed = points[-1]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(axis="y")
        axes.plot([0, rows], [0, changed], color=MUTED, linestyle=DASHED, linewidth=1.0)
        axes.plot([point[0] for point in points], [point[1] for point in points], color=STUDENT)
        axes.set(xlabel="texts checked", ylabel="labels changed", xlim=(0, rows), ylim=(0, max(1, changed) * 1.05))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, nbins=6))

    return draw("found", f"{changed:,} labels were changed among {rows:,} texts checked.", 2.9, paint)
