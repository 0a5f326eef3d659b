"""In which order people look at rows: the most doubtful first, but not many that are nearly the same.

Rows that say nearly the same are boring to check one after the other, and the second teaches little that the first did
not. So each page is filled by doubt with rows that differ, from a few pages' worth of candidates; what was passed over
comes on the next page.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PAGE = 20
"""Rows that a person has in mind: no two of them are near-duplicates, as far as the candidates allow it."""

CANDIDATES = 4 * PAGE
"""The rows that a page chooses from: none comes more than a few pages later than its doubt would have it."""

NEAR = 0.8
"""The cosine from which two texts count as nearly the same, once what all texts have in common is taken away."""

DIGITS = 6
"""Of the doubt that decides; what differs less comes in the order of the rows, on any machine."""


def ordered(doubt: NDArray[np.float64], vectors: NDArray[np.floating] | None = None) -> NDArray[np.int64]:
    """The numbers of the rows in the order in which they are looked at, shape ``(rows,)``; deterministic.

    ``doubt`` ``(rows,)`` is the probability that a row is wrong; ``vectors`` ``(rows, width)`` say what is near what,
    None: nothing is.

    :raises ValueError: when a doubt is not a number, or shapes do not fit.
    """
    if not np.isfinite(doubt).all():
        raise ValueError("a doubt is not a finite number")
    by_doubt = np.argsort(-np.round(doubt, DIGITS), kind="stable")
    if vectors is None or len(doubt) < 2:
        return by_doubt
    if len(vectors) != len(doubt):
        raise ValueError(f"{len(vectors)} vectors for {len(doubt)} rows")
    mean = np.mean(vectors, axis=0, dtype=np.float64).astype(np.float32)
    pages, waiting, taken = [], by_doubt[:0], 0
    while taken < len(doubt) or len(waiting):
        fresh = by_doubt[taken : taken + CANDIDATES - len(waiting)]
        taken += len(fresh)
        candidates = np.concatenate([waiting, fresh])
        chosen = page_of(_near(vectors[candidates] - mean))
        pages.append(candidates[chosen])
        waiting = np.delete(candidates, chosen)
    return np.concatenate(pages)


def page_of(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The candidates of one page in their order: as many as fit and differ, then the first of the others.

    ``near`` ``(candidates, candidates)`` says which are nearly the same.
    """
    chosen: list[int] = []
    passed_over = np.zeros(len(near), dtype=bool)
    for candidate in range(len(near)):
        if len(chosen) == PAGE:
            break
        if not passed_over[candidate]:
            chosen.append(candidate)
            passed_over |= near[candidate]
    others = np.setdiff1d(np.arange(len(near)), chosen)
    return np.sort(np.concatenate([chosen, others[: max(0, PAGE - len(chosen))]]).astype(np.int64))


def _near(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of ``vectors`` ``(rows, width)`` point nearly the same way, shape ``(rows, rows)``."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, 1e-9)
    near: NDArray[np.bool_] = directions @ directions.T >= NEAR
    return near
