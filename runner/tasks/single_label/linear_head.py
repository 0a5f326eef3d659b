"""A linear classifier on fixed features, fitted to label probabilities: multinomial logistic regression.

How strongly its weights are held small is chosen by cross-validation, which also says what a head thinks of rows that
it did not learn from. Knows torch; does not know encoders, Ray or the run folder.
"""

from __future__ import annotations

import numpy as np
import torch

from runner.student.head_start import Head

PENALTIES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
"""Of the squared weights, a row's share; the strongest first. Each fit starts from the one before."""

FOLDS = 5
MOST_ROWS = 5000
"""Rows that the penalty is chosen on."""

ITERATIONS = 60


def fit_head(features: torch.Tensor, targets: torch.Tensor, seed: int) -> Head:
    """Fit ``targets``, probabilities of shape ``(rows, labels)``, from ``features`` ``(rows, width)``, both float32."""
    penalty, agreement = choose_penalty(features, targets, seed)
    path = PENALTIES[: PENALTIES.index(penalty) + 1]
    weight, bias = _path(features, targets, path)[-1]
    return Head(weight, bias, penalty, agreement)


def choose_penalty(features: torch.Tensor, targets: torch.Tensor, seed: int) -> tuple[float, float]:
    """The penalty whose heads have the least cross-entropy on rows that they did not learn from; their agreement."""
    order = np.random.default_rng(seed).permutation(len(features))[:MOST_ROWS]
    folds = min(FOLDS, len(order))
    if folds < 2:
        return PENALTIES[0], 0.0
    losses = np.zeros(len(PENALTIES))
    right = torch.zeros(len(PENALTIES), len(features))
    for fold in range(folds):
        unseen = torch.from_numpy(order[fold::folds].copy())
        seen = torch.from_numpy(np.concatenate([order[other::folds] for other in range(folds) if other != fold]))
        for number, (weight, bias) in enumerate(_path(features[seen], targets[seen], PENALTIES)):
            logits = features[unseen] @ weight.T + bias
            losses[number] += float(-(targets[unseen] * torch.log_softmax(logits, dim=-1)).sum())
            right[number, unseen] = (logits.argmax(dim=-1) == targets[unseen].argmax(dim=-1)).float()
    chosen = int(losses.argmin())
    looked_at = torch.from_numpy(order.copy())
    labels = targets[looked_at].argmax(dim=-1)
    found = right[chosen, looked_at]
    shares = [float(found[labels == label].mean()) for label in torch.unique(labels)]
    return PENALTIES[chosen], sum(shares) / len(shares)


def _path(
    features: torch.Tensor, targets: torch.Tensor, penalties: tuple[float, ...]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias for each penalty, each fit beginning where the one before ended."""
    weight = torch.zeros(targets.shape[1], features.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    found = []
    for penalty in penalties:
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def loss(penalty: float = penalty, optimizer: torch.optim.LBFGS = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            logits = features @ weight.T + bias
            value = -(targets * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean() + penalty * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        found.append((weight.detach().clone(), bias.detach().clone()))
    return found
