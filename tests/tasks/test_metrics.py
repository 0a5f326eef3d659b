"""The figures against scikit-learn, scipy and sums done by hand."""

import json
import time

import numpy as np
import pytest
from scipy.stats import binom, bootstrap
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, f1_score

from runner.tasks.single_label import metrics
from runner.tasks.single_label.metrics import mcnemar, score

LABELS = ["negative", "neutral", "positive"]


def sample(rows, seed=0, right=0.85):
    """Truth, predictions and probabilities whose argmax is the prediction."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=rows, p=[0.15, 0.6, 0.25])
    guess = np.where(rng.random(rows) < right, truth, rng.integers(0, 3, rows))
    chances = rng.dirichlet([1, 1, 1], size=rows)
    top = chances.argmax(axis=1)
    chances[np.arange(rows), top], chances[np.arange(rows), guess] = (
        chances[np.arange(rows), guess].copy(),
        chances[np.arange(rows), top].copy(),
    )
    return [LABELS[k] for k in truth], [LABELS[k] for k in guess], chances


def test_agrees_with_scikit_learn():
    truth, guess, chances = sample(453)
    result = score(LABELS, truth, guess, chances)
    assert result["accuracy"] == accuracy_score(truth, guess)
    assert result["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert result["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert result["brier"] == pytest.approx(brier_score_loss(truth, chances, labels=LABELS, scale_by_half=False))
    for label in LABELS:
        alone = f1_score([t == label for t in truth], [g == label for g in guess])
        assert result["per_class"][label]["f1"] == pytest.approx(alone)
        assert result["per_class"][label]["support"] == truth.count(label)


def test_confusion_by_hand():
    truth = ["negative", "negative", "neutral", "neutral", "positive", "positive"]
    guess = ["negative", "neutral", "neutral", None, "positive", None]
    result = score(LABELS, truth, guess, None)
    assert result["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["abstained"] == 2
    assert result["abstained_by_class"] == {"negative": 0, "neutral": 1, "positive": 1}
    assert result["accuracy"] == 0.5
    # F1: negative 2/3 (P 1, R 1/2), neutral 1/2 (P 1/2, R 1/2), positive 2/3 (P 1, R 1/2)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert result["balanced_accuracy"] == pytest.approx(0.5)
    assert (result["ece"], result["brier"], result["reliability"]) == (None, None, [])


def test_abstentions_are_wrong_like_an_unknown_label_in_scikit_learn():
    truth, guess, _ = sample(200)
    guess[::7] = [None] * len(guess[::7])
    result = score(LABELS, truth, guess, None)
    shown = [label or "abstained" for label in guess]
    assert result["accuracy"] == accuracy_score(truth, shown)
    assert result["macro_f1"] == pytest.approx(f1_score(truth, shown, labels=LABELS, average="macro"))
    assert result["abstained"] == guess.count(None)
    assert sum(map(sum, result["confusion"])) + result["abstained"] == 200


def test_calibration_by_hand():
    chances = np.array([[0.95, 0.05], [0.92, 0.08], [0.35, 0.65], [0.4, 0.6], [1.0, 0.0]])
    truth = ["a", "b", "b", "a", "a"]
    guess = ["a", "a", "b", "b", None]
    result = score(["a", "b"], truth, guess, chances)
    # The abstention is left out; 0.6 lies in (0.5, 0.6], 0.65 in (0.6, 0.7], 0.92 and 0.95 in (0.9, 1].
    assert [(b["lower"], b["rows"], b["accuracy"]) for b in result["reliability"]] == [
        (0.5, 1, 0.0),
        (0.6, 1, 1.0),
        (0.9, 2, 0.5),
    ]
    assert result["reliability"][2]["confidence"] == pytest.approx(0.935)
    assert result["ece"] == pytest.approx((0.6 + 0.35 + 2 * 0.435) / 4)
    brier = (2 * 0.05**2 + 2 * 0.92**2 + 2 * 0.35**2 + 2 * 0.6**2) / 4
    assert result["brier"] == pytest.approx(brier)


def test_confidence_is_that_of_the_prediction_not_the_largest():
    result = score(["a", "b"], ["a"], ["b"], np.array([[0.8, 0.2]]))
    assert result["reliability"] == [{"lower": 0.1, "upper": 0.2, "confidence": 0.2, "accuracy": 0.0, "rows": 1}]


def test_rows_without_probabilities_are_left_out_of_calibration():
    chances = np.array([[0.9, 0.1], [np.nan, np.nan]])
    result = score(["a", "b"], ["a", "b"], ["a", "a"], chances)
    assert [b["rows"] for b in result["reliability"]] == [1]
    assert result["ece"] == pytest.approx(0.1)
    assert result["accuracy"] == 0.5


@pytest.mark.slow("long")
def test_intervals_agree_with_scipy_bootstrap():
    truth, guess, _ = sample(453, seed=3)
    ours = score(LABELS, truth, guess, None, resamples=20_000)["ci95"]

    right = np.array([t == g for t, g in zip(truth, guess, strict=True)], dtype=float)
    theirs = bootstrap((right,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert ours["accuracy"] == pytest.approx(list(theirs), abs=0.003)

    codes = np.array([[LABELS.index(t), LABELS.index(g)] for t, g in zip(truth, guess, strict=True)])
    rng = np.random.default_rng(2)
    drawn = [codes[rng.integers(0, 453, 453)] for _ in range(800)]
    rows = [f1_score(rows[:, 0], rows[:, 1], average="macro") for rows in drawn]
    assert ours["macro_f1"] == pytest.approx(np.percentile(rows, [2.5, 97.5]), abs=0.008)


def test_intervals_are_seeded_hold_the_estimate_and_are_quick():
    truth, guess, chances = sample(453)
    start = time.perf_counter()
    first = score(LABELS, truth, guess, chances)
    assert time.perf_counter() - start < 1
    assert first == score(LABELS, truth, guess, chances)
    assert first["ci95"] != score(LABELS, truth, guess, chances, seed=1)["ci95"]
    for name in ("accuracy", "macro_f1"):
        low, high = first["ci95"][name]
        assert low < first[name] < high


def test_many_labels_are_resampled_in_several_goes():
    labels = [f"class {k}" for k in range(120)]
    rng = np.random.default_rng(0)
    truth = [labels[k] for k in rng.integers(0, 120, 400)]
    result = score(labels, truth, truth[:200] + truth[:200], None)
    low, high = result["ci95"]["accuracy"]
    assert low < result["accuracy"] < high


@pytest.mark.parametrize(
    ("truth", "guess", "macro"),
    [
        pytest.param(["neutral"], ["neutral"], 1.0, id="one row, right"),
        pytest.param(["neutral"], ["positive"], 0.0, id="one row, wrong"),
        pytest.param(["neutral", "positive"], [None, None], 0.0, id="all abstained"),
        pytest.param(["neutral", "positive"], ["neutral", "positive"], 1.0, id="a class that nobody has seen"),
        pytest.param(["neutral", "neutral"], ["neutral", "negative"], 1 / 3, id="a class only predicted"),
    ],
)
def test_edges(truth, guess, macro):
    chances = np.full((len(truth), 3), 1 / 3)
    result = score(LABELS, truth, guess, chances, resamples=50)
    assert result["macro_f1"] == pytest.approx(macro)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["per_class"]["negative"]["support"] == 0
    assert (result["ece"] is None) == (guess[0] is None)


@pytest.mark.parametrize(
    ("truth", "guess", "chances", "message"),
    [
        ([], [], None, "at least one"),
        (["neutral"], [], None, "as many"),
        (["neutral"], ["happy"], None, "'happy'"),
        (["happy"], ["neutral"], None, "'happy'"),
        ([None], ["neutral"], None, "None"),
        (["neutral"], ["neutral"], np.ones((1, 2)), "shape"),
    ],
)
def test_refuses(truth, guess, chances, message):
    with pytest.raises(ValueError, match=message):
        score(LABELS, truth, guess, chances)


def test_mcnemar_by_hand():
    truth = ["a"] * 20
    a = ["a"] * 12 + ["b"] * 6 + [None] * 2
    b = ["a"] * 10 + ["b"] * 2 + ["a"] * 8
    result = mcnemar(truth, a, b)
    assert (result["only_a_right"], result["only_b_right"], result["rows"]) == (2, 8, 20)
    assert result["p"] == pytest.approx(2 * binom.cdf(2, 10, 0.5))
    swapped = mcnemar(truth, b, a)
    assert swapped["p"] == pytest.approx(result["p"])
    assert (swapped["only_a_right"], swapped["only_b_right"]) == (8, 2)


def test_mcnemar_without_differences():
    assert mcnemar(["a", "b"], ["a", None], ["a", "a"]) == {
        "p": 1.0,
        "only_a_right": 0,
        "only_b_right": 0,
        "rows": 2,
    }
    with pytest.raises(ValueError, match="predictions"):
        mcnemar(["a"], ["a", "b"], ["a"])


def test_a_row_that_stands_for_several_counts_as_often() -> None:
    labelled = ("a", "b", "c")
    rng = np.random.default_rng(3)
    truth, guess = (list(rng.choice(labelled, 40)) for _ in range(2))
    chances = rng.dirichlet(np.ones(3), 40)
    times = rng.integers(1, 4, 40)
    repeated = np.repeat(np.arange(40), times)
    weighted = score(labelled, truth, guess, chances, 50, 0, times.astype(float))
    plain = score(labelled, [truth[k] for k in repeated], [guess[k] for k in repeated], chances[repeated], 50, 0)
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "ece", "brier"):
        assert weighted[name] == pytest.approx(plain[name]), name
    for label in labelled:
        for name in ("precision", "recall", "f1"):
            assert weighted["per_class"][label][name] == pytest.approx(plain["per_class"][label][name])
    assert weighted["rows"] == 40 and sum(sum(row) for row in weighted["confusion"]) == 40, "counts are of rows"


def test_the_brier_score_does_not_depend_on_how_many_rows_are_looked_at_at_once(monkeypatch):
    rng = np.random.default_rng(3)
    labels = [f"label {k}" for k in range(60)]
    truth, given = (rng.choice(labels, 101).tolist() for _ in range(2))
    chances = rng.dirichlet(np.ones(60), 101)
    whole = score(labels, truth, given, chances, resamples=10)["brier"]
    monkeypatch.setattr(metrics, "CELLS_AT_ONCE", 120)
    assert score(labels, truth, given, chances, resamples=10)["brier"] == whole
    by_hand = [
        sum((p - (label == true)) ** 2 for p, label in zip(row, labels, strict=True))
        for row, true in zip(chances, truth, strict=True)
    ]
    assert whole == pytest.approx(np.mean(by_hand))
