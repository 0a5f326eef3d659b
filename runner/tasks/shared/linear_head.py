"""A linear head on fixed features, fitted to what a kind of task has a student learn, by the loss that it learns by.

How strongly its weights are held small is chosen by cross-validation, which also says what a head thinks of rows that
it did not learn from. Knows torch; does not know encoders, Ray or the run folder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from runner.student.head_start import Head

PENALTIES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
"""Of the squared weights, a row's share; the strongest first. Each fit starts from the one before."""

FOLDS = 5
MOST_ROWS = 5000
"""Rows that the penalty is chosen on."""

ITERATIONS = 60


Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""What each output adds to the loss of each row, from logits and targets; all three are ``(rows, outputs)``."""

IsRight = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""How right the answer to each row is, from 0 to 1, ``(rows,)``, from logits and targets."""

Agreement = Callable[[torch.Tensor, torch.Tensor], float]
"""The mean of that over rows, by their targets."""


def fit_head(
    features: torch.Tensor,
    targets: torch.Tensor,
    seed: int,
    losses: Losses,
    is_right: IsRight,
    agreement: Agreement,
) -> Head:
    """Fit ``targets``, of shape ``(rows, outputs)``, from ``features`` ``(rows, width)``, both float32."""
    penalty, agreed = choose_penalty(features, targets, seed, losses, is_right, agreement)
    path = PENALTIES[: PENALTIES.index(penalty) + 1]
    weight, bias = _path(features, targets, path, losses)[-1]
    return Head(weight, bias, penalty, agreed)


def choose_penalty(
    features: torch.Tensor,
    targets: torch.Tensor,
    seed: int,
    losses: Losses,
    is_right: IsRight,
    agreement: Agreement,
) -> tuple[float, float]:
    """The penalty whose heads have the least loss on rows that they did not learn from; their agreement."""
    order = np.random.default_rng(seed).permutation(len(features))[:MOST_ROWS]
    folds = min(FOLDS, len(order))
    if folds < 2:
        return PENALTIES[0], 0.0
    lost = np.zeros(len(PENALTIES))
    right = torch.zeros(len(PENALTIES), len(features))
    for fold in range(folds):
        unseen = torch.from_numpy(order[fold::folds].copy())
        seen = torch.from_numpy(np.concatenate([order[other::folds] for other in range(folds) if other != fold]))
        for number, (weight, bias) in enumerate(_path(features[seen], targets[seen], PENALTIES, losses)):
            logits = features[unseen] @ weight.T + bias
            lost[number] += float(losses(logits, targets[unseen]).sum())
            right[number, unseen] = is_right(logits, targets[unseen]).float()
    chosen = int(lost.argmin())
    looked_at = torch.from_numpy(order.copy())
    return PENALTIES[chosen], agreement(right[chosen, looked_at], targets[looked_at])


def _path(
    features: torch.Tensor, targets: torch.Tensor, penalties: tuple[float, ...], losses: Losses
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
            value = losses(logits, targets).sum(dim=-1).mean() + penalty * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        found.append((weight.detach().clone(), bias.detach().clone()))
    return found
