"""A classifier that knows its task before it is fine-tuned: its head is fitted to the encoder as it is.

With few texts that head alone is often the best student, for fine-tuning learns a teacher's mistakes by heart. It can
also be where fine-tuning starts, instead of a head of random numbers (LP-FT; Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from runner.student import pooling


@dataclass(frozen=True)
class Head:
    """A last layer: ``weight`` of shape ``(outputs, width)``, ``bias`` ``(outputs,)``, and what was chosen.

    ``agreement`` is the share of rows whose value such a head finds without having learned from them, as a mean over
    those values, so that a frequent one does not decide it.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float
    agreement: float


def fit(
    model: torch.nn.Module,
    answered: Iterable[list[int]],
    fit_head: Callable[[torch.Tensor], Head],
) -> Head | None:
    """Set the model's last layer to what ``fit_head`` makes of the values that it reads, ``(rows, width)``.

    None, and the layer is as it was, where what it reads is not finite numbers.

    ``answered`` calls the model on all rows, a batch at a time, and yields the numbers of each batch's rows.
    """
    given_to_last: list[torch.Tensor] = []  # what the last layer is given: (rows, width) of each batch
    last = pooling.last_linear(model)
    handle = last.register_forward_pre_hook(lambda _, given: given_to_last.append(given[0].detach().float().cpu()))
    try:
        rows = [row for batch in answered for row in batch]
    finally:
        handle.remove()
    features = torch.empty(len(rows), last.in_features)
    features[rows] = torch.cat(given_to_last)
    if not torch.isfinite(features).all():
        return None
    head = fit_head(features)
    with torch.no_grad():
        last.weight.copy_(head.weight)
        last.bias.copy_(head.bias)
    return head
