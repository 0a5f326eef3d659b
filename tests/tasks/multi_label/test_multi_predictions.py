"""From probabilities to lists of labels: thresholds, certainty, and what is written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score

from runner.student.held_out import split_rows
from runner.tasks.multi_label import predictions, targets, thresholds

LABELS = ("a", "b", "c")
LIMITS = {"a": 0.2, "b": 0.5, "c": 0.7}


def drawn(rows: int, rates: tuple[float, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities of labels of such rates, and which apply."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(np.log(np.array(rates) / (1 - np.array(rates))) - 1, 2, (rows, len(rates)))
    chances = 1 / (1 + np.exp(-logits))
    return chances, rng.random(chances.shape) < chances


def test_a_label_is_given_above_its_threshold() -> None:
    chances = np.array([[0.3, 0.5, 0.6], [0.1, 0.6, 0.9], [0.1, 0.1, 0.1], [np.nan, 0.9, 0.9]])
    assert predictions.values(LABELS, chances, LIMITS) == [["a"], ["b", "c"], [], None]
    assert predictions.values(LABELS, chances) == [["c"], ["b", "c"], [], None]


def test_certainty_is_that_of_the_least_sure_label() -> None:
    chances = np.array([[0.3, 0.1, 0.6], [0.05, 0.9, 0.1]], dtype=np.float32)
    assert predictions.certainty(chances, LIMITS).tolist() == pytest.approx([0.3, 0.9])
    assert predictions.certainty(chances).tolist() == pytest.approx([0.6, 0.9])


def test_what_is_written_is_null_where_the_student_is_silent() -> None:
    chances = np.array([[0.3, 0.1, 0.9], [0.9, 0.9, 0.9], [0.0, 0.0, 0.0]], dtype=np.float32)
    found = predictions.columns(LABELS, chances, np.array([False, True, False]), LIMITS)
    assert set(found) == predictions.written(LABELS)
    assert found["labels"].type == pa.list_(pa.string())
    assert found["labels"].to_pylist() == [["a", "c"], None, []]
    assert found["probability_a"].to_pylist() == pytest.approx([0.3, None, 0.0])


def test_thresholds_are_worth_something_on_rows_that_did_not_choose_them() -> None:
    gains = []
    for seed in range(5):
        rates = (0.3, 0.1, 0.05, 0.03, 0.02)
        chances, given = drawn(800, rates, seed)
        unseen, truth = drawn(8000, rates, 100 + seed)
        limits = thresholds.choose(chances, given)
        tuned, half = (f1_score(truth, unseen > limit, average="macro") for limit in (limits, 0.5))
        gains.append(tuned - half)
        best = [max(f1_score(truth[:, k], unseen[:, k] > t) for t in np.linspace(0.05, 0.8, 40)) for k in range(5)]
        assert tuned > np.mean(best) - 0.02
    assert np.mean(gains) > 0.02


def test_a_label_of_two_rows_gets_no_silly_threshold() -> None:
    """Whatever the probabilities of the two are, the threshold stays near that of all labels."""
    chances, given = drawn(1000, (0.2, 0.2, 0.2), 0)
    common = thresholds.choose(chances, given).mean()
    for extreme in (0.021, 0.999):
        rare = np.full((1000, 1), 0.02)
        rare[:2] = extreme
        has = np.zeros((1000, 1), dtype=bool)
        has[:2] = True
        found = thresholds.choose(np.hstack([chances, rare]), np.hstack([given, has]))
        assert abs(found[-1] - common) < 0.1


def test_without_a_single_label_one_half_is_taken() -> None:
    assert thresholds.choose(np.full((5, 3), 0.1), np.zeros((5, 3), dtype=bool)).tolist() == [0.5] * 3
    assert thresholds.choose(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool)).tolist() == [0.5] * 3


def test_a_label_that_no_row_has_gets_the_common_threshold() -> None:
    chances, given = drawn(500, (0.3, 0.1), 2)
    given[:, 1] = False
    found = thresholds.choose(chances, given)
    assert found[1] == pytest.approx(thresholds.common(chances, given))


def test_no_label_loses_more_than_half_of_its_rows_to_those_held_out() -> None:
    rows = [["a"], ["a", "b"], ["b", "c"], ["a"], [], ["c", "a"], []] * 6 + [["a", "rare"]] * 2
    parts = [targets.parts(value) for value in rows]
    for seed in range(30):
        held_out, kept = split_rows(parts, 0.5, seed)
        assert sorted([*held_out, *kept]) == list(range(len(rows))) and held_out
        for name in ("a", "b", "c", "rare", targets.NO_LABEL):
            both = [sum(name in parts[row] for row in part) for part in (held_out, kept)]
            assert both[0] <= both[1]


def test_a_row_is_as_sure_as_its_least_sure_label() -> None:
    shares = np.array([[0.0, 1.0, 0.0], [0.5, 1.0, 0.0], [0.9, 0.1, 0.0]], dtype=np.float32)
    assert targets.confidence(shares).tolist() == pytest.approx([1.0, 1e-6, 0.8])
