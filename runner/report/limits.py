"""The limits of what was measured. Reads ``report.json`` alone, so that a copy of it can be shown anywhere."""

from __future__ import annotations

from typing import Any

from runner.report import economics
from runner.report.measured import measured
from runner.report.speed import busy, device
from runner.report.text import WRITERS, money, number, percent
from runner.student.vocabulary import Unknown
from runner.tasks.kinds import kind_of
from runner.tasks.shared.shown import Figure


def limits(report: dict[str, Any]) -> list[str]:
    """What these figures do not say."""
    speed = report["benchmark"]["student"]
    said = _of_quality(report) if measured(report) else [_of_no_quality(report)]
    said.append(_speed_and_cost(speed))
    if warning := busy(speed):
        said.append(warning)
    return _runtime_limits(report) + said + economics.limits(report) + _teacher_limits(report)


def _of_quality(report: dict[str, Any]) -> list[str]:
    """What the figures of quality rest on."""
    scores, task = report["evaluate"], kind_of(report["spec"])
    low, high = scores["student"]["ci95"][task.scoring.PRIMARY]
    said = [
        f"The interval is about {100 * (high - low):.0f} points wide: that is how much the choice of these "
        f"{scores['rows']:,} test texts matters. It says nothing about other seeds, or about texts of another "
        "kind or time.",
        "The experts' labels are taken as ground truth: where the experts err or could disagree, every figure "
        "here is affected.",
    ]
    said += task.showing.limits(scores)
    export = report.get("export") or {}
    chose = export.get("asked") == "auto" and not any("judged" in runtime for runtime in export["runtimes"])
    used = (
        "The student's runtime was chosen on the test texts; for all else they were used for measurement only."
        if chose  # by a version that did so
        else "The test texts were used for measurement only."
    )
    return [*said, f"{used} {_epoch(report)}"]


def _of_no_quality(report: dict[str, Any]) -> str:
    return "Nobody has labelled a text: whether the teacher is right, and with it the student, is not known. " + _epoch(
        report
    )


def _epoch(report: dict[str, Any]) -> str:
    """What the student's epoch was chosen by."""
    return (
        f"The epoch was chosen on {_judges(report['train'])}, judged by the teacher's labels, each counted "
        "by the teacher's confidence in it: where the teacher is regularly wrong, the student learns it."
    )


def _speed_and_cost(speed: dict[str, Any]) -> str:
    """Where speed was measured, and what the cost rests on: nothing is said of money that no price was given for."""
    said = f"Speed was measured on one machine ({device(speed.get('device'))}, one process)"
    if speed.get("price_per_hour") is None:
        return f"{said}. The student's cost is not known: the spec gives no price for its machine."
    return (
        f"{said}; cost is derived from it at {money(speed['price_per_hour'])} USD an hour, with the machine fully "
        "utilised. An idle machine costs the same."
    )


def _judges(train: dict[str, Any]) -> str:
    """The texts that the epoch was chosen on."""
    held_out = train.get("held_out")
    if held_out == 0:
        return "the training texts that the student learned from, which were too few to hold any out"
    return "held-out training texts" if held_out is None else f"{held_out:,} training texts that were held out"


def original(report: dict[str, Any]) -> dict[str, Any] | None:
    """The student as torch runs it, where the figures are of another runtime: what was measured of it there."""
    export = report.get("export") or {}
    if export.get("runtime", "torch") == "torch":
        return None
    return next((measured for measured in export["runtimes"] if measured["runtime"] == "torch"), None)


def _runtime_limits(report: dict[str, Any]) -> list[str]:
    """What to know of figures that are of an export."""
    plain = original(report)
    if plain is None:
        return []
    export, primary = report["export"], kind_of(report["spec"]).showing.FIGURES[0]
    used = next(measured for measured in export["runtimes"] if measured["runtime"] == export["runtime"])
    if plain[primary.name] is None:
        rate = number(plain["texts_per_second"])
        return [f"The student's speed is that of its {export['runtime']} export; torch runs {rate} texts a second."]
    said = (
        f"The student's quality and speed are those of its {export['runtime']} export. Its safetensors, run by "
        f"torch, {_on_test_texts(primary, plain[primary.name])}, at "
        f"{number(plain['texts_per_second'])} texts a second."
    )
    if judged := used.get("judged"):
        said += (
            f" The export gives the same label on {percent(used['agreement'])} of the test texts; it is used because "
            f"it does so on {percent(judged['agreement'])} of the {judged['rows']:,} training texts that judged it."
        )
    return [said]


def _on_test_texts(figure: Figure, value: float) -> str:
    if not figure.adjective:
        return f"have {WRITERS[figure.format](value)} {figure.words} on the test texts"
    return f"were {figure.adjective} on {WRITERS[figure.format](value)} of the test texts"


def _teacher_limits(report: dict[str, Any]) -> list[str]:
    label, price = report["label"], report["benchmark"]["teacher"]
    said = []
    if label.get("engine") == "recorded":
        said.append("The teacher's answers were recorded earlier: neither its speed nor its cost was measured here.")
    elif price.get("usd_per_million") is None:
        said.append("The teacher's cost is not known: the spec gives no price for its machine.")
    if label.get("abstained"):
        said.append(
            f"The teacher abstained on {label['abstained']:,} of {label['rows']:,} texts. The student was "
            "not trained on those among the training texts; in the test each counts as wrong for the teacher."
        )
    if shortlist := label.get("shortlist"):
        said.append(_shortlist(shortlist))
    if together := label.get("teachers"):
        said.append(kind_of(report["spec"]).showing.pooled(together))
    if (unknown := report["train"].get("unknown_tokens")) and (words := Unknown(**unknown)).too_many:
        said.append(
            f"The student's vocabulary does not have {words.words('training texts')}: it cannot "
            "tell them apart. A multilingual student may do much better."
        )
    if report["train"].get("truncated_rows"):
        said.append(
            "Training texts longer than the student's maximum length were truncated: "
            f"{report['train']['truncated_rows']:,} of {report['train']['rows']:,}."
        )
    return said


def _shortlist(shortlist: dict[str, Any]) -> str:
    """How often the right answer was among those that the teacher could choose from."""
    said = f"The teacher was shown {shortlist['size']:,} labels for each text, those nearest to it (teacher.shortlist)"
    if shortlist["recall"] is None:
        return f"{said}; how often the right one is among them is not known."
    return (
        f"{said}: the experts' label was among them for {percent(shortlist['recall'])} of {shortlist['rows']:,} test "
        "texts, and on the others the teacher could not be right."
    )
