"""How good the student is beside its teacher, in sentences: what money is told together with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runner.report.text import flat, interval, percent, probability
from runner.tasks.shared.labels import listed
from runner.tasks.shared.shown import Quality

SIGNIFICANT = 0.05

FEW_ROWS = 30
"""A class with fewer test rows than this gets a warning: one row moves its recall by 3 points or more."""

_ONE_SIDED_95 = 1.645


def quality(evaluation: Mapping[str, Any]) -> Quality:
    """By McNemar's test on the test texts, two-sided."""
    test = evaluation["mcnemar"]
    teacher, student = test["only_a_right"], test["only_b_right"]
    if not teacher + student:
        return "same"
    if test["p"] >= SIGNIFICANT:
        return "not-shown"
    if "difference" in test:
        return "better" if test["difference"][0] > 0 else "worse"
    return "better" if student > teacher else "worse"


def opening(evaluation: Mapping[str, Any]) -> str:
    """Both accuracies in a sentence."""
    student, teacher = evaluation["student"], evaluation["teacher"]
    low, high = student["ci95"]["accuracy"]
    if population := evaluation.get("population"):
        return (
            f"The student is right on about {percent(student['accuracy'])} of the texts (95 % interval "
            f"{interval(low, high)}, from a blind sample of {student['rows']:,} of {population:,}), its teacher on "
            f"{percent(teacher['accuracy'])}."
        )
    return (
        f"The student is right on {percent(student['accuracy'])} of {student['rows']:,} expert-labelled "
        f"texts (95 % interval {interval(low, high)}), its teacher on {percent(teacher['accuracy'])}."
    )


def worse_by_at_most(test: dict[str, Any]) -> float:
    """By how much the student's accuracy lies below its teacher's at most, with 95 % confidence (one-sided).

    Of a blind sample it is the lower end of the two-sided interval, which is a little further down. Else it is the
    adjusted Wald interval for paired proportions of Agresti and Min (2005): half a text is added to each cell.
    """
    if "difference" in test:
        return max(0.0, -float(test["difference"][1]))
    rows: float = test["rows"] + 2
    teacher, student = float(test["only_a_right"]) + 0.5, float(test["only_b_right"]) + 0.5
    difference = (student - teacher) / rows
    error = math.sqrt(max(0.0, (teacher + student) / rows - difference**2) / rows)
    return max(0.0, _ONE_SIDED_95 * error - difference)


def compared(evaluation: Mapping[str, Any]) -> str:
    """McNemar's test, or that of a blind sample, in words, without a full stop."""
    test = evaluation["mcnemar"]
    named = "by the blind sample" if "difference" in test else "McNemar"
    found, p = quality(evaluation), f"{named} {probability(test['p'])}"
    if found == "same":
        return "Both are right and wrong on exactly the same texts"
    if found == "not-shown":
        most = worse_by_at_most(test)
        most_said = f"; with 95 % confidence the student is at most {100 * most:.1f} points worse" if most else ""
        return f"The difference is not statistically significant ({p}{most_said})"
    better = {"better": "student", "worse": "teacher"}[found]
    return f"The {better} is better, and that is statistically significant ({p})"


def beside(paired: Mapping[str, Any]) -> str:
    """McNemar's test of another (a) and the student (b), in a few words."""
    if not paired["only_a_right"] + paired["only_b_right"]:
        return "the same texts right"
    if paired["p"] >= SIGNIFICANT:
        return f"no significant difference ({probability(paired['p'])})"
    better = "the student" if paired["only_b_right"] > paired["only_a_right"] else "it"
    return f"{better} is better ({probability(paired['p'])})"


def pair(evaluation: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """The texts that only one of the two is right on."""
    test = evaluation["mcnemar"]
    counts = f"{test['only_a_right']:,}", f"{test['only_b_right']:,}"
    note = "of the texts that were labelled" if "difference" in test else "McNemar's test"
    return ("right where the other is wrong", note, *counts)


def asked(form: str, votes: int) -> str:
    """What a teacher was asked for, and how often."""
    if form == "cot":
        return f"for its reasoning and then a label, up to {votes:,} times for each text"
    return "once for each text; the probability of every label was read off one token"


def pooled(teachers: Mapping[str, Any]) -> str:
    """How several teachers' labels were pooled, and how far they agree (Krippendorff 2011)."""
    weights, alpha = _weights(teachers), teachers["krippendorff_alpha"]
    agreement = "unknown" if alpha is None else f"{alpha:.2f}"
    return (
        f"{len(teachers['models'])} teachers were pooled ({teachers['method']}; weights {weights}). Their labels "
        f"agree with a Krippendorff's alpha of {agreement} (1 is full agreement). "
        "Weights are estimated without gold labels, and favour teachers that make the same mistakes."
    )


def agreement(vote: Mapping[str, Any], sampled: bool) -> list[str]:
    """How far votes and teachers agree, and what was done about the teacher's bias."""
    said, mean = [], vote.get("mean_agreement")
    if teachers := vote.get("teachers"):
        alpha = teachers.get("krippendorff_alpha")
        known = "not known" if alpha is None else f"{alpha:.2f} (1 is full agreement, 0 is chance)"
        number, method = len(teachers["models"]), teachers["method"]
        said += [
            f"{number} teachers were pooled ({method}), with weights {_weights(teachers)}.",
            f"Krippendorff's alpha between them is {known}.",
        ]
        if mean is not None:
            said.append(f"On average {100 * mean:.1f} % of the teachers that named a label gave the pooled one.")
    elif mean is not None and sampled:
        said.append(f"On average {100 * mean:.1f} % of a text's votes went to the label that won.")
    else:
        said.append("The teacher was asked once for each text: there are no votes to agree.")
    if vote.get("calibration") not in (None, "none"):
        said.append(f"A part of the teacher's bias was divided out of its probabilities ({vote['calibration']}).")
    return said


def _weights(teachers: Mapping[str, Any]) -> str:
    pairs = zip(teachers["models"], teachers["weights"], strict=True)
    return ", ".join(f"{model} {weight:.2f}" for model, weight in pairs)


def limits(evaluation: Mapping[str, Any]) -> list[str]:
    """Classes with too few test texts to say much of them."""
    rare = [
        f"{label} ({row['support']})"
        for label, row in evaluation["student"]["per_class"].items()
        if row["support"] < FEW_ROWS
    ]
    said = []
    if evaluation.get("population"):
        said.append(
            "The texts that were labelled are a blind sample in which doubtful ones are more frequent than in all. "
            "Shares and intervals allow for that; counts, as in the matrices, are of the labelled texts."
        )
    if not rare:
        return said
    return [
        *said,
        f"Some classes have fewer than {FEW_ROWS} test texts, and their own figures are rough: {flat(listed(rare))}.",
    ]
