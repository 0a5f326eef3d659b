"""How good predictions are: accuracy, F1, calibration, intervals, and a paired test of two systems.

Knows neither files nor models: label names and probabilities in, plain Python numbers out.

Conventions, stated once:

- An abstention (``None``) is a wrong answer: it is a miss of its true class, and no class gains by it.
- Macro F1 averages over the classes that occur in the truth or among the predictions; balanced accuracy
  over those that occur in the truth. A class that nobody has seen neither helps nor hurts.
- Calibration is measured on answered rows: the probability that was given to the predicted label, in ten
  bins of equal width. ECE is the mean gap between confidence and accuracy, weighted by the bins' rows
  (Naeini et al. 2015); the Brier score is the squared distance to the truth summed over the labels:
  from 0 to 2 (Brier 1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

BINS = 10
CELLS_AT_ONCE = 10_000_000
"""Numbers that are held in memory at once: with many labels resampled counts, and distances, take several goes."""

MATRIX = 50
"""Of more labels than these the confusion is told by its pairs: nearly all cells of a matrix would be empty."""


def score(
    labels: Sequence[str],
    truth: Sequence[str],
    predicted: Sequence[str | None],
    probabilities: NDArray[np.floating[Any]] | None,
    resamples: int = 2000,
    seed: int = 0,
    weights: NDArray[np.floating[Any]] | None = None,
) -> dict[str, Any]:
    """Every figure that the report shows about one system, as a JSON-able dict.

    ``probabilities`` has shape ``(rows, labels)`` in the labels' order; a row of NaN has none. ``weights`` say how many
    rows each one stands for, where some were more likely to be drawn than others: shares and calibration are weighted,
    counts of rows are not.
    ``confusion`` counts truth by row and prediction by column; of more than :data:`MATRIX` labels it is null, and
    ``confused`` lists (truth, prediction, rows) of every cell off the diagonal that is not empty, the fullest first.
    Abstentions stand beside it in ``abstained_by_class``. ``ci95`` are percentile bootstrap intervals over the rows.

    :raises ValueError: when there are no rows, lengths differ, or a label is not among ``labels``.
    """
    true, guess = _codes(labels, truth, predicted)
    if probabilities is not None and np.shape(probabilities) != (len(true), len(labels)):
        raise ValueError(
            f"probabilities of shape {np.shape(probabilities)} for {len(true)} rows and {len(labels)} labels"
        )
    counts = _counts(true, guess, len(labels))
    weighted = counts if weights is None else _counts(true, guess, len(labels), weights)
    per_class = _per_class(labels, true, guess, weights, counts.sum(axis=1))
    return {
        "rows": len(true),
        "accuracy": float(np.average(true == guess, weights=weights)),
        "macro_f1": float(_macro_f1(*_sums(weighted[None]))[0]),
        "balanced_accuracy": float(np.mean([found["recall"] for found in per_class.values() if found["support"]])),
        "per_class": per_class,
        **_confusion(labels, counts[:, :-1]),
        "abstained": int(counts[:, -1].sum()),
        "abstained_by_class": {label: int(counts[k, -1]) for k, label in enumerate(labels)},
        **_calibration(true, guess, probabilities, weights),
        "ci95": _intervals(counts, resamples, seed),
    }


def _counts(
    true: NDArray[np.intp], guess: NDArray[np.intp], labels: int, weights: NDArray[np.floating[Any]] | None = None
) -> NDArray[Any]:
    """Rows, or their weights, by truth and prediction, shape ``(labels, labels + 1)``: abstentions stand last."""
    counts: NDArray[Any] = confusion_matrix(true, guess, labels=range(labels + 1), sample_weight=weights)[:-1]
    return counts


def _per_class(
    labels: Sequence[str],
    true: NDArray[np.intp],
    guess: NDArray[np.intp],
    weights: NDArray[np.floating[Any]] | None,
    support: NDArray[np.integer[Any]],
) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 of each label, and the rows that it has."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, guess, labels=range(len(labels)), zero_division=0.0, sample_weight=weights
    )
    return {
        label: {
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(support[k]),
        }
        for k, label in enumerate(labels)
    }


def weighted_macro_f1(
    labels: int,
    true: NDArray[np.intp],
    guess: NDArray[np.intp],
    weights: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """Macro F1 of rows that stand for ``weights`` others each, with a 95 % percentile bootstrap interval.

    ``true`` and ``guess`` are places of labels, shape ``(rows,)``, -1 in ``guess`` for an abstention.
    """
    rng, cells = np.random.default_rng(seed), labels * (labels + 1)
    cell = true * (labels + 1) + np.where(guess < 0, labels, guess)

    def of(weight: NDArray[np.float64]) -> float:
        table = np.bincount(cell, weight, minlength=cells).reshape(1, labels, labels + 1)
        return float(_macro_f1(*_sums(table))[0])

    drawn = rng.multinomial(len(true), np.full(len(true), 1 / len(true)), size=resamples)
    low, high = np.percentile([of(weights * times) for times in drawn], [2.5, 97.5])
    return of(weights), float(low), float(high)


def mcnemar(truth: Sequence[str], a: Sequence[str | None], b: Sequence[str | None]) -> dict[str, Any]:
    """Are two systems equally often right on the same rows? McNemar's exact test, two-sided (McNemar 1947).

    Only rows where exactly one of the two is right say anything; without any, ``p`` is 1.

    :raises ValueError: when the lengths differ.
    """
    if not len(truth) == len(a) == len(b):
        raise ValueError(f"{len(truth)} true labels, {len(a)} and {len(b)} predictions")
    right_a = [guess == true for guess, true in zip(a, truth, strict=True)]
    right_b = [guess == true for guess, true in zip(b, truth, strict=True)]
    only_a = sum(x and not y for x, y in zip(right_a, right_b, strict=True))
    only_b = sum(y and not x for x, y in zip(right_a, right_b, strict=True))
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"p": p, "only_a_right": only_a, "only_b_right": only_b, "rows": len(truth)}


def _codes(
    labels: Sequence[str], truth: Sequence[str], predicted: Sequence[str | None]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Labels as their place in ``labels``; an abstention is one place after the last."""
    if len(truth) != len(predicted) or not len(truth):
        raise ValueError(f"{len(truth)} true labels and {len(predicted)} predictions: need as many, and at least one")
    unknown = {*truth, *(label for label in predicted if label is not None)} - {*labels}
    if unknown:
        raise ValueError(f"not among the labels: {', '.join(sorted(map(repr, unknown)))}")
    places: dict[str | None, int] = {label: k for k, label in enumerate(labels)} | {None: len(labels)}
    true = np.array([places[label] for label in truth], dtype=np.intp)
    guess = np.array([places[label] for label in predicted], dtype=np.intp)
    return true, guess


def _confusion(labels: Sequence[str], counts: NDArray[np.integer[Any]]) -> dict[str, Any]:
    """The matrix, or its pairs where it would be too large to read."""
    if len(labels) <= MATRIX:
        return {"confusion": counts.tolist()}
    pairs = [(int(t), int(p)) for t, p in zip(*np.nonzero(counts), strict=True) if t != p]
    pairs.sort(key=lambda pair: -int(counts[pair]))
    return {"confusion": None, "confused": [[labels[t], labels[p], int(counts[t, p])] for t, p in pairs]}


def _sums(counts: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of tables ``(tables, labels, labels + 1)``, abstentions last: the diagonal, and each class's row plus column."""
    right = np.diagonal(counts, axis1=1, axis2=2)
    return right, counts.sum(axis=2) + counts[:, :, :-1].sum(axis=1)


def _macro_f1(right: NDArray[np.integer[Any]], both: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Macro F1 of each table; ``2 TP + FP + FN`` is the class's row (truth) plus its column (predictions)."""
    f1 = np.divide(2.0 * right, both, out=np.zeros(both.shape), where=both > 0)
    macro: NDArray[np.float64] = f1.sum(axis=1) / (both > 0).sum(axis=1)
    return macro


def _intervals(counts: NDArray[np.integer[Any]], resamples: int, seed: int) -> dict[str, list[float]]:
    """Percentile bootstrap intervals (Efron 1979) of accuracy and macro F1.

    Both depend on the rows only through the (truth, predicted) counts, and the counts of rows drawn with
    replacement are a multinomial draw: exact, and far cheaper than drawing the rows. Cells that are empty stay so.
    """
    rng = np.random.default_rng(seed)
    rows, labels = int(counts.sum()), len(counts)
    truth, guess = np.nonzero(counts)
    # Which cells add to each class's diagonal, and to its row plus its column.
    cells = np.arange(len(truth))
    answered, hit = guess < labels, truth == guess
    diagonal = _adding(cells[hit], truth[hit], len(cells), labels)
    both_of = _adding(cells, truth, len(cells), labels) + _adding(cells[answered], guess[answered], len(cells), labels)
    accuracy, macro = np.empty(resamples), np.empty(resamples)
    step = max(1, CELLS_AT_ONCE // max(labels, len(cells)))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = rng.multinomial(rows, counts[truth, guess] / rows, size=stop - start)
        right, both = (drawn @ adding for adding in (diagonal, both_of))
        accuracy[start:stop] = right.sum(axis=1) / rows
        macro[start:stop] = _macro_f1(right, both)
    return {
        "accuracy": [float(bound) for bound in np.percentile(accuracy, [2.5, 97.5])],
        "macro_f1": [float(bound) for bound in np.percentile(macro, [2.5, 97.5])],
    }


def _adding(cells: NDArray[np.integer[Any]], classes: NDArray[np.integer[Any]], rows: int, columns: int) -> Any:
    """A matrix that adds each of ``cells`` to its class."""
    return csr_array((np.ones(len(cells), dtype=np.int64), (cells, classes)), shape=(rows, columns))


def _calibration(
    true: NDArray[np.intp],
    guess: NDArray[np.intp],
    probabilities: NDArray[np.floating[Any]] | None,
    weights: NDArray[np.floating[Any]] | None,
) -> dict[str, Any]:
    """ECE, Brier score and reliability bins over the answered rows; None and no bins where there are none."""
    nothing: dict[str, Any] = {"ece": None, "brier": None, "reliability": []}
    if probabilities is None:
        return nothing
    chances = np.asarray(probabilities, dtype=np.float64)
    answered = (guess < chances.shape[1]) & np.isfinite(chances).all(axis=1)
    if not answered.any():
        return nothing
    true, guess, chances = true[answered], guess[answered], chances[answered]
    weight = np.ones(len(true)) if weights is None else np.asarray(weights, dtype=np.float64)[answered]
    confidence = chances[np.arange(len(guess)), guess]
    right = true == guess
    # Nine inner edges: a confidence of 0 falls into the first bin, one of 1 into the last.
    place = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    inside = [(k, place == k) for k in range(BINS) if (place == k).any()]
    bins = [_bin(k, confidence[rows], right[rows], weight[rows]) for k, rows in inside]
    gaps = [
        weight[rows].sum() * abs(entry["confidence"] - entry["accuracy"])
        for (_, rows), entry in zip(inside, bins, strict=True)
    ]
    brier = float(np.average(_distance(chances, true), weights=weight))
    return {"ece": float(sum(gaps) / weight.sum()), "brier": brier, "reliability": bins}


def _distance(chances: NDArray[np.float64], true: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of each row the squared distance to its truth: some rows at a time, for of many labels the cells are many."""
    distance, step = np.empty(len(true)), max(1, CELLS_AT_ONCE // chances.shape[1])
    for start in range(0, len(true), step):
        apart = chances[start : start + step].copy()
        apart[np.arange(len(apart)), true[start : start + step]] -= 1.0
        distance[start : start + step] = np.square(apart).sum(axis=1)
    return distance


def _bin(
    place: int, confidence: NDArray[np.float64], right: NDArray[np.bool_], weight: NDArray[np.float64]
) -> dict[str, Any]:
    """One bin of the reliability diagram."""
    return {
        "lower": place / BINS,
        "upper": (place + 1) / BINS,
        "confidence": float(np.average(confidence, weights=weight)),
        "accuracy": float(np.average(right, weights=weight)),
        "rows": len(right),
    }
