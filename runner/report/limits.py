"""The limits of what was measured. Reads ``report.json`` alone, so that a copy of it can be shown anywhere."""

from __future__ import annotations

from typing import Any

from runner.report import economics
from runner.report.speed import busy, device
from runner.report.text import money, number, percent
from runner.student.vocabulary import Unknown
from runner.tasks.kinds import kind_of


def limits(report: dict[str, Any]) -> list[str]:
    """What these figures do not say."""
    scores, speed = report["evaluate"], report["benchmark"]["student"]
    task = kind_of(report["spec"])
    low, high = scores["student"]["ci95"][task.scoring.PRIMARY]
    said = [
        f"The interval is about {100 * (high - low):.0f} points wide: that is how much the choice of these "
        f"{scores['rows']:,} test texts matters. It says nothing of other seeds, or of texts of another kind "
        "or from another time.",
        "The experts' labels are taken as the truth. Where the experts err or could disagree, so does every "
        "figure here.",
    ]
    said += task.showing.limits(scores)
    export = report.get("export") or {}
    chose = export.get("asked") == "auto" and not any("judged" in one for one in export["runtimes"])
    measured = (
        "The student's runtime was chosen on the test texts; for all else they were used to measure only."
        if chose  # by a version that did so
        else "The test texts were used to measure only."
    )
    said.append(
        f"{measured} The epoch was chosen on {_judges(report['train'])}, judged by the teacher's labels, each counted "
        "by the teacher's confidence in it: where the teacher is regularly wrong, the student learns it."
    )
    said.append(_speed_and_cost(speed))
    if warning := busy(speed):
        said.append(warning)
    return _runtime_limits(export) + said + economics.limits(report) + _teacher_limits(report)


def _speed_and_cost(speed: dict[str, Any]) -> str:
    """Where speed was measured, and what the cost rests on: nothing is said of money that no price was given for."""
    said = f"Speed was measured on one machine ({device(speed.get('device'))}, one process)"
    if speed.get("price_per_hour") is None:
        return f"{said}. The student's cost is not known: the spec gives no price for its machine."
    return (
        f"{said}, cost follows from it at {money(speed['price_per_hour'])} USD an hour with the machine fully busy. "
        "An idle machine costs as much."
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
    return next((one for one in export["runtimes"] if one["runtime"] == "torch"), None)


def _runtime_limits(export: dict[str, Any]) -> list[str]:
    """What to know of figures that are of an export."""
    plain = original({"export": export})
    if plain is None:
        return []
    used = next(one for one in export["runtimes"] if one["runtime"] == export["runtime"])
    said = (
        f"The student's figures, quality and speed, are of its {export['runtime']} export. Its safetensors, as torch "
        f"reads them, were right on {percent(plain['accuracy'])} of the test texts, at "
        f"{number(plain['texts_per_second'])} texts a second."
    )
    if judged := used.get("judged"):
        said += (
            f" The export gives their label on {percent(used['agreement'])} of the test texts; it is used because it "
            f"does so on {percent(judged['agreement'])} of the {judged['rows']:,} training texts that judged it."
        )
    return [said]


def _teacher_limits(report: dict[str, Any]) -> list[str]:
    label, price = report["label"], report["benchmark"]["teacher"]
    said = []
    if label.get("engine") == "recorded":
        said.append("The teacher's answers were recorded earlier: neither its speed nor its cost was measured here.")
    elif price.get("usd_per_million") is None:
        said.append("The teacher's cost is not known: the spec gives no price for its machine.")
    if label.get("abstained"):
        said.append(
            f"The teacher abstained on {label['abstained']:,} of {label['rows']:,} texts. The student never "
            "saw those of them that are training texts; in the test each counts as wrong for the teacher."
        )
    if together := label.get("teachers"):
        weights = ", ".join(
            f"{model} {weight:.2f}" for model, weight in zip(together["models"], together["weights"], strict=True)
        )
        alpha = together["krippendorff_alpha"]
        agreement = "unknown" if alpha is None else f"{alpha:.2f}"
        said.append(
            f"{len(together['models'])} teachers were pooled ({together['method']}; weights {weights}). Their labels "
            f"agree with a Krippendorff's alpha of {agreement} (1 is full agreement). "
            "Weights are estimated without gold labels, and too kind to teachers that err together."
        )
    if (unknown := report["train"].get("unknown_tokens")) and (found := Unknown(**unknown)).too_many:
        said.append(
            f"The student's vocabulary does not have {found.words('training texts')}: what stands there is all alike "
            "to it. A multilingual student may do much better."
        )
    if report["train"].get("truncated_rows"):
        said.append(
            "Of training texts longer than the student reads, it saw the beginning only: "
            f"{report['train']['truncated_rows']:,} of {report['train']['rows']:,}."
        )
    return said
