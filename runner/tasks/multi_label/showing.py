"""Figures, tables, plots and words about lists of labels, for the report and the cards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from runner.spec import Spec
from runner.tasks.multi_label.tables import MANY, confused, doubtful, in_tables, left_out, mistaken
from runner.tasks.multi_label.wording import (
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
from runner.tasks.shared.shown import Figure, Question, choices

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
    Figure("macro_f1", "macro F1", "percent", "mean over labels"),
    Figure("ci95.macro_f1", "95 % interval", "interval"),
    Figure("micro_f1", "micro F1", "percent", "all labels together"),
    Figure("exact_match", "all labels right", "percent", "and none too many"),
    Figure("ece", "calibration error (ECE)", "percent", "mean over labels, 0 is best"),
    Figure("abstained", "abstained", "count", "counted as wrong"),
)

PAGE = "multi_label/report.html"
MODEL_CARD = "multi_label/model.md.jinja"
DATA_CARD = "multi_label/data.md.jinja"

PIPELINE_TAG = "text-classification"
TASK_NAME = "Multi-label text classification"
HUB_RESULTS = (
    ("macro_f1", "f1", "Macro F1", {"average": "macro"}),
    ("micro_f1", "f1", "Micro F1", {"average": "micro"}),
    ("exact_match", "accuracy", "Exact match", None),
)
"""Of each figure in the Hub's result table: its name here, the Hub's metric, how it is shown, and its arguments."""


def question(spec: Spec) -> Question:
    """As many of the labels as apply, in the order of the spec."""
    return Question("choices", choices(spec.task.labels, spec.task.descriptions))


def probabilities(spec: Spec, verdict: Mapping[str, Any]) -> dict[str, float] | None:
    """The teacher's probability that each label applies; None where it gave none."""
    given = verdict.get("probabilities")
    return None if given is None else dict(zip(spec.task.labels, given, strict=True))


def summary(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The p-value of the paired bootstrap, for a reader that looks for nothing else."""
    return {"paired_bootstrap_p": (evaluation.get("paired_bootstrap") or {}).get("p")}


def labelled(vote: Mapping[str, Any]) -> dict[str, Any]:
    """How often each label is given to a text, and how many labels a text has."""
    return {
        "class_shares": vote.get("class_shares") or {},
        **{name: vote.get(name) for name in ("mean_labels", "without_label")},
    }


def given(votes: pa.Table) -> dict[tuple[str, ...] | None, int]:
    """How often each list of labels was given, as a tuple; None: an abstention."""
    return dict(Counter(None if value is None else tuple(value) for value in votes["label"].to_pylist()))


def loading(model: str) -> str:
    """Prints the labels of each of two texts: those above their thresholds."""
    return (
        "from transformers import pipeline\n\n"
        f'classify = pipeline("{PIPELINE_TAG}", model={json.dumps(model)}, top_k=None, function_to_apply="sigmoid",\n'
        "                    truncation=True)\n"
        'thresholds = getattr(classify.model.config, "thresholds", {})\n'
        'for answer in classify(["A text of yours.", "Another one."]):\n'
        '    print([one["label"] for one in answer if one["score"] > thresholds.get(one["label"], 0.5)])'
    )


def plots(report: Mapping[str, Any]) -> dict[str, str]:
    """F1 by label, reliability and shares, as SVG."""
    from runner.tasks.multi_label.plots import all_plots  # matplotlib takes a second to load

    return all_plots(report)


def page(report: Mapping[str, Any]) -> dict[str, Any]:
    """The tables by label and of confusions."""
    scores = report["evaluate"]
    return {"confused": confused(scores), "by_class": in_tables(scores), "left_out": left_out(scores)}


def model_card(report: Mapping[str, Any]) -> dict[str, Any]:
    """The table by label, where it was measured, and how many labels are listed."""
    scores = report["evaluate"]
    if not scores["rows"]:
        return {"by_class": [], "left_out": "", "most": MANY}
    return {"by_class": in_tables(scores), "left_out": left_out(scores), "most": MANY}


def data_card(report: Mapping[str, Any], given: Mapping[tuple[str, ...] | None, int]) -> dict[str, Any]:
    """How often each label was given, by the teacher and by experts; of many labels the most frequent."""
    scores = report["evaluate"]
    labels, support = scores["labels"], (scores.get("teacher") or {}).get("per_class") or {}
    texts: Counter[str] = Counter()
    for value, count in given.items():
        texts.update(dict.fromkeys(value or (), count))
    counted = labels if len(labels) <= MANY else sorted(labels, key=lambda label: -texts[label])[:MANY]
    return {
        "labels": labels,
        "counts": [(label, texts[label], support.get(label, {}).get("support", 0)) for label in counted],
        "without": given.get((), 0),
        "uncounted": max(0, len(labels) - MANY),
    }
