"""What the economics of a run say, in words and lines. Reads ``report.json`` alone; an older one has no economics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.report.text import NOTHING, flat, money, number, sources_of

MODES = {"direct": "direct", "cot": "chain of thought", "cot-3": "chain of thought, its reasons not counted"}


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
    found: dict[str, Any] | None = report["benchmark"].get("economics")
    return found


def verdict(report: dict[str, Any]) -> str:
    """From how many texts on the student pays: against its teacher, and against the cheapest API of the table."""
    found = worked_out(report)
    if found is None:
        return ""
    teacher, *apis = found["rows"]
    known = [row for row in apis if row["usd_per_million"] is not None and row["mode"] != "cot-3"]
    cost = found["one_off"]
    least = "" if cost["complete"] else "at least "
    said = [_against("its teacher", teacher, least)] if teacher["outcome"] != "unknown" else []
    if known:
        cheapest = min(known, key=lambda row: row["usd_per_million"])
        said.append(_against(f"the cheapest API of the table ({_called(cheapest)})", cheapest, least))
    if not said:
        return ""
    return f" The student cost {least}{money(cost['usd'])} USD to make: {'; '.join(said)}."


def _against(whom: str, row: dict[str, Any], least: str) -> str:
    if row["outcome"] == "never":
        return f"it never pays against {whom}, which is no dearer"
    return f"it pays from {least}{about(row['break_even_texts'])} texts on against {whom}"


def about(texts: int) -> str:
    """A number of texts, rounded up to two digits: what it rests on was measured once."""
    step = 10 ** max(0, len(str(texts)) - 2)
    return f"{-(-texts // step) * step:,}"


def _called(row: dict[str, Any]) -> str:
    return f"{flat(row['name'])}, {MODES[row['mode']]}, {row['date']}" if row["mode"] else row["name"]


def parts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The one-off cost as (what, USD): its parts, and their sum."""
    cost = (worked_out(report) or {}).get("one_off")
    if cost is None:
        return []
    total = money(cost["usd"]) if cost["complete"] else f"at least {money(cost['usd'])}"
    return [
        ("labelling", "not known" if cost["labelling_usd"] is None else money(cost["labelling_usd"])),
        ("training", money(cost["training_usd"])),
        ("review by people", money(cost["review_usd"])),
        ("together", total),
    ]


def lines(report: dict[str, Any]) -> list[CostLine]:
    """The table: the student and the teacher here, each API asked in two ways, and what others published."""
    found = worked_out(report)
    if found is None:
        return []
    least = "" if found["one_off"]["complete"] else "at least "
    return [
        _student(report["benchmark"]["student"]),
        _teacher(report, found["rows"][0], least),
        *(_api(row, found["tokens"], least) for row in found["rows"][1:]),
        *map(_published, found.get("published") or []),
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
    return [one | {"machine": machine_of(one)} for one in (here, *elsewhere)]


def machine_of(student: dict[str, Any]) -> str:
    """What the student was timed on: the GPU, or the processor and its cores."""
    hardware = student.get("hardware") or {}
    if student.get("device") != "cpu" and hardware.get("gpus"):
        return flat(str(hardware["gpus"][0]))
    cores = hardware.get("cores")
    return flat(str(hardware.get("cpu") or "processor")) + (f", {cores} cores" if cores else "")


def _pays(row: dict[str, Any], least: str) -> str:
    texts = row["break_even_texts"]
    return {"never": "never: no dearer", "unknown": "not known"}.get(row["outcome"]) or f"{least}{about(texts)}"


def _teacher(report: dict[str, Any], row: dict[str, Any], least: str) -> CostLine:
    rate = report["benchmark"]["teacher"].get("rows_per_second")
    note = "not measured" if rate is None else f"{number(rate)} texts/s"
    return CostLine("teacher, here", note, money(row["usd_per_million"]), pays=_pays(row, least))


def _api(row: dict[str, Any], tokens: dict[str, Any], least: str) -> CostLine:
    asked = tokens.get(row["mode"])
    note = "not known: this run has no such answers"
    if asked:
        calls = "" if asked["calls"] == 1 else f"{number(asked['calls'])} x "
        note = f"{calls}{asked['input']:,.0f} tokens in, {asked['output']:,.0f} out"
    how = f"{MODES[row['mode']]}: {note}"
    return CostLine(row["name"], how, money(row["usd_per_million"]), row["date"], pays=_pays(row, least))


def _published(row: dict[str, Any]) -> CostLine:
    co2 = " to ".join(number(value, 2) for value in row.get("kg_co2") or []) or NOTHING
    name, note = f"as published: {row['name']}", row.get("note") or ""
    return CostLine(name, note, money(row.get("usd")), row["date"], co2=co2)


def sources(report: dict[str, Any]) -> list[str]:
    """Where prices and published figures come from, each place once."""
    found = worked_out(report) or {}
    named = [*found.get("rows", []), *(found.get("published") or [])]
    return sources_of(named)


def limits(report: dict[str, Any]) -> list[str]:
    """What the economics do not say."""
    found, student = worked_out(report), report["benchmark"]["student"]
    if found is None:
        return []
    said = [
        "The break-even counts machines at work, at their prices by the hour. It leaves out machines that wait, and "
        "the time of those who build and run all this; the review of labels counts where benchmark.review says it."
    ]
    if found["tokens"] and len(found["rows"]) > 1:
        counted = next(iter(found["tokens"].values()))["counted"]
        said.append(
            f"API prices are list prices of the day in the table. Tokens are {flat(counted)}; "
            "an API's own tokenizer counts otherwise."
        )
    if found["one_off"]["labelling_usd"] is None:
        said.append(
            "What labelling cost is not known, so that the student pays later than said here: it counts from "
            "benchmark.labelling_usd, or from the teacher's time and price_per_hour."
        )
    if energy := student.get("energy"):
        said.append(
            f"Energy was measured by {energy['tool']} over {number(energy['seconds'], 2)} s "
            f"(processor: {energy['cpu_method']}; memory: always estimated). It counts the whole machine: what else "
            "runs there is counted too, cooling and the making of the machine are not."
        )
    return said
