"""A student's answers, probabilities of shape ``(rows, labels)``, as labels.

``argmax`` of NaN is 0, so that a row without a finite answer would get the first label: whoever makes a label of
probabilities goes through :func:`places`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.tasks.single_label.rules import written

__all__ = ["answers_of", "certainty", "columns", "places", "values", "written"]


def answers_of(config: Mapping[str, Any]) -> bool:
    """By what ``transformers`` calls the problem."""
    return config.get("problem_type") == "single_label_classification"


def places(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The place of each row's most probable label, shape ``(rows,)``; -1 where the row is not all finite numbers."""
    sound = np.isfinite(probabilities).all(axis=1)
    return np.where(sound, probabilities.argmax(axis=1), -1).astype(np.int64)


def values(labels: Sequence[str], probabilities: NDArray[np.floating], decision: None = None) -> list[str | None]:
    """The most probable label of each row; None where the row is not all finite numbers."""
    return [labels[place] if place >= 0 else None for place in places(probabilities)]


def certainty(probabilities: NDArray[np.float32], decision: None = None) -> NDArray[np.float32]:
    """The probability of each row's label, shape ``(rows,)``."""
    sure: NDArray[np.float32] = probabilities.max(axis=1)
    return sure


def columns(
    labels: Sequence[str], probabilities: NDArray[np.float32], silent: NDArray[np.bool_], decision: None = None
) -> dict[str, pa.Array]:
    """The columns ``label``, ``probability`` (of that label) and ``probability_<label>``; null for ``silent`` rows."""
    said = values(labels, probabilities)
    shown = {"probability": certainty(probabilities)}
    shown |= {f"probability_{label}": probabilities[:, place] for place, label in enumerate(labels)}
    label = pa.array([None if no else value for no, value in zip(silent, said, strict=True)], pa.string())
    return {"label": label} | {
        name: pa.array(np.where(silent, np.nan, numbers), pa.float32(), from_pandas=True)
        for name, numbers in shown.items()
    }
