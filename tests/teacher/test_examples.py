"""Which examples are chosen: the nearest, or a spread; the same ones every time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from runner import models
from runner.teacher.examples import CHOSEN, Chooser, choose_spread, nearest, spread

POOL = [
    "Operating profit rose to EUR 9m.",
    "Net profit fell and the plant lays off forty people.",
    "The office is in Tampere.",
    "Sales grew by a tenth over the year.",
    "The loss widened to EUR 4m.",
    "The company makes paper machines.",
]
LABELS = ["positive", "negative", "neutral", "positive", "negative", "neutral"]


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    found = np.array(rows, dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_nearest_stands_last_and_equals_keep_their_order() -> None:
    pool = unit((1, 0), (0, 1), (1, 1), (1, 0))
    assert nearest(unit((1, 0.1)), pool, 3).tolist() == [[2, 3, 0]]
    assert nearest(unit((1, 0), (0, 1)), pool, 1).tolist() == [[0], [1]]


def test_a_spread_takes_labels_in_turn_and_typical_texts_of_each_kind() -> None:
    # Two kinds of text, three of each near together, and one outlier that stands for nobody else.
    pool = unit((1, 0.1, 0), (1, 0, 0), (1, -0.1, 0), (0.1, 1, 0), (0, 1, 0), (-0.1, 1, 0), (0, 0, -1))
    labels = ["a", "a", "a", "b", "b", "b", "a"]
    chosen = spread(pool, labels, 2)
    assert chosen[0] in (0, 1, 2) and chosen[1] in (3, 4, 5)
    assert [labels[n] for n in spread(pool, labels, 4)] == ["a", "b", "a", "b"]
    assert sorted(spread(pool, labels, 10)) == list(range(7))


def test_a_large_pool_is_stood_for_by_a_part_of_it() -> None:
    pool = unit(*np.random.default_rng(0).normal(size=(5000, 8)).tolist())
    assert len(set(spread(pool, ["a"] * 5000, 6))) == 6


def test_a_label_that_is_used_up_leaves_its_turn_to_the_others() -> None:
    assert sorted(spread(unit((1, 0), (0, 1), (1, 1)), ["a", "b", "b"], 3)) == [0, 1, 2]


@pytest.fixture(scope="module")
def encoder() -> str:
    return str(models.ensure("catalog:all-minilm-l6-v2"))


def test_a_real_encoder_finds_what_means_the_same(encoder: str) -> None:
    batch = pa.table({"id": ["r0", "r1"], "text": ["Profit went up to 12 million.", "Its headquarters are in Oulu."]})
    found = Chooser(encoder, POOL, 2)(batch)
    assert found.schema == CHOSEN
    assert [row["examples"][-1] for row in found.to_pylist()] == [0, 2]


def test_a_real_encoder_spreads_over_labels(encoder: str) -> None:
    chosen = choose_spread(encoder, POOL, LABELS, 3)
    assert {LABELS[number] for number in chosen} == set(LABELS)
