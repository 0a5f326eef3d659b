"""A student's answers, a probability for each label of shape ``(rows, labels)``, as lists of labels.

A label is given where its probability is above its threshold; ``decision`` has the threshold of each label, and without
one it is one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.tasks.multi_label.rules import written
from runner.tasks.multi_label.thresholds import HALF

__all__ = ["answers_of", "certainty", "columns", "values", "written"]

Decision = Mapping[str, float] | None


def answers_of(config: Mapping[str, Any]) -> bool:
    """By what ``transformers`` calls the problem."""
    return config.get("problem_type") == "multi_label_classification"


def values(
    labels: Sequence[str], probabilities: NDArray[np.floating], decision: Decision = None
) -> list[list[str] | None]:
    """The labels of each row, in their order; None where the row is not all finite numbers."""
    limits = np.array([HALF if decision is None else decision[label] for label in labels])
    sound = np.isfinite(probabilities).all(axis=1)
    above = probabilities > limits
    return [
        [label for label, yes in zip(labels, row, strict=True) if yes] if known else None
        for row, known in zip(above.tolist(), sound.tolist(), strict=True)
    ]


def certainty(probabilities: NDArray[np.float32], decision: Decision = None) -> NDArray[np.float32]:
    """The probability of what is said of the least sure label, shape ``(rows,)``: that it applies, or that it does not.

    With ``decision`` labels stand in the order of its thresholds, which is that of the student's outputs.
    """
    limits = np.array(list(decision.values())) if decision is not None else HALF
    said = np.where(probabilities > limits, probabilities, 1 - probabilities)
    sure: NDArray[np.float32] = said.min(axis=1)
    return sure


def columns(
    labels: Sequence[str],
    probabilities: NDArray[np.float32],
    silent: NDArray[np.bool_],
    decision: Decision = None,
) -> dict[str, pa.Array]:
    """The columns ``labels`` (a list) and ``probability_<label>``; null for ``silent`` rows."""
    said = values(labels, probabilities, decision)
    given = pa.array([None if no else value for no, value in zip(silent, said, strict=True)], pa.list_(pa.string()))
    return {"labels": given} | {
        f"probability_{label}": pa.array(
            np.where(silent, np.nan, probabilities[:, place]), pa.float32(), from_pandas=True
        )
        for place, label in enumerate(labels)
    }
