"""Which rows of a population are asked about, and with what probability: sequential Poisson sampling (Ohlsson 1998).

Each row has a permanent random number ``u`` between 0 and 1 and a weight ``w``; rows are asked in ascending order of
``u / w``. The first ``n`` rows of that order are a sample in which the inclusion probabilities are close to
``min(1, n w / sum(w))``, for every ``n``: so it can be stopped or extended at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.05
"""The least standard deviation that a row is taken to have: the guide may be sure of itself and wrong."""


def weights(doubt: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weight of each row: the standard deviation of being right, by the estimated probability of being wrong."""
    variance = np.clip(doubt, 0.0, 1.0) * (1 - np.clip(doubt, 0.0, 1.0))
    deviation: NDArray[np.float64] = np.maximum(np.sqrt(variance), FLOOR)
    return deviation


def order(ids: Sequence[str], weights: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """The places of the rows in the order in which they are asked, shape ``(rows,)``: the same for the same ids."""
    numbers = np.array([_number(seed, id_) for id_ in ids])
    places: NDArray[np.int64] = np.lexsort((np.array(ids), numbers / weights))
    return places


def inclusion(weights: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """The probability with which each row is among the first ``rows`` asked, shape ``(population,)``."""
    probability = np.zeros(len(weights))
    certain = np.zeros(len(weights), bool)
    while True:
        left = rows - certain.sum()
        probability = np.where(certain, 1.0, left * weights / max(weights[~certain].sum(), 1e-300))
        if (over := (probability > 1) & ~certain).any():
            certain |= over
        else:
            return probability


def _number(seed: int, id_: str) -> float:
    """A number between 0 and 1 that seed and id decide."""
    digest = hashlib.sha256(f"{seed}:{id_}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
