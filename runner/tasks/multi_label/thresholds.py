"""From which probability on a label is given: chosen for the F1 of each label, on rows that were not learned.

The threshold that is best for F1 is half of the best F1 (Lipton, Elkan & Narayanaswamy 2014, arXiv:1402.1892): far
below one half for labels that are rare or hard. What a few rows show of it is mostly chance: the best threshold is a
mean over resampled rows, and that of a label with few rows is drawn to one that is common to all labels, as that one
is to one half. Knows numbers alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HALF = 0.5

PLACES = np.linspace(np.log(0.02 / 0.98), np.log(0.95 / 0.05), 61)
GRID = 1 / (1 + np.exp(-PLACES))
"""The thresholds that are tried, and before them the same in logits."""

STRENGTH = 20.0
"""As many rows with a label count as much as the common threshold."""

RESAMPLES = 50


def choose(probabilities: NDArray[np.floating], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The threshold of each label, shape ``(labels,)``; one half for all without rows, or where no label is given.

    ``probabilities`` and ``given``, whether the teacher gives the label, are ``(rows, labels)``.
    """
    rows, labels = given.shape
    positives = given.sum(axis=0)
    if not positives.any():
        return np.full(labels, HALF)
    weights = _resampled(rows)
    f1 = np.stack([_f1(probabilities[:, k], given[:, k], weights) for k in range(labels)])
    all_labels = _common(f1, positives)
    own = [_best(one) for one in f1]  # of each resample; NaN where it has no row with the label
    chosen = [
        _drawn(float(np.nanmean(best)), int(count), all_labels) if np.isfinite(best).any() else all_labels
        for best, count in zip(own, positives, strict=True)
    ]
    found: NDArray[np.float64] = _probability(np.array(chosen))
    return found


def common(probabilities: NDArray[np.floating], given: NDArray[np.bool_]) -> float:
    """The one threshold that is best for the F1 of all labels; what :func:`choose` draws rare ones to.

    :raises ValueError: when no row has a label.
    """
    positives, weights = given.sum(axis=0), _resampled(len(given))
    if not positives.any():
        raise ValueError("no row has a label, so that no threshold is better than another")
    f1 = np.stack([_f1(probabilities[:, k], given[:, k], weights) for k in range(given.shape[1])])
    return float(_probability(np.array(_common(f1, positives))))


def _common(f1: NDArray[np.float64], positives: NDArray[np.int_]) -> float:
    """In logits, from the F1 of each label, ``(labels, resamples, thresholds)``: one of two rows must not decide it."""
    best = _best(np.average(f1, axis=0, weights=positives / (positives + STRENGTH)))
    return _drawn(float(np.nanmean(best)), int(positives.sum()), 0.0) if np.isfinite(best).any() else 0.0


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return found


def _resampled(rows: int) -> NDArray[np.float64]:
    """How often each row is in each resample, shape ``(resamples, rows)``."""
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    return drawn.astype(np.float64)


def _f1(chances: NDArray[np.floating], given: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of one label at each threshold in each resample, shape ``(resamples, thresholds)``."""
    from scipy.sparse import csr_array  # takes a third of a second to load, for every command

    rows = len(chances)
    above = np.searchsorted(GRID, chances, side="left")  # so many thresholds are below the row's probability
    cells = csr_array((np.ones(rows), (np.arange(rows), above)), shape=(rows, len(GRID) + 1))
    counts, right = weights @ cells, (weights * given) @ cells
    taken, hit = (_from_above(one) for one in (counts, right))
    both = taken + (weights @ given)[:, None]
    found: NDArray[np.float64] = np.divide(2 * hit, both, out=np.zeros_like(both), where=both > 0)
    return found


def _from_above(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many rows are above each threshold, from how many are above just so many of them."""
    found: NDArray[np.float64] = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return found


def _best(f1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where F1 is highest in each resample, in logits: the middle of thresholds alike; NaN where it is 0 throughout."""
    top = f1.max(axis=1, keepdims=True)
    alike = (f1 >= top - 1e-12) & (top > 0)
    counts = alike.sum(axis=1)
    found: NDArray[np.float64] = np.divide(alike @ PLACES, counts, out=np.full(len(f1), np.nan), where=counts > 0)
    return found


def _drawn(found: float, rows: int, to: float) -> float:
    """What so many rows show, drawn to what is expected without them."""
    share = rows / (rows + STRENGTH)
    return share * found + (1 - share) * to
