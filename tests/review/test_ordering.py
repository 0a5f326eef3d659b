"""The order of the queue: doubt first, near-duplicates apart, the same every time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.review.ordering import CANDIDATES, NEAR, PAGE, ordered


def unlike(rows: int, width: int = 64) -> np.ndarray:
    """Vectors that are not near each other."""
    return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float16)


def test_the_most_doubtful_come_first_and_equals_in_their_order() -> None:
    doubt = np.array([0.1, 0.9, 0.5, 0.9, 0.0])
    assert ordered(doubt).tolist() == [1, 3, 2, 0, 4]
    assert ordered(doubt, unlike(5)).tolist() == [1, 3, 2, 0, 4]


def test_rows_that_are_unlike_stay_in_the_order_of_doubt() -> None:
    doubt = np.random.default_rng(1).random(500)
    by_page = np.sort(ordered(doubt, unlike(500)).reshape(-1, PAGE))
    assert np.array_equal(by_page, np.sort(ordered(doubt).reshape(-1, PAGE)))


def test_near_duplicates_do_not_fill_a_page() -> None:
    rows = 400
    doubt = np.linspace(1, 0, rows)
    vectors = unlike(rows).astype(np.float32)
    vectors[:50] = vectors[0] + 0.01 * unlike(50)  # the fifty most doubtful say nearly the same
    order = ordered(doubt, vectors.astype(np.float16))
    pages = order.reshape(-1, PAGE)
    assert sorted(order) == list(range(rows))
    assert order[0] == 0
    alike = (pages < 50).sum(axis=1)
    # A page takes one of them, as long as enough others are among its candidates; then they have to come.
    assert alike[0] == 1 and alike[1] == 1
    assert alike.sum() == 50
    centred = vectors - vectors.mean(axis=0)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    first = directions[pages[0]]
    assert ((first @ first.T) >= NEAR).sum() == PAGE, "each is near itself alone"


def test_no_row_waits_for_long() -> None:
    rows = 2_000
    doubt = np.linspace(1, 0, rows)
    same = np.ones((rows, 8), dtype=np.float16)
    assert ordered(doubt, same).tolist() == list(range(rows)), "where all are alike, doubt alone decides"
    order = ordered(doubt, np.repeat(unlike(rows // 10), 10, axis=0))
    late = np.argsort(order) - np.arange(rows)
    assert late.max() <= rows and sorted(order) == list(range(rows))
    assert late.min() >= -CANDIDATES, "none comes more than the candidates of a page too early"


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=60), st.integers(1, 3))
def test_every_row_comes_once_and_the_same_rows_in_the_same_order(doubt: list[float], kinds: int) -> None:
    vectors = unlike(kinds)[np.arange(len(doubt)) % kinds]
    order = ordered(np.array(doubt), vectors)
    assert sorted(order) == list(range(len(doubt)))
    assert np.array_equal(order, ordered(np.array(doubt), vectors.copy()))


def test_a_doubt_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        ordered(np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match="3 vectors for 2 rows"):
        ordered(np.array([0.1, 0.2]), unlike(3))


@pytest.mark.slow("long")
def test_its_time_grows_with_the_rows_alone() -> None:
    rows = 20_000
    vectors, doubt = unlike(rows, 384), np.random.default_rng(0).random(rows)
    start = time.process_time()
    order = ordered(doubt, vectors)
    assert len(np.unique(order)) == rows
    assert time.process_time() - start < 20
