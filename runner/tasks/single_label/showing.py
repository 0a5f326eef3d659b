"""Figures, tables, plots and words about labels, for the report and the cards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from runner.spec import Spec
from runner.tasks.shared.shown import Figure, Question, choices
from runner.tasks.single_label.tables import (
    MANY,
    NUMBERED,
    PICTURED,
    confused,
    doubtful,
    in_tables,
    left_out,
    mistaken,
    not_on_page,
    on_page,
    outside,
)
from runner.tasks.single_label.wording import (
    agreement,
    asked,
    beside,
    compared,
    limits,
    opening,
    pair,
    pooled,
    quality,
)

__all__ = [
    "agreement",
    "asked",
    "beside",
    "compared",
    "doubtful",
    "limits",
    "mistaken",
    "opening",
    "pair",
    "pooled",
    "quality",
]

FIGURES = (
    Figure("accuracy", "accuracy", "percent", adjective="right"),
    Figure("ci95.accuracy", "95 % interval", "interval"),
    Figure("macro_f1", "macro F1", "decimal"),
    Figure("balanced_accuracy", "balanced accuracy", "percent"),
    Figure("ece", "calibration error (ECE)", "percent", "0 is best"),
    Figure("abstained", "abstained", "count", "counted as wrong"),
)

PAGE = "single_label/report.html"
MODEL_CARD = "single_label/model.md.jinja"
DATA_CARD = "single_label/data.md.jinja"

PIPELINE_TAG = "text-classification"
TASK_NAME = "Text classification"
HUB_RESULTS = (
    ("accuracy", "accuracy", "Accuracy", None),
    ("macro_f1", "f1", "Macro F1", {"average": "macro"}),
)
"""Of each figure in the Hub's result table: its name here, the Hub's metric, how it is shown, and its arguments."""


def question(spec: Spec) -> Question:
    """One of the labels, in the order of the spec."""
    return Question("choice", choices(spec.task.labels, spec.task.descriptions))


def probabilities(spec: Spec, verdict: Mapping[str, Any]) -> dict[str, float] | None:
    """The teacher's probability of each label; None where it gave none."""
    given = verdict.get("probabilities")
    return None if given is None else dict(zip(spec.task.labels, given, strict=True))


def summary(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The p-value of McNemar's test, for a reader that looks for nothing else."""
    return {"mcnemar_p": (evaluation.get("mcnemar") or {}).get("p")}


def labelled(vote: Mapping[str, Any]) -> dict[str, Any]:
    """The share of the teacher's labels that each class has."""
    return {"class_shares": vote.get("class_shares") or {}}


def given(votes: pa.Table) -> dict[str | None, int]:
    """How often each label was given; None: an abstention."""
    return dict(Counter(votes["label"].to_pylist()))


def loading(model: str) -> str:
    """Prints a label with its score for each of two texts."""
    return (
        "from transformers import pipeline\n\n"
        f'classify = pipeline("{PIPELINE_TAG}", model={json.dumps(model)}, truncation=True)\n'
        'for answer in classify(["A text of yours.", "Another one."]):\n'
        '    print(answer["label"], round(answer["score"], 3))'
    )


def plots(report: Mapping[str, Any]) -> dict[str, str]:
    """Confusion of teacher and student, reliability and class shares, as SVG."""
    from runner.tasks.single_label.plots import all_plots  # matplotlib takes a second to load

    return all_plots(report)


def page(report: Mapping[str, Any]) -> dict[str, Any]:
    """The tables by class and of confusions; ``many``: pairs stand for the matrix, and the classes are folded."""
    scores = report["evaluate"]
    labels = len(scores["labels"])
    return {
        # Where a matrix has names but no numbers, or there is none.
        "confused": confused(scores) if labels > NUMBERED else [],
        "many": labels > PICTURED,
        "by_class": on_page(scores),
        "left_out": not_on_page(scores),
        "outside": outside(scores),
    }


def model_card(report: Mapping[str, Any]) -> dict[str, Any]:
    """The table by class, where it was measured, and how many labels are listed."""
    scores = report["evaluate"]
    if not scores["rows"]:
        return {"by_class": [], "left_out": "", "most": MANY, "outside": []}
    return {
        "by_class": in_tables(scores),
        "left_out": left_out(scores),
        "most": MANY,
        "outside": outside(scores),
    }


def data_card(report: Mapping[str, Any], given: Mapping[str | None, int]) -> dict[str, Any]:
    """How often each label was given, by the teacher and by experts; of many labels the most frequent."""
    scores = report["evaluate"]
    labels, support = scores["labels"], (scores.get("teacher") or {}).get("per_class") or {}
    counted = labels if len(labels) <= MANY else sorted(labels, key=lambda label: -given.get(label, 0))[:MANY]
    return {
        "labels": labels,
        "counts": [(label, given.get(label, 0), support.get(label, {}).get("support", 0)) for label in counted],
        "uncounted": max(0, len(labels) - MANY),
    }
