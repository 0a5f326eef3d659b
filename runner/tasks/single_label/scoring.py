"""How good labels are against the experts', and which of two systems is better on the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec
from runner.tasks.single_label import predictions

PRIMARY = "accuracy"
SUMMARY = ("accuracy", "macro_f1")
PAIRED = "mcnemar"
TEST = "McNemar's exact test"

ANSWER = (pa.field("label", pa.string()), pa.field("probabilities", pa.list_(pa.float64())))


def key(spec: Spec) -> dict[str, Any]:
    """Which label means none of the others, where one does."""
    return {} if spec.task.out_of_scope is None else {"out_of_scope": spec.task.out_of_scope}


def about(spec: Spec) -> dict[str, Any]:
    """The labels, in the order of every list of probabilities."""
    return {"labels": list(spec.task.labels)}


def answers(spec: Spec, predicted: NDArray[np.floating[Any]], decision: None = None) -> list[dict[str, Any]]:
    """The student's label with its probabilities, shape ``(rows, labels)``; None for both where they are not finite."""
    return [
        {"label": label, "probabilities": None if label is None else probabilities.tolist()}
        for label, probabilities in zip(predictions.values(spec.task.labels, predicted), predicted, strict=True)
    ]


def score(
    spec: Spec,
    truth: Sequence[str],
    given: Sequence[Mapping[str, Any]],
    weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Accuracy, F1, calibration and intervals (:func:`runner.tasks.single_label.metrics.score`).

    Where answers have probabilities, one that lacks them counts as undecided: it is no better than chance.
    """
    labels = spec.task.labels
    even = [1.0 / len(labels)] * len(labels)
    known = any("probabilities" in answer for answer in given)
    probabilities = np.array([answer.get("probabilities") or even for answer in given]) if known else None
    predicted = [answer["label"] for answer in given]
    metrics, _, outside = _measuring()
    figures: dict[str, Any] = metrics.score(
        labels,
        truth,
        predicted,
        probabilities,
        spec.evaluate.resamples,
        spec.evaluate.seed,
        None if weights is None else np.array(weights, dtype=np.float64),
    )
    name = spec.task.out_of_scope
    if name is not None:
        figures["out_of_scope"] = outside.out_of_scope(labels, name, truth, predicted, probabilities)
    return figures


def estimates(
    spec: Spec,
    truth: Mapping[str, str],
    teacher: Mapping[str, str | None],
    student: Mapping[str, str | None] | None,
    population: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Accuracy and macro F1 of both on all texts (:func:`runner.tasks.single_label.estimates.estimates`)."""
    found: dict[str, Any] = _measuring()[1].estimates(spec, truth, teacher, student, population)
    return found


def primary(truth: Sequence[str], given: Sequence[str | None]) -> float:
    """The accuracy of labels alone."""
    return float(np.mean([label == true for label, true in zip(given, truth, strict=True)]))


def paired(truth: Sequence[str], a: Sequence[str | None], b: Sequence[str | None]) -> dict[str, Any]:
    """McNemar's test (:func:`runner.tasks.single_label.metrics.mcnemar`)."""
    test: dict[str, Any] = _measuring()[0].mcnemar(truth, a, b)
    return test


def _measuring() -> tuple[Any, Any, Any]:
    """The modules that work figures out."""
    from runner.tasks.single_label import estimates, metrics, out_of_scope  # scikit-learn takes a second to load

    return metrics, estimates, out_of_scope
