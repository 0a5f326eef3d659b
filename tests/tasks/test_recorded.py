"""Recorded probabilities: read where they are some, refused where they are none, left alone where a cell is a label."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.system.errors import DataError
from runner.tasks.single_label.recorded import distribution

LABELS = ("negative", "neutral", "positive")


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda shares: sum(shares) > 1e-6))
def test_a_distribution_is_read_in_the_order_of_the_labels(shares: list[float]) -> None:
    chances = np.array(shares) / sum(shares)
    cell = json.dumps(dict(zip(LABELS[::-1], chances.round(4).tolist(), strict=True)))
    found = distribution(cell, LABELS)
    assert found == pytest.approx(chances[::-1].tolist(), abs=2e-4)
    assert found is not None and sum(found) == pytest.approx(1)


@pytest.mark.parametrize(
    "cell",
    [
        *("neutral", "", "Label: positive", "0.3", "{", "{}", "[0.1, 0.9]", "{broken", '{"reason": "x"}'),
        *('{"label": "neutral"}', '{"label": "neutral", "confidence": 0.9}', '{"confidence": 0.9}'),
        *('{"neutral": true}', '{"neutral": "0.4", "positive": "0.6"}', "{" * 9000),
    ],
)
def test_any_other_cell_is_none(cell: str) -> None:
    assert distribution(cell, LABELS) is None


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('{"negative": 0.5, "neutral": 0.4}', "sum to 0.9, not to 1"),
        ('{"negative": 50, "neutral": 50}', "50 is no probability"),
        ('{"negative": -0.5, "neutral": 1.5}', "-0.5 is no probability"),
        ('{"negative": NaN, "neutral": 1}', "nan is no probability"),
        ('{"neutral": 0.5, "mixed": 0.5}', "a probability of 'mixed', which is not among task.labels"),
    ],
)
def test_what_is_no_distribution_is_said(cell: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        distribution(cell, LABELS)


CERTAIN, OPEN = '{"positive": 1.0}', '{"negative": 0.2, "neutral": 0.2, "positive": 0.6}'
ROWS = [
    ("Orders grew again.", "", OPEN, CERTAIN, "negative"),
    ("The plant is in Turku.", "", "neutral", "neutral", "positive"),
    ("Nobody knows.", "", '{"negative": 0.5, "positive": 0.5}', "", "who can say"),
]


def test_students_learn_the_mean_of_recorded_probabilities(job: Any) -> None:
    job.csv("train.csv", ROWS)
    votes = {row["text"]: row for row in job.do("vote").read_table("votes.parquet").to_pylist()}
    grew = votes["Orders grew again."]
    assert grew["probabilities"] == pytest.approx([(0.2 + 1) / 3, 0.2 / 3, 1.6 / 3])
    assert (grew["label"], grew["votes"]) == ("positive", ["positive", "positive", "negative"])
    assert grew["agreement"] == pytest.approx(2 / 3)
    assert votes["The plant is in Turku."]["label"] == "neutral"
    unsure = votes["Nobody knows."]
    assert (unsure["label"], unsure["reason"]) == (None, "tie: negative, positive")


def test_probabilities_that_do_not_sum_to_one_are_said_with_their_row(job: Any) -> None:
    job.csv("train.csv", [*ROWS, ("A last one.", "", "neutral", '{"negative": 0.5, "neutral": 0.4}', "neutral")])
    with pytest.raises(DataError, match=r"train\.csv:5: column 'ben': the probabilities sum to 0\.9, not to 1"):
        job.do("vote")
