"""Which labelled texts the teacher is shown: the nearest to each row, or a few that spread over labels and meanings.

Nearness is the cosine of sentence embeddings: the mean of an encoder's last hidden states, as sentence-transformers
has it (Reimers and Gurevych 2019). Knows no Ray and no spec; the encoder is loaded where the work is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner import models

Vectors = NDArray[np.float32]

CHOSEN = pa.schema([("id", pa.string()), ("examples", pa.list_(pa.int32()))])


COVERED = 2000
"""Texts of a pool that are to be stood for at the most: more say nothing new and cost memory."""


class Chooser:
    """Finds for each row of a batch the ``k`` nearest texts of a pool (Liu et al. 2022); returns :data:`CHOSEN`.

    The nearest stands last, next to the question: what is read last weighs most (Zhao et al. 2021).
    """

    def __init__(self, model: str, pool: Sequence[str], k: int) -> None:
        self._encoder, self._k = encoder_of(model, "task.examples"), k
        self._pool = self._encoder.embed(pool)

    def __call__(self, batch: pa.Table) -> pa.Table:
        found = nearest(self._encoder.embed(batch["text"].to_pylist()), self._pool, self._k)
        return pa.table([batch["id"], pa.array(found.tolist(), CHOSEN.field("examples").type)], schema=CHOSEN)


def nearest(rows: Vectors, pool: Vectors, k: int) -> NDArray[np.int64]:
    """Numbers ``(rows, k)`` of the pool's nearest vectors for each row, the nearest last; of equals the first in it."""
    order = np.argsort(-(rows @ pool.T), axis=1, kind="stable")
    return order[:, :k][:, ::-1]


def spread(pool: Vectors, labels: Sequence[str], k: int) -> list[int]:
    """Numbers of ``k`` texts of the pool that stand for it: label after label in turn, each the one that adds most.

    What a text adds is how much nearer the pool's texts come to the nearest chosen one (greedy facility location,
    Nemhauser et al. 1978): typical texts of different kinds, and no outliers.
    """
    names = list(dict.fromkeys(labels))
    judges = pool[:: -(-len(pool) // COVERED)]
    near = judges @ pool.T
    covered = np.full(len(judges), -1.0, dtype=np.float32)
    chosen: list[int] = []
    while len(chosen) < min(k, len(labels)):
        label = names[len(chosen) % len(names)]
        left = [i for i in range(len(labels)) if i not in chosen]
        open_ = [i for i in left if labels[i] == label] or left
        gain = np.maximum(covered[:, None], near[:, open_]).sum(axis=0)
        chosen.append(open_[int(np.argmax(gain))])
        covered = np.maximum(covered, near[:, chosen[-1]])
    return chosen


def choose_spread(model: str, texts: Sequence[str], labels: Sequence[str], k: int) -> list[int]:
    """As :func:`spread`, of texts."""
    return spread(encoder_of(model, "task.examples").embed(texts), labels, k)


def encoder_of(model: str, who: str) -> Any:
    """The encoder that says what is near what; ``who`` asks for it, by its field of the spec."""
    from runner.student.embed import Encoder  # where the work is done only: the driver needs no torch

    return Encoder.load(models.ensure(model, who=who))
