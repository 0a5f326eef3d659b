"""An interval for a sum over a population from a sample of known probabilities: a score test, inverted.

Each row has one of K outcomes. The guide says how probable each is; the sample says how far the guide is to be
believed (:func:`calibrate`). The quantity is a function of the rows' outcome probabilities, with a score for each row
and outcome (its derivative). All probabilities are tilted, ``p exp(t score)``, until the weighted sum of the sample's
scores is as expected: that is the estimate. The interval holds all tilts at which the sum would not surprise: its
variance is that of the tilted probabilities, so that it shrinks towards 0 and 1 as it should, where a normal interval
around the estimate covers too rarely. Without a guide and with equal probabilities this *is* Wilson's interval with
the finite population correction. The formulas are in docs/trust.md. Knows numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]

FARTHEST = 50.0
"""The largest tilt, in logits: nothing is left beyond it but 0 and 1."""
PRIOR_EVENTS = 20.0
"""How many effective residuals the modelled variance is worth against the observed one."""
PRICE_OF_SLOPE = 0.5
"""What fitting the slope adds to the variance, in effective residuals: chosen by simulation (docs/trust.md)."""
MOST_INTERCEPTS = 20
"""With more outcomes than these the guide's shares are believed as they are."""
SLOPE, SLOPE_SD, OFFSET_SD = 1.0, 4.0, 2.0
"""The prior of the calibration, normal: a guide as it stands, and hardly more than to keep small samples finite."""


@dataclass(frozen=True)
class Rows:
    """Rows with the logits of their outcomes, the outcomes' scores, both ``(rows, K)``, and what a row counts for.

    ``favoured``: the outcome that a system gave, if outcomes are classes; its logit is calibrated on its own.
    """

    logits: Floats
    scores: Floats
    weight: Floats
    favoured: NDArray[np.intp] | None = None


def calibrate(outcome: Floats, sample: Rows) -> Callable[[Rows], Floats]:
    """How logits become believable: a slope for all, an offset for each outcome and one for the favoured, by ridge
    regression (conditional logit, Newton's steps) on the sample's ``outcome``, shape ``(rows, K)``, ones and zeros."""
    design = _design(sample)
    prior = np.zeros(design.shape[2])
    prior[0] = SLOPE
    precision = np.full(len(prior), OFFSET_SD**-2)
    precision[0] = SLOPE_SD**-2
    weights = prior.copy()
    for _ in range(50):
        chance = softmax(design @ weights)
        centred = design - np.einsum("nk,nkp->np", chance, design)[:, None, :]
        slope = np.einsum("nk,nkp->p", outcome - chance, design) - precision * (weights - prior)
        bend = np.einsum("nkp,nkq->pq", centred * chance[:, :, None], centred, optimize=True) + np.diag(precision)
        step = np.linalg.solve(bend, slope)
        size = float(np.abs(step).max())
        weights = weights + step * min(1.0, 2.0 / max(size, 1e-300))
        if size < 1e-6:
            break
    return lambda rows: _design(rows) @ weights


def _design(rows: Rows) -> Floats:
    """Features ``(rows, K, p)``: the logit, then an offset for the favoured outcome and for each outcome."""
    count, outcomes = rows.logits.shape
    parts = [rows.logits[:, :, None]]
    if rows.favoured is not None:
        parts.append((rows.favoured[:, None] == np.arange(outcomes))[:, :, None].astype(np.float64))
    if outcomes <= MOST_INTERCEPTS:
        parts.append(np.broadcast_to(np.eye(outcomes), (count, outcomes, outcomes)))
    return np.concatenate(parts, axis=2)


def softmax(logits: Floats) -> Floats:
    """Probabilities of logits, over the last axis."""
    chance: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chance /= chance.sum(axis=-1, keepdims=True)
    return chance


class Tilted:
    """The sample's sum, its variance and the population's probabilities at any tilt.

    ``sample.weight`` are inverse inclusion probabilities, ``population.weight`` how many rows each one stands for.
    The logits of both are calibrated. ``outcome`` is ``(rows, K)``.
    """

    def __init__(self, outcome: Floats, sample: Rows, population: Rows) -> None:
        spread = max(float(np.ptp(population.scores, axis=1).max()), 1e-300)
        self.sample, self.population = sample, population
        self.seen, self.all = sample.scores / spread, population.scores / spread
        self.observed = (outcome * self.seen).sum(axis=1)
        self.excess = 1.0

    def at(self, tilt: float) -> tuple[float, float]:
        """Observed minus expected sum of scores, and its standard deviation, at a tilt."""
        mean, variance = self._moments(self.sample.logits, self.seen, tilt)
        _, everywhere = self._moments(self.population.logits, self.all, tilt)
        weight = self.sample.weight
        # Of the estimated total minus the true one: a sampled row is known, but stands for weight - 1 others.
        total = float(self.population.weight @ everywhere) + float((weight * (weight - 2)) @ variance)
        return float(weight @ (self.observed - mean)), float(np.sqrt(max(total * self.excess, 0.0)))

    def probabilities(self, tilt: float) -> Floats:
        """Those of the population's rows at a tilt, ``(rows, K)``."""
        return softmax(self.population.logits + tilt * self.all)

    def learn_excess(self, tilt: float) -> None:
        """Take the sample's own residuals into account, as far as their number allows.

        The ratio of squared residuals to modelled variances, both weighted as in the variance of the sum, is shrunk
        towards 1: it counts as many effective residuals as its own variance tells, the model :data:`PRIOR_EVENTS`.
        Where there is a guide, few residuals make its fitted slope uncertain, for which the variance grows.
        """
        mean, variance = self._moments(self.sample.logits, self.seen, tilt)
        chance = softmax(self.sample.logits + tilt * self.seen)
        fourth = (chance * (self.seen - mean[:, None]) ** 4).sum(axis=1)
        weight = self.sample.weight * (self.sample.weight - 1)
        expected = float(weight @ variance)
        noise = float(np.square(weight) @ np.maximum(fourth - np.square(variance), 0))
        if expected > 0 and noise > 0:
            events = expected**2 / noise
            ratio = float(weight @ np.square(self.observed - mean)) / expected
            self.excess = (events * ratio + PRIOR_EVENTS) / (events + PRIOR_EVENTS)
            if np.ptp(self.population.logits, axis=0).any():
                self.excess *= 1 + PRICE_OF_SLOPE / (events + 1)

    def interval(self, quantile: float) -> tuple[float, float, float]:
        """The tilts of the estimate and of both ends, at a quantile of the normal distribution."""
        middle = _root(lambda tilt: self.at(tilt)[0], -FARTHEST, FARTHEST) if self.sample.weight.size else 0.0
        self.learn_excess(middle)

        def surprise(side: float) -> Callable[[float], float]:
            def distance(tilt: float) -> float:
                off, deviation = self.at(tilt)
                return off - side * quantile * deviation

            return distance

        return middle, _root(surprise(1.0), -FARTHEST, middle), _root(surprise(-1.0), middle, FARTHEST)

    @staticmethod
    def _moments(logits: Floats, scores: Floats, tilt: float) -> tuple[Floats, Floats]:
        """Each row's mean and variance of its score."""
        chance = softmax(logits + tilt * scores)
        mean = (chance * scores).sum(axis=1)
        return mean, (chance * np.square(scores - mean[:, None])).sum(axis=1)


def _root(falls: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0, or the bound that is nearest to it."""
    if falls(low) <= 0:
        return low
    if falls(high) >= 0:
        return high
    return float(brentq(falls, low, high, xtol=1e-5))
