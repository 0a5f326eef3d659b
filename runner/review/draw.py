"""In which order rows are asked, and with what probability each is among the first n.

Pareto sampling (Rosén 1997, doi:10.1016/S0378-3758(96)00186-3) whose target odds are proportional to a weight: a row
with a permanent uniform number ``u`` (Ohlsson 1998) stands at ``u / (1 - u) / weight``, and is among the first n with
a probability near ``c w / (1 + c w)``, where ``c`` makes these add up to n. As ``c`` scales all ranks alike, the order
does not depend on n: the sample can stop or go on at any row. Knows ids and numbers, no run folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def uniforms(ids: Sequence[str], seed: int) -> Floats:
    """Each row's own number in (0, 1), shape ``(rows,)``: of its id and the seed alone, whatever rows lie beside it."""
    digests = (hashlib.sha256(f"{seed}:{row}".encode()).digest()[:8] for row in ids)
    numbers = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.float64)
    # 53 bits and a half: neither 0 nor 1 in double precision.
    uniform: Floats = (np.floor(numbers / 2.0**12) + 0.5) / 2.0**52
    return uniform


def order(ids: Sequence[str], weights: ArrayLike, seed: int) -> NDArray[np.intp]:
    """The places of the rows in the order in which they are asked, shape ``(rows,)``.

    Equal weights give a simple random sample.

    :raises ValueError: when ids repeat, or weights are not as many, positive and finite.
    """
    weight = _weights(weights)
    if len(set(ids)) != len(ids) or len(ids) != len(weight):
        raise ValueError(f"{len(ids)} ids, {len(set(ids))} of them different, and {len(weight)} weights")
    uniform = uniforms(ids, seed)
    return np.argsort(np.log(uniform) - np.log1p(-uniform) - np.log(weight), kind="stable")


def inclusion(weights: ArrayLike, rows: int) -> Floats:
    """The probability of each row of the population to be among the first ``rows`` of :func:`order`, in (0, 1].

    They add up to ``rows``, and are exact for equal weights. For others they are those of Rosén (1997): with weights
    as :func:`weights` makes them, simulated frequencies differ from them by less than 1 %, at 20 rows as at 500.

    :raises ValueError: when ``rows`` is not from 1 to the population, or a weight is not positive and finite.
    """
    weight = _weights(weights)
    if not 1 <= rows <= len(weight):
        raise ValueError(f"a sample of {rows} rows from {len(weight)}")
    if rows == len(weight):
        return np.ones(len(weight))
    log_weight = np.log(weight / weight.mean())
    # Newton on log c: the sum of the probabilities grows in it, between these bounds.
    odds = np.log(rows / (len(weight) - rows))
    low, high = odds - log_weight.max(), odds - log_weight.min()
    scale = odds
    for _ in range(100):
        chance: Floats = 1 / (1 + np.exp(-(scale + log_weight)))
        excess = float(chance.sum()) - rows
        if abs(excess) <= 1e-9 * rows:
            break
        low, high = (low, scale) if excess > 0 else (scale, high)
        scale -= excess / float((chance * (1 - chance)).sum())
        if not low < scale < high:
            scale = (low + high) / 2
    return chance


def weights(error_probability: ArrayLike, cost: float = 0.05) -> Floats:
    """The weight of each row, mean 1, from the estimated probability that an answer to it is wrong.

    ``error_probability`` has shape ``(rows,)``, or ``(rows, systems)`` where the sample is to measure several. The best
    weights are proportional to the root of a row's error variance (Neyman 1934). Where the estimates say nothing, such
    weights only add noise: an interval grows by the root of ``mean(w) mean(1 / w)``. So the weights are the best ones
    for which this factor is at most ``1 + cost``: ``sqrt(v + m)``, the constant ``m`` as small as that allows (the
    Lagrange multiplier of the bound). As estimated probabilities are mostly too close to the middle, ``v`` is their
    square: it separates doubtful rows from the others as calibrated ones would.

    :raises ValueError: when a probability is not in [0, 1], there are no rows, or ``cost`` is not positive.
    """
    wrong = np.asarray(error_probability, dtype=np.float64)
    if not wrong.size or not np.all((wrong >= 0) & (wrong <= 1)):
        raise ValueError("error probabilities must be numbers from 0 to 1, one for each row")
    if not cost > 0:
        raise ValueError(f"the most that a useless guide may cost must be above 0, not {cost}")
    squares = np.square(wrong.reshape(len(wrong), -1))
    level = squares.mean(axis=0)
    variance = (squares / np.where(level > 0, level, 1)).mean(axis=1)
    if not variance.any():
        return np.ones(len(wrong))
    low, high = -30.0, 30.0  # the logarithm of m, beside a mean variance of about 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _spread(variance, middle) > (1 + cost) ** 2 else (low, middle)
    weight: Floats = np.sqrt(variance + np.exp(high))
    weight /= weight.mean()
    return weight


def _spread(variance: Floats, log_floor: float) -> float:
    weight = np.sqrt(variance + np.exp(log_floor))
    return float(weight.mean() * (1 / weight).mean())


def _weights(weights: ArrayLike) -> Floats:
    weight = np.asarray(weights, dtype=np.float64)
    if weight.ndim != 1 or not len(weight) or not np.all(np.isfinite(weight) & (weight > 0)):
        raise ValueError("weights must be positive numbers, one for each row")
    return weight
