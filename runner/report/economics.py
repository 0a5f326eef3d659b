"""What the economics of a run say, in words and lines. Reads ``report.json`` alone; an older one has no economics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.report.text import NOTHING, flat, money, number, sources_of

MODES = {"direct": "direct", "cot": "chain of thought", "cot-3": "chain of thought, its reasons not counted"}

NOT_KNOWN = "not known"
_NO_BREAK_EVEN = {
    "never": "never: it costs no more",
    "unknown": NOT_KNOWN,
    "worse": "none: the student is significantly worse",
    "unmeasured": "not known: quality is not measured yet",
}


@dataclass(frozen=True)
class CostLine:
    """One line of the table of costs for a million texts; ``name`` and ``note`` are foreign text."""

    name: str
    note: str
    usd: str
    date: str = ""
    kwh: str = NOTHING
    co2: str = NOTHING
    pays: str = ""
    student: bool = False


def worked_out(report: dict[str, Any]) -> dict[str, Any] | None:
    """The benchmark's economics, None in a report from before there were any."""
    costs: dict[str, Any] | None = report["benchmark"].get("economics")
    return costs


def about(texts: int) -> str:
    """A number of texts, rounded up to two digits: what it rests on was measured once."""
    step = 10 ** max(0, len(str(texts)) - 2)
    return f"{-(-texts // step) * step:,}"


def called(row: dict[str, Any]) -> str:
    """An API with how it is asked and the day of its price."""
    return f"{flat(row['name'])}, {MODES[row['mode']]}, {row['date']}" if row["mode"] else row["name"]


def least(costs: dict[str, Any]) -> str:
    """What stands before a sum of which a part is not known, and before all that follows from it."""
    return "" if costs["one_off"]["complete"] else "at least "


def parts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The one-off cost as (what, USD): its parts, and their sum. None where nothing is known that costs anything."""
    costs = worked_out(report)
    if not costs or not costs["one_off"]["usd"]:
        return []
    cost = costs["one_off"]
    named = {"labelling": "labelling_usd", "training": "training_usd", "review by people": "review_usd"}
    said = [(what, NOT_KNOWN if cost[name] is None else money(cost[name])) for what, name in named.items()]
    return [*said, ("together", f"{least(costs)}{money(cost['usd'])}")]


def lines(report: dict[str, Any]) -> list[CostLine]:
    """The table: the student and the teacher here, each API asked in two ways, and what others published."""
    costs = worked_out(report)
    if costs is None:
        return []
    before = least(costs)
    return [
        _student(report["benchmark"]["student"]),
        _teacher(report, costs["rows"][0], before),
        *(_api(row, costs["tokens"], before) for row in costs["rows"][1:]),
        *map(_published, costs.get("published") or []),
    ]


def _student(student: dict[str, Any]) -> CostLine:
    energy = student.get("energy") or {}
    return CostLine(
        "student, here",
        f"{machine_of(student)}, {number(student['texts_per_second'])} texts/s",
        money(student["usd_per_million"]),
        "",
        number(energy.get("kwh")),
        number(energy.get("kg_co2"), 2),
        student=True,
    )


def machines(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The student where the spec has it run, and on each further machine; none where there are no further ones."""
    elsewhere = report["benchmark"].get("elsewhere")
    if not elsewhere:
        return []
    here = report["benchmark"]["student"] | {"name": "student.resources"}
    return [timed | {"machine": machine_of(timed)} for timed in (here, *elsewhere)]


def machine_of(student: dict[str, Any]) -> str:
    """What the student was timed on: the GPU, or the processor and its cores."""
    hardware = student.get("hardware") or {}
    if student.get("device") != "cpu" and hardware.get("gpus"):
        return flat(str(hardware["gpus"][0]))
    cores = hardware.get("cores")
    return flat(str(hardware.get("cpu") or "processor")) + (f", {cores} cores" if cores else "")


def _pays(row: dict[str, Any], before: str) -> str:
    texts = row["break_even_texts"]
    return _NO_BREAK_EVEN.get(row["outcome"]) or f"{before}{about(texts)}"


def _teacher(report: dict[str, Any], row: dict[str, Any], before: str) -> CostLine:
    rate = report["benchmark"]["teacher"].get("rows_per_second")
    note = "not measured" if rate is None else f"{number(rate)} texts/s"
    return CostLine("teacher, here", note, money(row["usd_per_million"]), pays=_pays(row, before))


def _api(row: dict[str, Any], tokens: dict[str, Any], before: str) -> CostLine:
    asked = tokens.get(row["mode"])
    note = "not known: this run has no such answers"
    if asked:
        calls = "" if asked["calls"] == 1 else f"{number(asked['calls'])} x "
        note = f"{calls}{asked['input']:,.0f} tokens in, {asked['output']:,.0f} out"
    how = f"{MODES[row['mode']]}: {note}"
    return CostLine(row["name"], how, money(row["usd_per_million"]), row["date"], pays=_pays(row, before))


def _published(row: dict[str, Any]) -> CostLine:
    co2 = " to ".join(number(value, 2) for value in row.get("kg_co2") or []) or NOTHING
    name, note = f"as published: {row['name']}", row.get("note") or ""
    return CostLine(name, note, money(row.get("usd")), row["date"], co2=co2)


def sources(report: dict[str, Any]) -> list[str]:
    """Where prices and published figures come from, each place once."""
    costs = worked_out(report) or {}
    named = [*costs.get("rows", []), *(costs.get("published") or [])]
    return sources_of(named)


def limits(report: dict[str, Any]) -> list[str]:
    """What the economics do not say."""
    costs, student = worked_out(report), report["benchmark"]["student"]
    if costs is None:
        return []
    breaks_even = any(row["outcome"] in ("pays", "never") for row in costs["rows"])
    said = []
    if breaks_even:
        said.append(
            "The break-even counts machines at work, at their prices by the hour. It leaves out machines that wait, "
            "and the time of those who build and run all this; the review of labels counts where benchmark.review "
            "says it. It compares costs alone: the quality of APIs was not measured here."
        )
    if costs["tokens"] and len(costs["rows"]) > 1:
        counted = next(iter(costs["tokens"].values()))["counted"]
        said.append(
            f"API prices are list prices of the day in the table. Tokens are {flat(counted)}; "
            "an API's own tokenizer counts otherwise."
        )
    if breaks_even and costs["one_off"]["labelling_usd"] is None:
        said.append(
            "What labelling cost is not known, so that the student breaks even later than said here: it counts from "
            "benchmark.labelling_usd, or from the teacher's time and price_per_hour."
        )
    if energy := student.get("energy"):
        said.append(
            f"Energy was measured by {energy['tool']} over {number(energy['seconds'], 2)} s "
            f"(processor: {energy['cpu_method']}; memory: always estimated). It counts the whole machine: what else "
            "runs there is counted too, cooling and the making of the machine are not."
        )
    return said
