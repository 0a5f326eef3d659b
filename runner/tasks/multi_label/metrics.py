"""How good lists of labels are: F1, exact match, calibration, intervals, and a paired test of two systems.

Knows neither files nor models: lists of labels and probabilities in, plain Python numbers out.

Conventions, stated once:

- An abstention (``None``) is a wrong answer: a miss of each label that the row has, and never an exact match.
- Macro F1 is the mean over the labels that occur in the truth or among the answers; a label that nobody has seen
  neither helps nor hurts. Micro F1 is that of all labels' counts together. Where nothing is to be found and nothing
  was said, both are 0.
- Calibration is measured for each label on answered rows, in ten bins of equal width of the probability that it
  applies. ECE is the mean gap between that and how often it does, weighted by the bins' rows (Naeini et al. 2015), as a
  mean over labels; the Brier score is the squared distance summed over the labels (Brier 1950).
- Intervals are percentiles of rows drawn again with replacement (Efron 1979), labels of a row together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Answer = Sequence[str] | None

BINS = 10
FIGURES = ("macro_f1", "micro_f1", "exact_match")
ROWS_AT_ONCE = 20_000_000
"""Numbers of resampled rows that are held in memory at once."""


def score(
    labels: Sequence[str],
    truth: Sequence[Sequence[str]],
    given: Sequence[Answer],
    probabilities: Floats | None,
    resamples: int = 2000,
    seed: int = 0,
    weights: Floats | None = None,
) -> dict[str, Any]:
    """Every figure that the report shows about one system, as a JSON-able dict.

    ``probabilities`` has shape ``(rows, labels)``; a row of NaN has none. ``weights`` say how many rows each one
    stands for: shares and calibration are weighted, counts of rows are not. ``per_class`` has precision, recall, F1 and
    calibration of each label, how many rows have it (``support``) and to how many it is given.

    :raises ValueError: when there are no rows, lengths differ, or a label is not among ``labels``.
    """
    true, said, silent = coded(labels, truth, given)
    each = np.ones(len(true)) if weights is None else np.asarray(weights, dtype=np.float64)
    hits = (true & said).astype(np.float64)
    right, both = each @ hits, each @ (true.astype(np.float64) + said)
    precision, recall, f1 = (_ratio(right, each @ said), _ratio(right, each @ true), _ratio(2 * right, both))
    calibrated = _calibration(true, silent, probabilities, each)
    per_class = {
        label: {
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(true[:, k].sum()),
            "given": int(said[:, k].sum()),
            "ece": calibrated["each"][k] if calibrated["each"] else None,
        }
        for k, label in enumerate(labels)
    }
    exact = ((true == said).all(axis=1) & ~silent).astype(np.float64)
    figures = _figures(each[None], true, said, exact)
    return {
        "rows": len(true),
        **{name: float(values[0]) for name, values in figures.items()},
        "mean_labels": float(np.average(said.sum(axis=1), weights=each)),
        "per_class": per_class,
        "confused": _confused(labels, true, said),
        "abstained": int(silent.sum()),
        **{name: calibrated[name] for name in ("ece", "brier", "reliability")},
        "ci95": _intervals(true, said, exact, each, resamples, seed),
    }


def paired(
    labels: Sequence[str],
    truth: Sequence[Sequence[str]],
    a: Sequence[Answer],
    b: Sequence[Answer],
    resamples: int = 2000,
    seed: int = 0,
    weights: Floats | None = None,
) -> dict[str, Any]:
    """By how much the macro F1 of ``b`` is above that of ``a`` on the same rows: a paired bootstrap, two-sided.

    ``difference`` is the figure with its 95 % interval; ``p`` is twice the share of resamples on the other side of
    zero, and 1 where both say the same. ``only_a_right`` and ``only_b_right`` count exact lists.
    """
    true, by_a, silent_a = coded(labels, truth, a)
    _, by_b, silent_b = coded(labels, truth, b)
    right_a = (true == by_a).all(axis=1) & ~silent_a
    right_b = (true == by_b).all(axis=1) & ~silent_b
    each = np.ones(len(true)) if weights is None else np.asarray(weights, dtype=np.float64)

    def macro(drawn: Floats, said: NDArray[np.bool_], right: NDArray[np.bool_]) -> Floats:
        return _figures(drawn, true, said, right.astype(np.float64))["macro_f1"]

    point = float(macro(each[None], by_b, right_b)[0] - macro(each[None], by_a, right_a)[0])
    found = np.concatenate(
        [macro(drawn, by_b, right_b) - macro(drawn, by_a, right_a) for drawn in _drawn(each, resamples, seed)]
    )
    same = bool((by_a == by_b).all())
    tail = (1 + min(int((found <= 0).sum()), int((found >= 0).sum()))) / (1 + resamples)
    low, high = np.percentile(found, [2.5, 97.5])
    return {
        "p": 1.0 if same else min(1.0, 2 * tail),
        "difference": [point, float(low), float(high)],
        "only_a_right": int((right_a & ~right_b).sum()),
        "only_b_right": int((right_b & ~right_a).sum()),
        "rows": len(true),
    }


def macro_f1(labels: Sequence[str], truth: Sequence[Sequence[str]], given: Sequence[Answer]) -> float:
    """Macro F1 alone."""
    true, said, _ = coded(labels, truth, given)
    return float(_figures(np.ones((1, len(true))), true, said, np.zeros(len(true)))["macro_f1"][0])


def coded(
    labels: Sequence[str], truth: Sequence[Sequence[str]], given: Sequence[Answer]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which labels each row has and is given, bool ``(rows, labels)``, and where nothing was said, ``(rows,)``."""
    if len(truth) != len(given) or not len(truth):
        raise ValueError(f"{len(truth)} true answers and {len(given)} given: need as many, and at least one")
    places = {label: k for k, label in enumerate(labels)}
    met = {label for value in (*truth, *given) for label in value or ()}
    if unknown := met - set(labels):
        raise ValueError(f"not among the labels: {', '.join(sorted(map(repr, unknown)))}")
    true, said = (np.zeros((len(truth), len(labels)), dtype=bool) for _ in range(2))
    for row, (right, answer) in enumerate(zip(truth, given, strict=True)):
        true[row, [places[label] for label in right]] = True
        said[row, [places[label] for label in answer or ()]] = True
    return true, said, np.array([answer is None for answer in given])


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def _figures(weights: Floats, true: NDArray[np.bool_], said: NDArray[np.bool_], exact: Floats) -> dict[str, Floats]:
    """:data:`FIGURES` of rows with each line of ``weights``, shape ``(lines, rows)``."""
    hits, either = (true & said).astype(np.float64), true.astype(np.float64) + said
    right, both = weights @ hits, weights @ either
    met = (both > 0).sum(axis=1)
    return {
        "macro_f1": _ratio(_ratio(2 * right, both).sum(axis=1), met.astype(np.float64)),
        "micro_f1": _ratio(2 * right.sum(axis=1), both.sum(axis=1)),
        "exact_match": _ratio(weights @ exact, weights.sum(axis=1)),
    }


def _drawn(weights: Floats, resamples: int, seed: int) -> list[Floats]:
    """Rows drawn again with replacement, as weights ``(some, rows)``, so many at a time as memory holds."""
    rng, rows = np.random.default_rng(seed), len(weights)
    step = max(1, ROWS_AT_ONCE // rows)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return [rng.multinomial(rows, np.full(rows, 1 / rows), size=size) * weights for size in sizes]


def _intervals(
    true: NDArray[np.bool_], said: NDArray[np.bool_], exact: Floats, weights: Floats, resamples: int, seed: int
) -> dict[str, list[float]]:
    found = [_figures(drawn, true, said, exact) for drawn in _drawn(weights, resamples, seed)]
    ends = {name: np.percentile(np.concatenate([one[name] for one in found]), [2.5, 97.5]) for name in FIGURES}
    return {name: [float(low), float(high)] for name, (low, high) in ends.items()}


def _confused(labels: Sequence[str], true: NDArray[np.bool_], said: NDArray[np.bool_]) -> list[list[Any]]:
    """(missed label, label given without need, rows) of each pair that stands in a row, the most frequent first."""
    missed, needless = true & ~said, said & ~true
    pairs: Counter[tuple[int, int]] = Counter()
    for row in np.flatnonzero(missed.any(axis=1) & needless.any(axis=1)):
        pairs.update((int(m), int(n)) for m in np.flatnonzero(missed[row]) for n in np.flatnonzero(needless[row]))
    return [[labels[m], labels[n], count] for (m, n), count in sorted(pairs.items(), key=lambda one: (-one[1], one[0]))]


def _calibration(
    true: NDArray[np.bool_], silent: NDArray[np.bool_], probabilities: Floats | None, weights: Floats
) -> dict[str, Any]:
    """ECE (``each`` label's, and their mean), Brier score, and the bins of all labels together."""
    nothing: dict[str, Any] = {"ece": None, "brier": None, "reliability": [], "each": []}
    if probabilities is None:
        return nothing
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.shape != true.shape:
        raise ValueError(f"probabilities of shape {chances.shape} for rows and labels {true.shape}")
    known = ~silent & np.isfinite(chances).all(axis=1)
    if not known.any():
        return nothing
    true, chances, weights = true[known], chances[known], weights[known]
    # Nine inner edges: a probability of 0 falls into the first bin, one of 1 into the last.
    place = np.digitize(chances, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    each = [_ece(place[:, k], chances[:, k], true[:, k], weights) for k in range(true.shape[1])]
    bins = [
        _bin(number, chances[here], true[here], np.broadcast_to(weights[:, None], true.shape)[here])
        for number in range(BINS)
        if (here := place == number).any()
    ]
    brier = float(np.average(np.square(chances - true).sum(axis=1), weights=weights))
    return {"ece": float(np.mean(each)), "brier": brier, "reliability": bins, "each": each}


def _ece(place: NDArray[np.intp], chances: Floats, true: NDArray[np.bool_], weights: Floats) -> float:
    gaps = np.bincount(place, weights * (chances - true), minlength=BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _bin(number: int, chances: Floats, true: NDArray[np.bool_], weights: Floats) -> dict[str, Any]:
    """One bin of the reliability diagram; ``rows`` counts labels of rows."""
    return {
        "lower": number / BINS,
        "upper": (number + 1) / BINS,
        "confidence": float(np.average(chances, weights=weights)),
        "accuracy": float(np.average(true, weights=weights)),
        "rows": len(true),
    }
