"""Heads that answer about rows that they did not learn from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from runner.student.views import terms
from runner.tasks.single_label.learner import out_of_fold

pytestmark = pytest.mark.usefixtures("one_thread")


def two_groups(rows: int, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features around one of two centres, and targets that say which."""
    random = np.random.default_rng(seed)
    group = np.arange(rows) % 2
    centres = random.normal(size=(2, width))
    return centres[group] + 0.3 * random.normal(size=(rows, width)), np.eye(2, dtype=np.float32)[group]


def test_no_row_is_answered_by_a_head_that_learned_from_it() -> None:
    features, targets = two_groups(60)
    everything = np.ones(60, dtype=bool)
    targets[10] = targets[10][::-1]  # a wrong label
    found = out_of_fold(features, targets, everything, 0)
    assert found[10].argmax() != targets[10].argmax(), "nobody has learned the mistake by heart"
    assert (found.argmax(axis=1) == np.arange(60) % 2).all()
    assert np.allclose(found.sum(axis=1), 1)


def test_sparse_and_dense_features_are_answered_alike() -> None:
    features, targets = two_groups(50)
    features[features < 0] = 0
    features[3] = 0  # a text without terms
    everything = np.ones(50, dtype=bool)
    dense = out_of_fold(features, targets, everything, 1)
    sparse = out_of_fold(csr_array(features), targets, everything, 1)
    assert np.allclose(dense, sparse, atol=0.02), "the last penalty that is tried may differ by rounding"
    assert np.isfinite(sparse).all()


def test_their_length_says_nothing() -> None:
    features, targets = two_groups(40)
    everything = np.ones(40, dtype=bool)
    assert np.allclose(
        out_of_fold(features, targets, everything, 0), out_of_fold(1000 * features, targets, everything, 0), atol=1e-4
    )


def test_of_fewer_than_two_rows_nothing_is_said() -> None:
    features, targets = two_groups(4)
    for learned in ([False] * 4, [True, False, False, False]):
        assert np.isnan(out_of_fold(features, targets, np.array(learned), 0)).all()
    two = out_of_fold(features, targets, np.array([True, True, False, False]), 0)
    assert np.isfinite(two).all()


def test_texts_without_a_shared_term_have_no_terms() -> None:
    assert terms([[1, 2], [3, 4]], set()).shape == (2, 0)
    assert terms([[], []], set()).shape == (2, 0)
    targets = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    found = out_of_fold(terms([[1], [2], [3], [4]], set()), targets, np.ones(4, dtype=bool), 0)
    assert found.shape == (4, 2) and np.isfinite(found).all()


def test_terms_are_tokens_and_pairs_and_control_tokens_are_left_out() -> None:
    counted = terms([[0, 5, 6, 9], [0, 5, 6, 9], [0, 6, 5, 9]], {0, 9})
    assert counted.shape == (3, 3), "5, 6, and the pair that stands in two texts"
    assert np.allclose(counted.toarray()[0], counted.toarray()[1])
    assert (counted.toarray()[2] > 0).sum() == 2
