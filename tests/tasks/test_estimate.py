"""Estimates from a sample with known probabilities: known intervals, an oracle, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from runner.review import draw
from runner.tasks.shared import estimate


def population(rows: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, a system's answers, the guessed probabilities of the truth, and another system's answers."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, 3)) * 2
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (chance.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    other = np.where(random.random(rows) < 0.9, truth, random.integers(0, 3, rows))
    return truth, chance.argmax(axis=1), chance, other


@pytest.mark.parametrize(("right", "rows"), [(187, 200), (20, 20), (0, 7), (3, 5)])
def test_without_a_guide_it_is_wilsons_interval(right: int, rows: int) -> None:
    values = np.r_[np.ones(right), np.zeros(rows - right)]
    found = estimate.mean(values, None, None, np.full(rows, rows / 1e9), population=10**9)
    wilson = binomtest(right, rows).proportion_ci(method="wilson")
    assert (found.point, found.low, found.high) == pytest.approx((right / rows, wilson.low, wilson.high), abs=1e-5)


def test_a_census_is_certain() -> None:
    truth, answers, chance, other = population(100)
    right, guide, ones = truth == answers, estimate.given(chance, answers), np.ones(100)
    found = estimate.mean(right, guide, guide, ones)
    assert (found.low, found.high) == (right.mean(), right.mean())
    f1 = estimate.macro_f1(truth, np.arange(100), answers, chance, ones)
    assert (f1.low, f1.high) == pytest.approx([f1_score(truth, answers, average="macro")] * 2)
    both = estimate.disagreement(chance, answers, other)
    apart = 1 * right - (truth == other)
    assert estimate.difference(apart, both, both, ones).point == pytest.approx(apart.mean())


def samples(weights: np.ndarray, rows: int, rounds: int) -> np.ndarray:
    number = np.random.default_rng(0).random((rounds, len(weights)))
    return np.argpartition(number / (1 - number) / weights, rows, axis=1)[:, :rows]


@pytest.mark.slow("long")
@pytest.mark.parametrize("useless", [False, True])
def test_intervals_cover_and_a_guide_makes_them_narrow(useless: bool) -> None:
    truth, answers, chance, _ = population()
    right, guide = (truth == answers).astype(float), estimate.given(chance, answers)
    if useless:
        guide = np.random.default_rng(1).permutation(guide)
    weights, rows, rounds = draw.weights(1 - guide), 100, 400
    inclusion = draw.inclusion(weights, rows)
    made = [estimate.mean(right[s], guide[s], guide, inclusion[s]) for s in samples(weights, rows, rounds)]
    covered = np.mean([each.low <= right.mean() <= each.high for each in made])
    assert 0.92 <= covered <= 0.98  # four standard errors
    width = np.mean([each.half_width for each in made])
    plain = estimate.mean(
        np.arange(rows) < round(rows * right.mean()), None, None, np.full(rows, rows / 2000), population=2000
    )
    assert width < plain.half_width * (1.06 if useless else 0.92)


@pytest.mark.slow("long")
def test_macro_f1_and_differences_cover() -> None:
    truth, answers, chance, other = population(600)
    weights, rows = draw.weights(1 - estimate.given(chance, answers)), 80
    inclusion, both = draw.inclusion(weights, rows), estimate.disagreement(chance, answers, other)
    apart = 1.0 * (truth == answers) - (truth == other)
    f1, gap, kept = f1_score(truth, answers, average="macro"), apart.mean(), samples(weights, rows, 150)
    f1s = [estimate.macro_f1(truth[s], s, answers, chance, inclusion[s]) for s in kept]
    gaps = [estimate.difference(apart[s], both[s], both, inclusion[s]) for s in kept]
    assert np.mean([each.low <= f1 <= each.high for each in f1s]) >= 0.89
    assert np.mean([each.low <= gap <= each.high for each in gaps]) >= 0.89
    assert abs(np.mean([each.point for each in gaps]) - gap) < 0.015


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        estimate.mean([], None, None, [], population=5)
    with pytest.raises(ValueError, match="no chance"):
        estimate.mean([1.0], None, None, [0.0], population=5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        estimate.mean([2.0], None, None, [0.5], population=5)
    with pytest.raises(ValueError, match="same answer"):
        estimate.difference([1], [[0.0, 0.0]], [[0.0, 0.0], [0.1, 0.2]], [0.5])


def test_it_agrees_with_prediction_powered_inference() -> None:
    """ppi-python 0.2.3 on the same numbers: ``ppi_mean_pointestimate`` and ``ppi_mean_ci(alpha=0.05)`` (PPI++), with
    the 200 sampled rows as labelled and the others as unlabelled. A score interval is not its normal one.
    """
    random = np.random.default_rng(7)
    guide = random.beta(8, 1, 5000)
    right = (random.random(5000) < guide).astype(float)
    assert right[:200].sum() == 183
    found = estimate.mean(right[:200], guide[:200], guide, np.full(200, 200 / 5000))
    assert found.point == pytest.approx(0.91889, abs=0.004)
    assert found.half_width == pytest.approx((0.95609 - 0.88171) / 2, rel=0.08)
