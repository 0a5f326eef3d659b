"""How good a system is on all rows, from a sample of them, with an interval that covers.

Rows of the sample have known inclusion probabilities (:func:`runner.review.draw.inclusion`). A *guide* is what is
guessed of every row, sampled or not: the better it is, the narrower the interval; however bad it is, the interval
stays right. Sources, formulas and measured coverage: docs/trust.md. Knows numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from runner.tasks.shared.tilting import Floats, Rows, Tilted, calibrate

SURE = 1e-3
"""No guide is believed to be surer than this."""
BIN = 0.02
"""Rows whose guides differ by less than this many logits are counted together."""
MOST_CELLS = 3_000_000
"""Of more rows times classes than these every so-manieth row stands for those beside it."""


@dataclass(frozen=True)
class Estimate:
    """A figure of the whole population with its interval, from so many rows of so many."""

    point: float
    low: float
    high: float
    rows: int
    population: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


def mean(
    values: ArrayLike,
    guide_sampled: ArrayLike | None,
    guide_all: ArrayLike | None,
    inclusion: ArrayLike,
    population: int | None = None,
    level: float = 0.95,
) -> Estimate:
    """The population's mean of values in [0, 1], as of right (1) and wrong (0) answers.

    ``values``, ``guide_sampled`` and ``inclusion`` are of the sampled rows, shape ``(n,)``; ``guide_all``, shape
    ``(N,)``, holds the expected value of every row, in [0, 1]. Without guides ``population`` says how many rows there
    are; with equal inclusion probabilities as well, the interval is Wilson's with finite population correction.

    :raises ValueError: when lengths differ, a number is out of range, or the sample is empty.
    """
    value, chance = _checked(values, inclusion)
    if guide_all is None or guide_sampled is None:
        if population is None or guide_all is not None or guide_sampled is not None:
            raise ValueError("needs a guide for sampled and all rows, or neither and the population")
        guide, counts, seen = np.zeros(1), np.array([float(population)]), np.zeros(len(value))
    else:
        every, seen = _logit(guide_all), _logit(guide_sampled)
        population = len(every)
        guide, counts = _binned(every)
    if len(seen) != len(value) or population < len(value):
        raise ValueError(f"{len(value)} values, {len(seen)} guides, and a population of {population}")
    if len(value) == population:
        return _census(float(value.mean()), population)
    outcome = np.stack([1 - value, value], axis=1)
    tilted = _tilted(outcome, _binary(seen, 1 / chance), _binary(guide, counts))
    found = [float(counts @ tilted.probabilities(tilt)[:, 1]) / population for tilt in tilted.interval(_z(level))]
    return _estimate(found, len(value), population)


def difference(
    values: ArrayLike, guide_sampled: ArrayLike, guide_all: ArrayLike, inclusion: ArrayLike, level: float = 0.95
) -> Estimate:
    """The mean of paired differences: 1 where only the first of two systems is right, -1 where only the second is.

    ``guide_all``, shape ``(N, 2)``, has the probabilities of 1 and of -1 for every row, ``guide_sampled`` those of the
    sampled ones, ``(n, 2)``: both 0 where the systems give the same answer, which makes the difference known.
    :func:`disagreement` makes it. The figures lie in [-1, 1].

    :raises ValueError: see :func:`mean`; when a value is none of -1, 0, 1, or not 0 where the guide says that it is.
    """
    value, chance = _checked(values, inclusion, low=-1.0)
    every, seen = np.asarray(guide_all, dtype=np.float64), np.asarray(guide_sampled, dtype=np.float64)
    if not np.isin(value, (-1, 0, 1)).all() or every.shape[1:] != (2,) or seen.shape != (len(value), 2):
        raise ValueError("paired differences are -1, 0 or 1, with a guide of two columns")
    if len(every) < len(value):
        raise ValueError(f"{len(value)} values, and a population of {len(every)}")
    _in_range(every, 0.0)
    if len(value) == len(every):
        return _census(float(value.mean()), len(every))
    differ, differ_seen = every.any(axis=1), seen.any(axis=1)
    if value[~differ_seen].any():
        raise ValueError("a row on which both systems give the same answer has a difference")
    if not differ.any():
        return Estimate(0.0, 0.0, 0.0, len(value), len(every))
    value, chance = value[differ_seen], chance[differ_seen]
    outcome = np.stack([value == 1, value == -1, value == 0], axis=1).astype(np.float64)
    sample = _ternary(seen[differ_seen], 1 / chance)
    whole = _ternary(every[differ], np.ones(int(differ.sum())))
    tilted = _tilted(outcome, sample, whole)
    plus_minus = np.array([1.0, -1.0, 0.0]) / len(every)
    found = [float((tilted.probabilities(t) @ plus_minus).sum()) for t in tilted.interval(_z(level))]
    return _estimate(found, len(seen), len(every))


def disagreement(probabilities: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """The guide of :func:`difference`, ``(rows, 2)``, from the truth's probabilities ``(rows, K)`` and two systems'
    answers as their places, ``(rows,)``, -1 for none."""
    chance = np.asarray(probabilities, dtype=np.float64)
    answers = [np.asarray(answer, dtype=np.intp) for answer in (first, second)]
    guide = np.stack([given(chance, answer) for answer in answers], axis=1)
    guide[answers[0] == answers[1]] = 0.0
    return guide


def given(probabilities: ArrayLike, answers: ArrayLike) -> Floats:
    """The guide of an accuracy: each row's probability of the answer that a system gave; almost 0 for none (-1)."""
    chance, answer = np.asarray(probabilities, dtype=np.float64), np.asarray(answers, dtype=np.intp)
    return np.where(answer >= 0, np.maximum(chance[np.arange(len(chance)), answer], SURE), SURE)


def macro_f1(
    truth: ArrayLike,
    sampled: ArrayLike,
    predicted: ArrayLike,
    probabilities: ArrayLike,
    inclusion: ArrayLike,
    level: float = 0.95,
) -> Estimate:
    """Macro F1 of a system's answers on the population, as :mod:`runner.tasks.single_label.metrics` defines it.

    ``truth`` and ``inclusion`` are of the sampled rows, ``(n,)``, whose places are ``sampled``; ``predicted`` the
    answers to all rows, ``(N,)``, as places of classes, -1 for none; ``probabilities``, ``(N, K)``, the guessed
    probabilities of the truth. The mean is over classes that were predicted, or that the sample has. It is estimated
    from expected counts, and its interval from the derivative of F1 by each row's truth (linearization).

    :raises ValueError: see :func:`mean`; when a class is not from 0 to K - 1.
    """
    chance, place, answers = np.asarray(probabilities, float), np.asarray(sampled, int), np.asarray(predicted, int)
    true, (count, classes) = np.asarray(truth, int), chance.shape
    _, probability = _checked(np.zeros(len(true)), inclusion)
    _in_range(chance, 0.0)
    if len(place) != len(true) or len(answers) != count or true.min() < 0 or max(true.max(), answers.max()) >= classes:
        raise ValueError(f"{len(true)} truths, {len(place)} places and {len(answers)} answers of {count} rows")
    outcome = np.eye(classes)[true]
    logits = np.log(np.maximum(chance, SURE / classes))
    shown = np.bincount(answers[answers >= 0], minlength=classes).astype(np.float64)
    counted = (shown > 0) | outcome.any(axis=0)
    step = max(1, count * classes // MOST_CELLS)
    stands_for = np.full(len(logits[::step]), count / len(logits[::step]))
    whole = Rows(logits[::step], np.zeros((len(stands_for), classes)), stands_for, answers[::step])
    sample = Rows(logits[place], np.zeros((len(true), classes)), 1 / probability, answers[place])
    if len(true) == count:
        at_place = Rows(logits[place], sample.scores, np.ones(count), answers[place])
        return _census(_f1(outcome, at_place, shown)[counted].mean(), count)
    believed = calibrate(outcome, sample)
    whole, sample = replace(whole, logits=believed(whole)), replace(sample, logits=believed(sample))
    start = Tilted(outcome, sample, whole).probabilities(0.0)
    whole, sample = (replace(rows, scores=_f1_scores(start, whole, shown, counted, rows)) for rows in (whole, sample))
    tilted = Tilted(outcome, sample, whole)
    found = [_f1(tilted.probabilities(t), whole, shown)[counted].mean() for t in tilted.interval(_z(level))]
    return _estimate(found, len(true), count)


def _f1(chance: Floats, rows: Rows, shown: Floats) -> Floats:
    """Each class's F1 from expected counts, ``(K,)``."""
    f1: Floats = 2 * _hits(chance, rows) / np.maximum(shown + rows.weight @ chance, 1e-300)
    return f1


def _hits(chance: Floats, rows: Rows) -> Floats:
    assert rows.favoured is not None
    answered = np.flatnonzero(rows.favoured >= 0)
    answer = rows.favoured[answered]
    right = rows.weight[answered] * chance[answered, answer]
    return np.bincount(answer, weights=right, minlength=chance.shape[1]).astype(np.float64)


def _f1_scores(chance: Floats, whole: Rows, shown: Floats, counted: NDArray[np.bool_], rows: Rows) -> Floats:
    """The derivative of macro F1 by each outcome of ``rows``, ``(rows, K)``, at the whole population's ``chance``."""
    assert rows.favoured is not None
    both = np.maximum(shown + whole.weight @ chance, 1e-300)
    hit = rows.favoured[:, None] == np.arange(len(shown))
    share = counted / both / counted.sum()
    scores: Floats = (2.0 * hit - _f1(chance, whole, shown)) * share
    return scores


def _tilted(outcome: Floats, sample: Rows, whole: Rows) -> Tilted:
    if not len(outcome):
        return Tilted(outcome, sample, whole)
    believed = calibrate(outcome, sample)
    return Tilted(outcome, replace(sample, logits=believed(sample)), replace(whole, logits=believed(whole)))


def _binary(logit: Floats, weight: Floats) -> Rows:
    zero = np.zeros(len(logit))
    return Rows(np.stack([zero, logit], axis=1), np.tile([0.0, 1.0], (len(logit), 1)), weight)


def _ternary(guide: Floats, weight: Floats) -> Rows:
    neither = 1 - guide.sum(axis=1, keepdims=True)
    logits = np.log(np.maximum(np.concatenate([guide, neither], axis=1), SURE))
    return Rows(logits, np.tile([1.0, -1.0, 0.0], (len(guide), 1)), weight)


def _binned(logit: Floats) -> tuple[Floats, Floats]:
    """Bins of equal guides: their mean and how many rows they have."""
    place = np.rint(logit / BIN).astype(np.intp)
    place -= place.min()
    counts = np.bincount(place).astype(np.float64)
    filled = counts > 0
    return np.bincount(place, weights=logit)[filled] / counts[filled], counts[filled]


def _logit(guide: ArrayLike) -> Floats:
    chance = np.asarray(guide, dtype=np.float64)
    _in_range(chance, 0.0)
    chance = np.clip(chance, SURE, 1 - SURE)
    logit: Floats = np.log(chance) - np.log1p(-chance)
    return logit


def _checked(values: ArrayLike, inclusion: ArrayLike, low: float = 0.0) -> tuple[Floats, Floats]:
    value, chance = np.asarray(values, dtype=np.float64), np.asarray(inclusion, dtype=np.float64)
    if value.ndim != 1 or not len(value) or value.shape != chance.shape:
        raise ValueError(
            f"{value.size} values and {chance.size} inclusion probabilities: need as many, and at least one"
        )
    _in_range(value, low)
    _in_range(chance, 0.0)
    if not chance.all():
        raise ValueError("a sampled row had no chance of being sampled")
    return value, chance


def _in_range(numbers: Floats, low: float) -> None:
    if not np.all((numbers >= low) & (numbers <= 1 + 1e-6)):
        raise ValueError(f"numbers must lie between {low:g} and 1, not from {numbers.min()} to {numbers.max()}")


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level of {level}")
    return float(norm.ppf((1 + level) / 2))


def _census(point: float, population: int) -> Estimate:
    return Estimate(point, point, point, population, population)


def _estimate(found: list[float], rows: int, population: int) -> Estimate:
    point, low, high = found
    return Estimate(point, min(low, point), max(high, point), rows, population)
