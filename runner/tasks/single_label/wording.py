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
    return "better" if student > teacher else "worse"


def opening(evaluation: Mapping[str, Any]) -> str:
    """Both accuracies in a sentence."""
    student, teacher = evaluation["student"], evaluation["teacher"]
    low, high = student["ci95"]["accuracy"]
    return (
        f"The student is right on {percent(student['accuracy'])} of {student['rows']:,} expert-labelled "
        f"texts (95 % interval {interval(low, high)}), its teacher on {percent(teacher['accuracy'])}."
    )


def worse_by_at_most(test: dict[str, Any]) -> float:
    """By how much the student's accuracy lies below its teacher's at most, with 95 % confidence (one-sided).

    The adjusted Wald interval for paired proportions of Agresti and Min (2005): half a text is added to each cell.
    """
    rows: float = test["rows"] + 2
    teacher, student = float(test["only_a_right"]) + 0.5, float(test["only_b_right"]) + 0.5
    difference = (student - teacher) / rows
    error = math.sqrt(max(0.0, (teacher + student) / rows - difference**2) / rows)
    return max(0.0, _ONE_SIDED_95 * error - difference)


def compared(evaluation: Mapping[str, Any]) -> str:
    """McNemar's test in words, without a full stop."""
    test = evaluation["mcnemar"]
    found, p = quality(evaluation), probability(test["p"])
    if found == "same":
        return "Both are right and wrong on exactly the same texts"
    if found == "not-shown":
        most = worse_by_at_most(test)
        most_said = f"; with 95 % confidence the student is at most {100 * most:.1f} points worse" if most else ""
        return f"The difference is not statistically significant (McNemar {p}{most_said})"
    better = {"better": "student", "worse": "teacher"}[found]
    return f"The {better} is better, and that is statistically significant (McNemar {p})"


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
    return ("right where the other is wrong", "McNemar's test", *counts)


def limits(evaluation: Mapping[str, Any]) -> list[str]:
    """Classes with too few test texts to say much of them."""
    rare = [
        f"{label} ({row['support']})"
        for label, row in evaluation["student"]["per_class"].items()
        if row["support"] < FEW_ROWS
    ]
    if not rare:
        return []
    return [
        f"Some classes have fewer than {FEW_ROWS} test texts, and their own figures are rough: {flat(listed(rare))}."
    ]
