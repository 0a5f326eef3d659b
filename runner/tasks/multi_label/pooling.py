"""Several teachers' answers as one, label by label: each label is a question of yes and no of its own.

So a teacher that is good at some labels weighs more there (:mod:`runner.tasks.single_label.dawid_skene`, which knows
them by how far the others bear them out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.tasks.single_label.dawid_skene import EQUAL, krippendorff_alpha, pairwise_agreement, pool


@dataclass(frozen=True)
class PooledLabels:
    """``probabilities`` ``(rows, labels)`` of yes; ``weights`` ``(teachers,)``, the mean over labels; ``method`` is
    that of most trust: equal weights only where no label allowed others."""

    probabilities: NDArray[np.float64]
    weights: NDArray[np.float64]
    method: str


def pool_labels(shares: NDArray[np.float64], missing: NDArray[np.bool_]) -> PooledLabels:
    """The teachers' ``shares`` ``(rows, teachers, labels)`` of yes as one for each row.

    Those that are ``missing`` ``(rows, teachers)`` may hold anything.

    :raises ValueError: when shapes do not fit, or a share that is there is none.
    """
    each = [pool(np.stack([1 - shares[:, :, k], shares[:, :, k]], axis=2), missing) for k in range(shares.shape[2])]
    methods = {found.method for found in each}
    return PooledLabels(
        np.stack([found.probabilities[:, 1] for found in each], axis=1),
        np.mean([found.weights for found in each], axis=0),
        next(iter(methods - {EQUAL}), EQUAL),
    )


def alpha(given: Sequence[Sequence[Sequence[str] | None]], labels: Sequence[str]) -> float:
    """Krippendorff's alpha for yes or no, the mean over labels that some teacher gives; NaN where no label tells.

    ``given`` are the rows' values by teacher, None for an abstention.
    """
    each = [krippendorff_alpha(_yes(given, label)) for label in labels]
    known = [one for one in each if not math.isnan(one)]
    return sum(known) / len(known) if known else math.nan


def same_value(given: Sequence[Sequence[Sequence[str] | None]]) -> NDArray[np.float64]:
    """``(teachers, teachers)``: of the rows that both labelled, the share with exactly the same labels."""
    number: dict[tuple[str, ...], int] = {}
    votes = [[-1 if one is None else number.setdefault(tuple(one), len(number)) for one in row] for row in given]
    return pairwise_agreement(np.array(votes, dtype=np.int64))


def _yes(given: Sequence[Sequence[Sequence[str] | None]], label: str) -> NDArray[np.int64]:
    return np.array([[-1 if one is None else int(label in one) for one in row] for row in given], dtype=np.int64)
