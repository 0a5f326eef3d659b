"""How often teacher and student are right on all texts, from a blind sample of them (docs/trust.md).

The guide of the student is what students that did not see a row say of it: its own answers to texts that it learned
from would promise more than it keeps on new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.spec import Spec
from runner.tasks.shared import estimate
from runner.tasks.single_label import metrics

LEAST_DIFFERENCE = 0.01
"""No two systems are taken to agree for certain on a row that was not looked at."""

LEVELS = 40
"""Halvings of the search for the level at which an interval first leaves zero out."""


def estimates(
    spec: Spec,
    truth: Mapping[str, str],
    teacher: Mapping[str, str | None],
    student: Mapping[str, str | None] | None,
    population: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The figures of both systems on the whole population, JSON-able: see :meth:`runner.tasks.protocol.Scoring`."""
    places = {label: place for place, label in enumerate(spec.task.labels)}
    sampled = np.array([place for place, row in enumerate(population) if row["inclusion"] is not None], dtype=np.intp)
    inclusion = np.array([population[place]["inclusion"] for place in sampled])
    ids = [population[place]["id"] for place in sampled]
    chance = _chances(spec, population)
    true = np.array([places[truth[id_]] for id_ in ids], dtype=np.intp)
    by_teacher = _answers(places, [teacher.get(row["id"]) for row in population])
    by_others = _answers(places, [row["opinion"] for row in population])
    guide = estimate.given(chance, by_teacher)
    by_teacher_there = by_teacher[sampled]
    found: dict[str, Any] = {
        "rows": len(sampled),
        "population": len(population),
        "teacher": _figures(
            estimate.mean(by_teacher_there == true, guide[sampled], guide, inclusion),
            _macro_f1(spec, true, by_teacher_there, 1 / inclusion),
        ),
    }
    if student is None:
        return found
    by_student = _answers(places, [student[id_] for id_ in ids])
    guide = estimate.given(chance, by_others)
    found["student"] = _figures(
        estimate.mean(by_student == true, guide[sampled], guide, inclusion),
        _macro_f1(spec, true, by_student, 1 / inclusion),
    )
    apart = (by_student == true).astype(int) - (by_teacher_there == true).astype(int)
    guide = np.maximum(estimate.disagreement(chance, by_others, by_teacher), LEAST_DIFFERENCE)
    return found | {"difference": _difference(apart, guide[sampled], guide, inclusion)}


def _chances(spec: Spec, population: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """What is guessed of the truth of each row, shape ``(rows, labels)``."""
    even = [1 / len(spec.task.labels)] * len(spec.task.labels)
    return np.array([row["consensus_probabilities"] or even for row in population], dtype=np.float64)


def _answers(places: Mapping[str, int], labels: Sequence[str | None]) -> NDArray[np.intp]:
    return np.array([-1 if label is None else places[label] for label in labels], dtype=np.intp)


def _figures(accuracy: estimate.Estimate, macro: tuple[float, float, float]) -> dict[str, Any]:
    point, low, high = macro
    return {
        "accuracy": accuracy.point,
        "macro_f1": point,
        "ci95": {"accuracy": [accuracy.low, accuracy.high], "macro_f1": [low, high]},
    }


def _macro_f1(
    spec: Spec, true: NDArray[np.intp], given: NDArray[np.intp], weights: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Macro F1 of weighted rows, with the percentile interval of rows that are drawn again with replacement."""
    return metrics.weighted_macro_f1(
        len(spec.task.labels), true, given, weights, spec.evaluate.resamples, spec.evaluate.seed
    )


def _difference(
    apart: NDArray[np.int_], guide_sampled: NDArray[np.float64], guide: NDArray[np.float64], inclusion: NDArray[Any]
) -> dict[str, Any]:
    """By how much the student's accuracy is above its teacher's, and the p-value: one less the level at which the
    interval first holds zero."""
    found = estimate.difference(apart, guide_sampled, guide, inclusion)
    low, high = 0.0, 1.0
    for _ in range(LEVELS if found.point else 0):
        level = (low + high) / 2
        tried = estimate.difference(apart, guide_sampled, guide, inclusion, level)
        low, high = (low, level) if tried.low <= 0 <= tried.high else (level, high)
    p = 1 - low if found.point else 1.0
    return {
        "p": p,
        "only_a_right": int((apart < 0).sum()),
        "only_b_right": int((apart > 0).sum()),
        "rows": len(apart),
        "difference": [found.point, found.low, found.high],
    }
