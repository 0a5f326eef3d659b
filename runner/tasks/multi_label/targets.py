"""What a student learns of a row: for each label the probability that it applies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.spec import Spec

NO_LABEL = "(no label)"
"""What a row without a label is counted by."""


def names(spec: Spec) -> list[str]:
    """The labels, in the spec's order."""
    return list(spec.task.labels)


def parts(value: Sequence[str]) -> tuple[str, ...]:
    """The labels, or :data:`NO_LABEL`."""
    return tuple(value) or (NO_LABEL,)


def of(verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """The teacher's probabilities of yes, shape ``(rows, labels)``."""
    return np.array([verdict["probabilities"] for verdict in verdicts], dtype=np.float32)


def confidence(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """How sure the teacher is of each row, shape ``(rows,)``: of the label that it is least sure of.

    0 where one label is as likely to apply as not, 1 where each is certain.
    """
    sure: NDArray[np.float32] = np.abs(2 * targets - 1).min(axis=1)
    return sure.clip(1e-6, 1)  # never nothing at all, so that a mean weighted with it is always there
