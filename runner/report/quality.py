"""Whether the student is as good as its teacher, as far as the test texts show: what money is told together with."""

from __future__ import annotations

from typing import Any, Literal

SIGNIFICANT = 0.05

Quality = Literal["better", "worse", "same", "not-shown"]
"""The student against its teacher. ``same``: right and wrong on the same texts; ``not-shown``: no significant
difference, which on few texts does not mean that there is none."""


def quality(evaluation: dict[str, Any]) -> Quality:
    """By McNemar's test on the test texts, two-sided."""
    test = evaluation["mcnemar"]
    teacher, student = test["only_a_right"], test["only_b_right"]
    if not teacher + student:
        return "same"
    if test["p"] >= SIGNIFICANT:
        return "not-shown"
    return "better" if student > teacher else "worse"
