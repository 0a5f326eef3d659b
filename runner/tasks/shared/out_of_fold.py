"""What linear heads say of rows that they did not learn from: every row is answered by a head of other rows.

Features may be dense or sparse. Knows torch; does not know encoders, Ray or the run folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from runner.tasks.shared.linear_head import FOLDS, ITERATIONS, PENALTIES, Losses

LENGTH = 20.0
"""Features are scaled to this length, for which the ``PENALTIES`` reach far enough to either side: that of a vector of
400 numbers whose squares are 1 in the mean."""

MOST_ROWS = 20_000
"""Rows that one head learns from; more make it little better, and many labels slow."""

HISTORY = 10
"""Steps that L-BFGS remembers: with many labels and features each takes much memory."""


def out_of_fold(
    features: Any,
    targets: NDArray[np.float32],
    learned: NDArray[np.bool_],
    seed: int,
    losses: Losses,
    probabilities: Callable[[torch.Tensor], torch.Tensor],
) -> Any:
    """What is told of every row, shape ``(rows, outputs)``, float64, by heads that ``losses`` fit to ``targets`` alike.

    ``features`` ``(rows, width)``: an array, or a sparse one. Rows that are not ``learned`` ``(rows,)`` teach no head,
    and get the mean of all heads' logits. NaN everywhere where fewer than two rows are learned. Penalties are tried
    from the strongest on, as long as the loss on rows that were not learned falls. ``probabilities`` makes of logits
    what is told of them.
    """
    rows, labels = targets.shape
    numbers = np.flatnonzero(learned)
    if len(numbers) < 2:
        return np.full((rows, labels), np.nan)
    scaled = _scaled(features)
    folds = np.full(rows, -1)
    folds[numbers] = np.random.default_rng(seed).permutation(len(numbers)) % min(FOLDS, len(numbers))
    heads = [_Fold(scaled, targets, folds, fold, losses) for fold in range(folds.max() + 1)]
    best, kept = np.inf, np.full((rows, labels), np.nan)
    for penalty in PENALTIES:
        logits = _answers(heads, scaled, folds, penalty, labels)
        known = torch.from_numpy(logits[numbers])
        loss = float(losses(known, torch.from_numpy(targets[numbers])).sum(dim=-1).mean())
        if not loss < best:
            break
        best, kept = loss, probabilities(torch.from_numpy(logits)).numpy()
    return kept


def _answers(heads: list[_Fold], features: Any, folds: NDArray[np.int64], penalty: float, labels: int) -> Any:
    """The logits of all rows, float64, after each head was fitted with the penalty."""
    logits = np.zeros((len(folds), labels))
    asked_by_all = folds < 0
    for fold, head in enumerate(heads):
        head.fit(penalty)
        logits[folds == fold] = head.logits(features[folds == fold])
        if asked_by_all.any():
            logits[asked_by_all] += head.logits(features[asked_by_all]) / len(heads)
    return logits


class _Fold:
    """The head of all other folds; each fit goes on from the one before."""

    def __init__(
        self, features: Any, targets: NDArray[np.float32], folds: NDArray[np.int64], fold: int, losses: Losses
    ) -> None:
        seen = np.flatnonzero((folds >= 0) & (folds != fold))
        if len(seen) > MOST_ROWS:
            seen = np.sort(np.random.default_rng(fold).choice(seen, MOST_ROWS, replace=False))
        self._losses = losses
        self._features, self._targets = _tensor(features[seen]), torch.from_numpy(targets[seen])
        self._weight = torch.zeros(features.shape[1], targets.shape[1], requires_grad=True)
        self._bias = torch.zeros(targets.shape[1], requires_grad=True)

    def fit(self, penalty: float) -> None:
        parameters = [self._weight, self._bias]
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=ITERATIONS, history_size=HISTORY, line_search_fn="strong_wolfe"
        )

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            found = self._losses(self._features @ self._weight + self._bias, self._targets)
            value = penalty * self._weight.square().sum() + found.sum(dim=-1).mean()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    def logits(self, features: Any) -> Any:
        with torch.no_grad():
            return (_tensor(features) @ self._weight + self._bias).double().numpy()


def _scaled(features: Any) -> Any:
    """Rows of :data:`LENGTH`; one of zeros stays as it is."""
    if issparse(features):
        found = csr_array(features, dtype=np.float32)
        lengths = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
        found.data *= np.repeat(LENGTH / np.maximum(lengths, 1e-12), np.diff(found.indptr)).astype(np.float32)
        return found
    dense = np.asarray(features, dtype=np.float32)
    return dense * (LENGTH / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12))


def _tensor(features: Any) -> torch.Tensor:
    if not issparse(features):
        return torch.from_numpy(np.ascontiguousarray(features))
    starts, columns = (torch.from_numpy(part.astype(np.int64)) for part in (features.indptr, features.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        values = torch.from_numpy(features.data)
        return torch.sparse_csr_tensor(starts, columns, values, features.shape, check_invariants=False)
