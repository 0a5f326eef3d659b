"""How good lists of labels are against the experts', and which of two systems is better on the same texts.

Macro F1 decides, as in what is published of such data: each label counts as much as any other, however rare it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec
from runner.tasks.multi_label import metrics, predictions

PRIMARY = "macro_f1"
SUMMARY = metrics.FIGURES
PAIRED = "paired_bootstrap"
TEST = "a paired bootstrap of macro F1"

ANSWER = (pa.field("label", pa.list_(pa.string())), pa.field("probabilities", pa.list_(pa.float64())))


def key(spec: Spec) -> dict[str, Any]:
    """Nothing but rows and answers."""
    return {}


def about(spec: Spec) -> dict[str, Any]:
    """The labels, in the order of every list of probabilities."""
    return {"labels": list(spec.task.labels)}


def answers(
    spec: Spec, predicted: NDArray[np.floating[Any]], decision: predictions.Decision = None
) -> list[dict[str, Any]]:
    """The student's labels with its probabilities, shape ``(rows, labels)``; None for both where not finite."""
    said = predictions.values(spec.task.labels, predicted, decision)
    return [
        {"label": value, "probabilities": None if value is None else probabilities.tolist()}
        for value, probabilities in zip(said, predicted, strict=True)
    ]


def score(
    spec: Spec,
    truth: Sequence[Sequence[str]],
    given: Sequence[Mapping[str, Any]],
    weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """F1, exact match, calibration and intervals (:func:`runner.tasks.multi_label.metrics.score`)."""
    nothing = [np.nan] * len(spec.task.labels)
    known = any(answer.get("probabilities") for answer in given)
    probabilities = np.array([answer.get("probabilities") or nothing for answer in given]) if known else None
    return metrics.score(
        spec.task.labels,
        truth,
        [answer["label"] for answer in given],
        probabilities,
        spec.evaluate.resamples,
        spec.evaluate.seed,
        None if weights is None else np.array(weights, dtype=np.float64),
    )


def estimates(
    spec: Spec,
    truth: Mapping[str, Sequence[str]],
    teacher: Mapping[str, Sequence[str] | None],
    student: Mapping[str, Sequence[str] | None] | None,
    population: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """F1 and exact match of both on all texts: sampled rows weighted by how many each one stands for.

    Intervals are those of rows drawn again. What is guessed of rows that were not drawn is not used here: of exact
    lists it says little, and of F1 there is no such estimate.
    """
    sampled = [row for row in population if row["inclusion"] is not None]
    ids, weights = [row["id"] for row in sampled], np.array([1 / row["inclusion"] for row in sampled])
    labels, resamples, seed = spec.task.labels, spec.evaluate.resamples, spec.evaluate.seed
    true = [truth[id_] for id_ in ids]

    def figures(given: Mapping[str, Sequence[str] | None]) -> dict[str, Any]:
        answer = [given.get(id_) for id_ in ids]
        found = metrics.score(labels, true, answer, None, resamples, seed, weights)
        return {name: found[name] for name in (*SUMMARY, "ci95")}

    found = {"rows": len(ids), "population": len(population), "teacher": figures(teacher)}
    if student is None:
        return found
    by_teacher, by_student = ([given.get(id_) for id_ in ids] for given in (teacher, student))
    difference = metrics.paired(labels, true, by_teacher, by_student, resamples, seed, weights)
    return found | {"student": figures(student), "difference": difference}


def primary(truth: Sequence[Sequence[str]], given: Sequence[Sequence[str] | None]) -> float:
    """The macro F1 of lists alone."""
    return metrics.macro_f1(_met(truth, given), truth, given)


def paired(
    truth: Sequence[Sequence[str]], a: Sequence[Sequence[str] | None], b: Sequence[Sequence[str] | None]
) -> dict[str, Any]:
    """Whether two systems have the same macro F1 (:func:`runner.tasks.multi_label.metrics.paired`)."""
    return metrics.paired(_met(truth, a, b), truth, a, b)


def _met(*values: Sequence[Sequence[str] | None]) -> list[str]:
    """All labels that occur: no other has a part in macro F1."""
    return sorted({label for system in values for value in system for label in value or ()})
