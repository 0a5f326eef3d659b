"""The order of a sample, and the probabilities of its first rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.review import draw

IDS = [f"row-{number}" for number in range(400)]
DOUBT = np.linspace(0.01, 0.9, 400) ** 3


def test_the_order_depends_on_ids_and_seed_and_not_on_the_rows_around() -> None:
    weights = draw.weights(DOUBT)
    asked = [IDS[place] for place in draw.order(IDS, weights, seed=1)]
    fewer = [IDS[100:][place] for place in draw.order(IDS[100:], weights[100:], seed=1)]
    assert fewer == [row for row in asked if row in set(IDS[100:])]
    assert asked != [IDS[place] for place in draw.order(IDS, weights, seed=2)]


@pytest.mark.parametrize("rows", [5, 40, 200])
def test_rows_are_drawn_as_often_as_is_said(rows: int) -> None:
    weights, rounds = draw.weights(DOUBT, cost=0.3), 4000
    number = np.random.default_rng(0).random((rounds, len(weights)))
    kept = np.argpartition(number / (1 - number) / weights, rows, axis=1)[:, :rows]
    counts = np.bincount(kept.ravel(), minlength=len(weights)).reshape(10, -1).sum(axis=1) / rounds
    expected = draw.inclusion(weights, rows).reshape(10, -1).sum(axis=1)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max() / rounds)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=50), st.data())
def test_probabilities_add_up_and_grow_with_weights_and_rows(weights: list[float], data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, len(weights)))
    chance = draw.inclusion(weights, rows)
    assert chance.sum() == pytest.approx(rows, rel=1e-6)
    assert ((chance > 0) & (chance <= 1)).all()
    assert (np.diff(chance[np.argsort(weights)]) >= -1e-12).all()
    if rows > 1:
        assert (draw.inclusion(weights, rows - 1) <= chance + 1e-12).all()


def test_equal_weights_are_a_simple_random_sample() -> None:
    assert draw.inclusion(np.ones(50), 10) == pytest.approx(np.full(50, 0.2), rel=1e-9)
    assert draw.weights(np.zeros(5)) == pytest.approx(np.ones(5))


@pytest.mark.parametrize("cost", [0.01, 0.05, 0.2])
def test_a_useless_guide_costs_no_more_than_is_said(cost: float) -> None:
    for doubt in (DOUBT, np.stack([DOUBT, DOUBT[::-1]], axis=1), np.eye(400)[0]):
        weights = draw.weights(doubt, cost)
        assert np.sqrt(weights.mean() * (1 / weights).mean()) <= 1 + cost + 1e-9
        assert weights.min() > 0.3


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="ids"):
        draw.order(["a", "a"], [1.0, 1.0], 0)
    with pytest.raises(ValueError, match="positive"):
        draw.inclusion([1.0, 0.0], 1)
    with pytest.raises(ValueError, match="sample of 3"):
        draw.inclusion([1.0, 1.0], 3)
    with pytest.raises(ValueError, match="from 0 to 1"):
        draw.weights([0.5, float("nan")])
