"""The outcome in plain sentences. What the student costs is never said without how good it is.

A student that is significantly worse than its teacher does not replace it: no number of texts earns its cost back, so
no break-even between the two is stated. Reads ``report.json`` alone.
"""

from __future__ import annotations

from typing import Any

from runner.report import economics
from runner.report.measured import measured, opening
from runner.report.text import money, number
from runner.tasks.kinds import kind_of


def verdict(report: dict[str, Any]) -> str:
    """Two to four sentences: how good both are, the student against its teacher, and against the cheapest API."""
    if not measured(report):
        return " ".join([opening(report), *_cost_alone(report)])
    how_good = kind_of(report["spec"]).showing.opening(report["evaluate"])
    return " ".join([how_good, _against_teacher(report), *_against_api(report)])


def _cost_alone(report: dict[str, Any]) -> list[str]:
    """What a million texts cost, without a word on whether that is worth it."""
    costs = {who: report["benchmark"][who].get("usd_per_million") for who in ("student", "teacher")}
    said = [f"{money(usd)} USD with the {who}" for who, usd in costs.items() if usd is not None]
    return [f"A million texts cost {' and '.join(said)}."] if said else []


def paired(report: dict[str, Any]) -> str:
    """The paired test in words."""
    return f"{kind_of(report['spec']).showing.compared(report['evaluate'])}."


def _against_teacher(report: dict[str, Any]) -> str:
    """Quality and cost against the teacher, in one sentence."""
    student, teacher = (report["benchmark"][who].get("usd_per_million") for who in ("student", "teacher"))
    showing = kind_of(report["spec"]).showing
    judged, said = showing.quality(report["evaluate"]), showing.compared(report["evaluate"])
    if student is None:
        return f"{said}."
    if teacher is None:
        return f"{said}, and a million texts cost {money(student)} USD with the student; with the teacher is not known."
    link = "but" if judged == "worse" else "and"
    if student >= teacher:
        pays = "" if judged == "worse" or not economics.worked_out(report) else ": it never breaks even"
        costs = f"{money(student)} USD with the student and {money(teacher)} USD with the teacher"
        return f"{said}, and the student is not cheaper{pays}; a million texts cost {costs}."
    ratio = teacher / student if student else 0
    times = f" ({number(ratio, 2)} times less)" if ratio > 1.05 else ""
    costs = f"a million texts cost {money(student)} USD instead of {money(teacher)} USD{times}"
    return f"{said}, {link} the student is cheaper: {costs}{_earned_back(report)}."


def _earned_back(report: dict[str, Any]) -> str:
    """From how many texts on the student has paid for itself; nothing where it is the worse of the two."""
    costs = economics.worked_out(report)
    if not costs or costs["rows"][0]["outcome"] != "pays" or not costs["one_off"]["usd"]:
        return ""
    cost, texts = costs["one_off"], economics.about(costs["rows"][0]["break_even_texts"])
    least = economics.least(costs)
    return f", which earns back what it cost to make ({least}{money(cost['usd'])} USD) after {least}{texts} texts"


def _against_api(report: dict[str, Any]) -> list[str]:
    """The break-even against the cheapest API of the price table, whose quality nobody measured here."""
    costs = economics.worked_out(report)
    known = [row for row in (costs or {"rows": []})["rows"][1:] if row["usd_per_million"] is not None]
    known = [row for row in known if row["mode"] != "cot-3" and row["outcome"] != "unknown"]
    if not costs or not known:
        return []
    row = min(known, key=lambda row: row["usd_per_million"])
    whom = f"the cheapest API of the table ({economics.called(row)}; its quality was not measured here)"
    if row["outcome"] == "never":
        return [f"Against {whom} the student never breaks even: the API costs no more."]
    least, texts = economics.least(costs), economics.about(row["break_even_texts"])
    told = bool(_earned_back(report))
    made = "" if told else f" (making it cost {least}{money(costs['one_off']['usd'])} USD)"
    return [f"Against {whom} the student breaks even after {least}{texts} texts{made}."]
