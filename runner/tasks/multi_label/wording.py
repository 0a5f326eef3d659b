"""How good the student is beside its teacher, in sentences, where a text may have several labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.report.text import flat, interval, percent, probability
from runner.tasks.shared.labels import listed
from runner.tasks.shared.shown import Quality

SIGNIFICANT = 0.05

FEW_ROWS = 30
"""A label that fewer test texts have gets a warning: one text moves its recall by 3 points or more."""


def quality(evaluation: Mapping[str, Any]) -> Quality:
    """By the paired bootstrap of macro F1 on the test texts, two-sided."""
    test = evaluation["paired_bootstrap"]
    if not any(test["difference"]):
        return "same"
    if test["p"] >= SIGNIFICANT:
        return "not-shown"
    return "better" if test["difference"][0] > 0 else "worse"


def opening(evaluation: Mapping[str, Any]) -> str:
    """Both figures in a sentence."""
    student, teacher = evaluation["student"], evaluation["teacher"]
    low, high = student["ci95"]["macro_f1"]
    where = f"on {student['rows']:,} expert-labelled texts (95 % interval {interval(low, high)})"
    if population := evaluation.get("population"):
        where = (
            f"on all texts (95 % interval {interval(low, high)}, from a blind sample of {student['rows']:,} of "
            f"{population:,})"
        )
    return (
        f"The student's macro F1 is {percent(student['macro_f1'])} {where}, its teacher's "
        f"{percent(teacher['macro_f1'])}."
    )


def compared(evaluation: Mapping[str, Any]) -> str:
    """The paired bootstrap in words, without a full stop."""
    test, found = evaluation["paired_bootstrap"], quality(evaluation)
    if found == "same":
        return "Both come to the same macro F1"
    said = f"paired bootstrap {probability(test['p'])}"
    if found == "not-shown":
        most = max(0.0, -float(test["difference"][1]))
        most_said = f"; with 95 % confidence the student's macro F1 is at most {100 * most:.1f} points lower"
        return f"The difference is not statistically significant ({said}{most_said if most else ''})"
    better = {"better": "student", "worse": "teacher"}[found]
    return f"The {better} is better, and that is statistically significant ({said})"


def beside(paired: Mapping[str, Any]) -> str:
    """The paired bootstrap of another (a) and the student (b), in a few words."""
    if not any(paired["difference"]):
        return "the same macro F1"
    if paired["p"] >= SIGNIFICANT:
        return f"no significant difference ({probability(paired['p'])})"
    better = "the student" if paired["difference"][0] > 0 else "it"
    return f"{better} is better ({probability(paired['p'])})"


def pair(evaluation: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """The texts whose labels only one of the two has all right."""
    test = evaluation["paired_bootstrap"]
    return "all labels right where the other errs", "texts", f"{test['only_a_right']:,}", f"{test['only_b_right']:,}"


def asked(form: str, votes: int) -> str:
    """What a teacher was asked for, and how often."""
    if form == "cot":
        return f"for its reasoning and then a list of labels, up to {votes:,} times for each text"
    return "once for each label and text; the probability of yes was read off one token"


def pooled(teachers: Mapping[str, Any]) -> str:
    """How several teachers' labels were pooled, and how far they agree (Krippendorff 2011)."""
    alpha = teachers["krippendorff_alpha"]
    agreed = "unknown" if alpha is None else f"{alpha:.2f}"
    return (
        f"{len(teachers['models'])} teachers were pooled label by label ({teachers['method']}; weights "
        f"{_weights(teachers)}). They agree with a Krippendorff's alpha of {agreed} in the mean of all labels (1 is "
        "full agreement). Weights are estimated without gold labels, and favour teachers that make the same mistakes."
    )


def agreement(vote: Mapping[str, Any], sampled: bool) -> list[str]:
    """How far votes and teachers agree, and what was done about the teacher's bias."""
    said, mean = [], vote.get("mean_agreement")
    overlap = "labels in common with the outcome, as a share of those that either has (Jaccard's index)"
    if teachers := vote.get("teachers"):
        alpha = teachers.get("krippendorff_alpha")
        known = "not known" if alpha is None else f"{alpha:.2f} (1 is full agreement, 0 is chance)"
        said += [
            f"{len(teachers['models'])} teachers were pooled label by label ({teachers['method']}), with weights "
            f"{_weights(teachers)}.",
            f"Krippendorff's alpha between them is {known}, in the mean of all labels.",
        ]
        if mean is not None:
            said.append(f"On average {100 * mean:.1f} % of a teacher's {overlap}.")
    elif mean is not None and sampled:
        said.append(f"On average a vote has {100 * mean:.1f} % of its {overlap}.")
    else:
        said.append("The teacher was asked once for each text: there are no votes to agree.")
    if vote.get("calibration") not in (None, "none"):
        said.append(f"A part of the teacher's bias was divided out of its probabilities ({vote['calibration']}).")
    return said


def _weights(teachers: Mapping[str, Any]) -> str:
    pairs = zip(teachers["models"], teachers["weights"], strict=True)
    return ", ".join(f"{model} {_weight(weight)}" for model, weight in pairs)


def _weight(weight: Any) -> str:
    """A teacher's weight; that of each label where it has several, as their mean."""
    numbers = weight if isinstance(weight, list) else [weight]
    return f"{sum(numbers) / len(numbers):.2f}"


def limits(evaluation: Mapping[str, Any]) -> list[str]:
    """Labels that too few test texts have to say much of them."""
    rows = evaluation["student"]["per_class"]
    rare = [f"{label} ({row['support']})" for label, row in rows.items() if 0 < row["support"] < FEW_ROWS]
    unmet = [label for label, row in rows.items() if not row["support"]]
    said = []
    if evaluation.get("population"):
        said.append(
            "The texts that were labelled are a blind sample in which doubtful ones are more frequent than in all. "
            "Shares and intervals allow for that; counts are of the labelled texts."
        )
    if rare:
        said.append(
            f"Fewer than {FEW_ROWS} test texts have some of the labels, whose own figures are rough: "
            f"{flat(listed(rare))}. Each of them counts as much in macro F1 as a frequent one."
        )
    if unmet:
        said.append(f"No test text has {flat(listed(unmet))}: how well they are found is not known.")
    return said
