"""The peer of ``make bench-review`` is CROWDLAB as cleanlab has it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"

# Made with cleanlab 2.9.0 on the data below: get_majority_vote_label, then
# cleanlab.multiannotator._get_post_pred_probs_and_weights, of which these are the first rows and two sums.
CLEANLAB = [
    [0.171336, 0.185201, 0.643463],
    [0.273832, 0.599493, 0.126675],
    [0.103661, 0.184705, 0.711634],
    [0.08025, 0.192222, 0.727528],
    [0.138574, 0.590079, 0.271347],
    [0.230801, 0.257482, 0.511717],
]
SUMS = 10.828057866471816, 12.517790560869834


@pytest.fixture(scope="module")
def bench() -> Any:
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("bench_review", BENCH / "review.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["bench_review"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


def test_crowdlab_is_cleanlabs(bench: Any) -> None:
    random = np.random.default_rng(7)
    truth = random.integers(0, 3, 40)
    votes = np.where(random.random((40, 4)) < 0.75, truth[:, None], random.integers(0, 3, (40, 4)))
    votes[random.random((40, 4)) < 0.25] = -1
    assert (votes >= 0).any(axis=1).all()
    logits = random.normal(size=(40, 3))
    logits[np.arange(40), truth] += 1.5
    model = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = bench.crowdlab(votes, model)
    assert np.allclose(found[:6], CLEANLAB, atol=1e-6)
    assert np.allclose(found.sum(axis=0)[:2], SUMS, rtol=1e-12)


def test_the_share_of_errors_is_that_of_the_first_rows(bench: Any) -> None:
    doubt = np.array([0.1, 0.9, 0.5, 0.2])
    assert bench.share_found(doubt, np.array([False, True, False, True]), 0.25) == 0.5
    assert bench.share_found(doubt, np.array([False, True, True, False]), 0.5) == 1.0
