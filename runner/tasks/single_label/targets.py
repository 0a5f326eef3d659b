"""What a student learns of a row: a probability for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.spec import Spec


def names(spec: Spec) -> list[str]:
    """The labels, in the spec's order."""
    return list(spec.task.labels)


def parts(value: str) -> tuple[str, ...]:
    """The label alone."""
    return (value,)


def of(verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """The teacher's probabilities, shape ``(rows, labels)``."""
    return np.array([verdict["probabilities"] for verdict in verdicts], dtype=np.float32)


def confidence(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """How sure the teacher is of each row, shape ``(rows,)``, from its probabilities of shape ``(rows, labels)``.

    0 where all labels are alike to it, 1 where it gives one label everything.
    """
    even = 1 / targets.shape[1]
    sure: NDArray[np.float32] = (targets.max(axis=1) - even) / (1 - even)
    return sure.clip(1e-6, 1)  # never nothing at all, so that a mean weighted with it is always there
