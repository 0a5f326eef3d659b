"""Which labelled texts the teacher is shown: the nearest to each row, or a few that spread over labels and meanings.

Nearness is the cosine of sentence embeddings: the mean of an encoder's last hidden states, as sentence-transformers
has it (Reimers and Gurevych 2019). Knows no Ray and no spec; the encoder is loaded where the work is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

CHOSEN = pa.schema([("id", pa.string()), ("examples", pa.list_(pa.int32()))])


class Chooser:
    """Finds for each row of a batch the ``k`` nearest texts of a pool; returns :data:`CHOSEN`.

    The nearest stands last, next to the question: what is read last weighs most (Liu et al. 2022).
    """

    def __init__(self, model: str, pool: Sequence[str], k: int) -> None:
        from runner.student import Encoder  # where the work is done only: the driver needs no torch

        self._encoder, self._k = Encoder.load(Path(model)), k
        self._pool = self._encoder.embed(pool)

    def __call__(self, batch: pa.Table) -> pa.Table:
        found = nearest(self._encoder.embed(batch["text"].to_pylist()), self._pool, self._k)
        return pa.table([batch["id"], pa.array(found.tolist(), CHOSEN.field("examples").type)], schema=CHOSEN)


def nearest(rows: Vectors, pool: Vectors, k: int) -> NDArray[np.int64]:
    """Numbers ``(rows, k)`` of the pool's nearest vectors for each row, the nearest last; of equals the first in it."""
    order = np.argsort(-(rows @ pool.T), axis=1, kind="stable")
    return order[:, :k][:, ::-1]


def spread(pool: Vectors, labels: Sequence[str], k: int) -> list[int]:
    """Numbers of ``k`` texts of the pool: label after label in turn, each the farthest from those chosen so far.

    The first is the one nearest to the middle of all, so that an outlier does not begin.
    """
    names = list(dict.fromkeys(labels))
    chosen: list[int] = []
    while len(chosen) < min(k, len(labels)):
        label = names[len(chosen) % len(names)]
        open_ = [i for i, name in enumerate(labels) if name == label and i not in chosen]
        if not open_:
            open_ = [i for i in range(len(labels)) if i not in chosen]
        score = -(pool[open_] @ pool[chosen].T).max(axis=1) if chosen else pool[open_] @ pool.mean(axis=0)
        chosen.append(open_[int(np.argmax(score))])
    return chosen


def choose_spread(model: str, texts: Sequence[str], labels: Sequence[str], k: int) -> list[int]:
    """As :func:`spread`, of texts."""
    from runner.student import Encoder

    return spread(Encoder.load(Path(model)).embed(texts), labels, k)
