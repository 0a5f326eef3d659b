"""Pooling teachers: published examples, simulated teachers of known quality, and the recorded votes of one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from runner.tasks.single_label import dawid_skene as pooling
from runner.tasks.single_label import votes
from runner.tasks.single_label.dawid_skene import (
    EQUAL,
    WEIGHTED,
    Pooled,
    dawid_skene,
    krippendorff_alpha,
    pairwise_agreement,
    pool,
)

# Krippendorff 2011, part C: 4 observers, 12 units; a dot is missing.
OBSERVERS = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")

# Dawid & Skene 1979, table 1: 45 patients; the first anaesthetist's three readings, then the other four's.
ANAESTHETISTS = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343 1111111 2223212 1211111
1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111 1111111 1121121
1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""

Labels = NDArray[np.int64]
Distributions = NDArray[np.float64]

some_votes = st.tuples(st.integers(0, 12), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(-1, 3))
)


def simulated(seed: int, accuracies: list[float], rows: int = 600, labels: int = 3) -> tuple[Labels, Labels]:
    """The truth, and teachers that err independently and evenly."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=rows)
    wrong = (truth[:, None] + rng.integers(1, labels, size=(rows, len(accuracies)))) % labels
    return truth, np.where(rng.random(wrong.shape) < accuracies, truth[:, None], wrong)


def spread(said: Labels, labels: int = 3) -> Distributions:
    """Votes as the distributions that the runner makes of them; even where there is none."""
    names = [str(label) for label in range(labels)]
    each = [votes.probabilities([str(vote) if vote >= 0 else None], names) for vote in said.ravel()]
    return np.array(each).reshape(*said.shape, labels)


def pool_votes(said: Labels, labels: int = 3) -> Pooled:
    return pool(spread(said, labels), said < 0)


def majority(said: Labels, labels: int = 3) -> Labels:
    """The label with most votes; -1 where labels tie."""
    counts = np.stack([(said == label).sum(axis=1) for label in range(labels)], axis=1)
    tied = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return np.where(tied, -1, counts.argmax(axis=1))


def by_the_book(said: Labels, labels: int) -> Distributions:
    """Dawid & Skene's equations 2.3 to 2.5 one at a time, with this module's prior: slow, and plain to see."""
    rows, teachers = said.shape
    posterior = np.array([[np.sum(row == label) / np.sum(row >= 0) for label in range(labels)] for row in said])
    for _ in range(150):
        prior = (posterior.sum(axis=0) + 1 / labels) / (rows + 1)
        rates = np.empty((teachers, labels, labels))
        for k in range(teachers):
            for j in range(labels):
                seen = [posterior[said[:, k] == label, j].sum() for label in range(labels)]
                rates[k, j] = [n + (1.4 if j == label else 0.6 / (labels - 1)) for label, n in enumerate(seen)]
                rates[k, j] /= rates[k, j].sum()
        for i in range(rows):
            for j in range(labels):
                posterior[i, j] = prior[j] * np.prod(
                    [rates[k, j, said[i, k]] for k in range(teachers) if said[i, k] >= 0]
                )
        posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior


# --- Dawid-Skene ---


def test_dawid_skene_is_what_its_equations_say() -> None:
    _, said = simulated(1, [0.9, 0.7, 0.6, 0.5], rows=20)
    said[::4, 0] = said[::5, 2] = -1
    assert dawid_skene(said, 3).probabilities == pytest.approx(by_the_book(said, 3), abs=1e-3)


def test_the_anaesthetists() -> None:
    """The paper finds 40, 42, 11 and 7 %; here the first one's readings count as three people's, smoothed."""
    said = np.array([[int(mark) - 1 for mark in patient] for patient in ANAESTHETISTS.split()])
    found = dawid_skene(said, 4)
    assert found.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.03)
    unanimous = (said == said[:, :1]).all(axis=1)
    assert (found.probabilities.argmax(axis=1) == said[:, 0])[unanimous].all()
    # The paper's table 2: how often the first is right about patients in 1 and in 2.
    first = found.confusions[:3].mean(axis=0)
    assert np.diagonal(first)[:2] == pytest.approx([0.89, 0.88], abs=0.05)


def test_known_confusions_are_found() -> None:
    rng = np.random.default_rng(3)
    true = np.array([rng.dirichlet(6 * np.eye(3)[label] + 1, size=5) for label in range(3)]).transpose(1, 0, 2)
    truth = rng.choice(3, p=[0.6, 0.3, 0.1], size=5000)
    said = (rng.random((5000, 5, 1)) > true.cumsum(axis=2)[:, truth].swapaxes(0, 1)[..., :-1]).sum(axis=2)
    found = dawid_skene(said, 3)
    assert found.confusions == pytest.approx(true, abs=0.1)
    assert found.prior == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def test_a_row_without_votes_has_the_prior_and_changes_nothing() -> None:
    _, said = simulated(0, [0.9, 0.8, 0.7])
    before, after = dawid_skene(said, 3), dawid_skene(np.vstack([said, np.full((50, 3), -1)]), 3)
    assert after.prior == pytest.approx(before.prior)
    assert after.probabilities[:-50] == pytest.approx(before.probabilities)
    assert after.probabilities[-1] == pytest.approx(after.prior)


def test_it_settles_and_stops_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = simulated(0, [0.9, 0.8, 0.7])
    assert 2 < dawid_skene(said, 3).iterations < pooling.MOST_ITERATIONS
    monkeypatch.setattr(pooling, "MOST_ITERATIONS", 2)
    assert dawid_skene(said, 3).iterations == 2


@settings(max_examples=50)
@given(some_votes)
def test_whatever_the_votes_dawid_skene_gives_distributions(said: Labels) -> None:
    found = dawid_skene(said, 4)
    for distributions in (found.probabilities, found.confusions, found.prior):
        assert (distributions >= 0).all()
        assert distributions.sum(axis=-1) == pytest.approx(1)


@pytest.mark.parametrize(("said", "labels"), [([[0, 2]], 2), ([[-2, 0]], 2), ([[0, 0]], 1), ([0, 1], 2)])
def test_votes_out_of_range_are_refused(said: list[list[int]], labels: int) -> None:
    with pytest.raises(ValueError, match=r"labels|votes"):
        dawid_skene(np.array(said), labels)


# --- Pooling ---


def test_pooled_labels_beat_the_best_teacher_and_the_majority() -> None:
    gains = []
    for seed in range(12):
        truth, said = simulated(seed, [0.85, 0.75, 0.6, 0.55])
        best = max((said == truth[:, None]).mean(axis=0))
        pooled = (pool_votes(said).probabilities.argmax(axis=1) == truth).mean()
        gains.append((pooled - best, pooled - (majority(said) == truth).mean()))
    assert (np.mean(gains, axis=0) > 0.01).all()


@pytest.mark.parametrize("accuracies", [[0.9, 0.8, 0.7], [0.85, 0.75, 0.6, 0.55], [0.9, 0.9, 0.9, 0.34]])
def test_accuracies_are_estimated(accuracies: list[float]) -> None:
    for seed in range(5):
        truth, said = simulated(seed, accuracies, rows=2000)
        found = pool_votes(said)
        assert found.accuracies == pytest.approx((said == truth[:, None]).mean(axis=0), abs=0.05)
        assert found.method == WEIGHTED
        assert found.weights.sum() == pytest.approx(1)
        assert found.weights.argmin() == len(accuracies) - 1


def test_soft_distributions_tell_more_than_their_labels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=1000)
    logits = 1.5 * (1.5 * np.eye(3)[truth][:, None] + rng.normal(size=(1000, 3, 3)))
    soft = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    none = np.zeros((1000, 3), bool)
    hard = pool_votes(soft.argmax(axis=2)).probabilities.argmax(axis=1)
    assert (pool(soft, none).probabilities.argmax(axis=1) == truth).mean() > (hard == truth).mean() + 0.05


def test_a_teacher_that_always_says_the_same_hardly_counts() -> None:
    rng = np.random.default_rng(0)
    truth, said = simulated(0, [0.85, 0.8, 0.8])
    common = np.where(rng.random(600) < 0.8, 0, truth)
    said = np.where((common == truth)[:, None], said, common[:, None])
    found = pool_votes(np.column_stack([said, np.zeros(600, np.int64)]))
    assert found.weights[3] < 0.02
    # Where a label of the task never occurs, nothing is known of it, and that must not count as knowing it.
    two = np.where(said == 2, 1, said)
    assert pool_votes(np.column_stack([two, np.zeros(600, np.int64)])).weights[3] < 0.02


def test_order_does_not_matter() -> None:
    _, said = simulated(2, [0.85, 0.75, 0.6, 0.55])
    said[::7, 1] = -1
    rng = np.random.default_rng(0)
    found = pool_votes(said)
    rows, teachers, labels = rng.permutation(600), rng.permutation(4), np.array([2, 0, 1])
    other = pool_votes(said[rows])
    assert other.probabilities == pytest.approx(found.probabilities[rows])
    assert other.weights == pytest.approx(found.weights)
    other = pool_votes(said[:, teachers])
    assert other.probabilities == pytest.approx(found.probabilities, abs=1e-6)
    assert other.weights == pytest.approx(found.weights[teachers], abs=1e-6)
    other = pool_votes(np.where(said < 0, -1, labels[said]))
    assert other.probabilities[:, labels] == pytest.approx(found.probabilities, abs=1e-6)
    assert other.accuracies == pytest.approx(found.accuracies, abs=1e-6)


def test_what_is_missing_is_never_looked_at() -> None:
    _, said = simulated(4, [0.9, 0.8, 0.7])
    said[::3, 0] = -1
    distributions = spread(said)
    spoiled = np.where((said < 0)[:, :, None], np.nan, distributions)
    assert pool(spoiled, said < 0).probabilities == pytest.approx(pool(distributions, said < 0).probabilities)


def test_one_teacher_is_returned_as_it_is() -> None:
    given_ = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    alone = pool(given_[:, None], np.zeros((3, 1), bool))
    assert alone.probabilities == pytest.approx(given_)
    assert (alone.method, alone.weights.tolist()) == (EQUAL, [1.0])
    assert np.isnan(alone.accuracies).all()
    # And so is the one that is there, beside others that are not.
    missing = np.ones((3, 4), bool)
    missing[:, 2] = False
    beside = pool(np.repeat(given_[:, None], 4, axis=1), missing)
    assert beside.probabilities == pytest.approx(given_)
    assert beside.weights.tolist() == [0, 0, 1, 0]


def test_two_teachers_count_the_same() -> None:
    found = pool(np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.5, 0.5]]]), np.zeros((2, 2), bool))
    assert found.method == EQUAL
    assert found.probabilities == pytest.approx(np.array([[0.5, 0.5], [0.75, 0.25]]), abs=1e-3)


def test_three_teachers_that_share_no_row_count_the_same() -> None:
    said = np.full((30, 3), -1)
    said[np.arange(30), np.arange(30) % 3] = 1
    assert pool_votes(said).method == EQUAL


def test_a_row_that_nobody_labelled_is_even() -> None:
    _, said = simulated(0, [0.9, 0.8, 0.7])
    said[5] = -1
    assert pool_votes(said).probabilities[5] == pytest.approx(1 / 3)


def test_one_that_is_too_sure_does_not_overrule_three() -> None:
    row = np.array([[[0.95, 0.05], [0.95, 0.05], [0.95, 0.05], [0.0, 1.0]]])
    assert pool(row, np.zeros((1, 4), bool)).probabilities[0, 0] > 0.5


@settings(max_examples=50)
@given(some_votes, st.booleans())
def test_whatever_they_say_the_pool_is_a_distribution(said: Labels, sure: bool) -> None:
    distributions = np.eye(4)[np.maximum(said, 0)] if sure else spread(said, 4)
    found = pool(distributions, said < 0)
    assert np.isfinite(found.probabilities).all()
    assert (found.probabilities >= 0).all()
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    assert found.weights.sum() == pytest.approx(float((said >= 0).any()))
    assert (np.isnan(found.accuracies) | ((found.accuracies >= 0) & (found.accuracies <= 1 + 1e-9))).all()


@pytest.mark.parametrize(
    ("distributions", "missing"),
    [
        (np.full((2, 3, 2), 0.5), np.zeros((2, 2), bool)),
        (np.full((2, 2), 0.5), np.zeros((2, 2), bool)),
        (np.ones((2, 3, 1)), np.zeros((2, 3), bool)),
        (np.full((2, 3, 2), 0.4), np.zeros((2, 3), bool)),
        (np.full((2, 3, 2), np.nan), np.zeros((2, 3), bool)),
        (np.tile([1.5, -0.5], (2, 3, 1)), np.zeros((2, 3), bool)),
    ],
)
def test_what_is_no_distribution_is_refused(distributions: Distributions, missing: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match=r"shape|labels|distribution"):
        pool(distributions, missing)


# --- Agreement ---


def test_krippendorffs_example() -> None:
    said = np.array([[int(mark) - 1 if mark != "." else -1 for mark in observer] for observer in OBSERVERS]).T
    assert said.shape == (12, 4)
    assert krippendorff_alpha(said) == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_the_perfect_the_random_and_the_untold() -> None:
    rng = np.random.default_rng(0)
    assert krippendorff_alpha(np.array([[0, 0], [1, 1], [2, -1]])) == 1
    assert krippendorff_alpha(rng.integers(3, size=(5000, 3))) == pytest.approx(0, abs=0.03)
    for untold in ([[0, 0], [0, 0]], [[0, -1], [-1, 1]], [[-1, -1]], np.empty((0, 2))):
        assert np.isnan(krippendorff_alpha(np.array(untold, dtype=np.int64)))


def test_pairwise_agreement_counts_shared_rows() -> None:
    said = np.array([[0, 0, -1, -1], [1, 0, 1, -1], [2, 2, 2, -1], [0, -1, -1, 1]])
    expected = [[1, 2 / 3, 1, 0], [2 / 3, 1, 0.5, np.nan], [1, 0.5, 1, np.nan], [0, np.nan, np.nan, 1]]
    assert pairwise_agreement(said) == pytest.approx(np.array(expected), nan_ok=True)


# --- Real data ---


def test_the_recorded_votes_of_one_model(data_dir: Path) -> None:
    """Five answers of Mixtral, of which two are the same under two names, and all of which err together."""
    columns = ("label_llm", "label_llm_cot", "sc_iter1", "sc_iter2", "sc_iter3")
    names = ["negative", "neutral", "positive"]
    with open(data_dir / "financial_phrasebank" / "train.csv", encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    code = {name: place for place, name in enumerate(names)}
    said = np.array([[code.get(row[column], -1) for column in columns] for row in table])
    truth = np.array([code[row["label_experts"]] for row in table])
    assert pairwise_agreement(said)[1, 2] == 1
    assert 0.7 < krippendorff_alpha(said) < 0.95
    for teachers in ([0, 1, 2, 3, 4], [0, 2, 3, 4], [2, 3, 4]):
        found = pool_votes(said[:, teachers])
        accuracy = (found.probabilities.argmax(axis=1) == truth).mean()
        single = (said[:, teachers] == truth[:, None]).mean(axis=0)
        assert accuracy > single.max()
        assert accuracy > (majority(said[:, teachers]) == truth).mean() - 0.005
        # Why the pool is not the posterior: that one takes their common errors for certainties.
        posterior = dawid_skene(said[:, teachers], 3).probabilities
        rows = np.arange(len(truth))
        surprise = [-np.log(np.maximum(p[rows, truth], 1e-9)).mean() for p in (found.probabilities, posterior)]
        assert surprise[0] < 0.3 < surprise[1]
