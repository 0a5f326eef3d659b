"""recipes: who is asked about which row, and what a held-out set can tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.student import recipes
from runner.tasks.single_label.targets import confidence


@given(st.integers(1, 500), st.integers(0, 5))
def test_folds_are_as_even_as_can_be_and_the_seed_alone_decides_them(rows: int, seed: int) -> None:
    folds = recipes.fold_of(rows, seed)
    sizes = np.bincount(folds)
    assert len(folds) == rows and sizes.max() - sizes.min() <= 1 and len(sizes) == min(recipes.FOLDS, rows)
    assert (folds == recipes.fold_of(rows, seed)).all()


def test_a_row_is_as_sure_as_its_likeliest_label_is_above_chance() -> None:
    targets = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [2 / 3, 1 / 3, 0]], dtype=np.float32)
    assert confidence(targets) == pytest.approx([1, 0, 0.5], abs=1e-5)


def effective_rows(targets: list[list[float]]) -> float:
    return recipes.effective_sample_size(confidence(np.array(targets, dtype=np.float32)))


def test_unsure_rows_are_worth_less_than_sure_ones() -> None:
    sure, unsure = [1.0, 0.0], [0.5, 0.5]
    assert effective_rows([sure] * 10) == pytest.approx(10)
    assert effective_rows([sure] * 10 + [unsure] * 90) == pytest.approx(10, abs=0.1)
    assert recipes.effective_sample_size(np.zeros(0, dtype=np.float32)) == 0


def test_out_of_fold_targets_stay_probabilities_and_move_what_is_contradicted() -> None:
    teacher = np.array([[0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    found = recipes.out_of_fold_targets(teacher, np.array([[0.95, 0.05], [0.02, 0.98]], dtype=np.float32))
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found.argmax(axis=1).tolist() == [0, 1]


def test_the_spec_is_kept_unless_a_trial_is_better_by_more_than_held_out_rows_can_err() -> None:
    assert recipes.chosen_trial([0.90, 0.91, 0.92], 100) == 0
    assert recipes.chosen_trial([0.90, 0.91, 0.92], 10_000) == 2
    assert recipes.chosen_trial([0.5, 0.9, 0.8], 100) == 1
