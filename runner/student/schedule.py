"""Learning rates by layer, and the batches of an epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from runner.student.recipes import LOWEST_RATE

_LAYER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")

BUCKET = 50
"""Batches per length bucket: rows are shuffled first, so that padding is short and order still random."""


def default_learning_rate(parameters: int) -> float:
    """Small encoders want larger steps: 2e-4 up to 50 M parameters, 5e-5 above. It is that of the top layers."""
    return 2e-4 if parameters < 50_000_000 else 5e-5


def depth(name: str, base: str) -> int | None:
    """The layer that a parameter belongs to, from its name: 0 for embeddings, None for what stands above all layers."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    return 0 if name.startswith(f"{base}.") and "pooler" not in name else None


def layer_rate(layer: int | None, layers: int, lowest: float = LOWEST_RATE) -> float:
    """The share of the learning rate for a layer: all of it above the layers, ``lowest`` for embeddings.

    Layer-wise decay (Howard and Ruder 2018, arXiv:1801.06146): the lower a layer, the more of what it knows should
    stay.
    """
    return 1.0 if layer is None else lowest ** (1 - layer / (layers + 1))


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers in length-grouped batches, in an order that ``(seed, epoch)`` alone decides."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * BUCKET):
        bucket = sorted(order[start : start + size * BUCKET], key=lambda i: lengths[i])
        batches += [[int(i) for i in bucket[b : b + size]] for b in range(0, len(bucket), size)]
    return [batches[i] for i in rng.permutation(len(batches))]
