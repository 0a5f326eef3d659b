"""Texts in batches of like length: how many tokens a device is given at once, and how they are padded.

Knows token ids and arrays; does not know torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOKENS_PER_BATCH = 2048
"""Padded tokens in one batch. On CPUs larger batches fall out of the cache and gain nothing."""

TOKENS_PER_LANE = {"torch": 1024, "openvino": 1024, "onnx": 512, "onnx-int8": 384}
"""The same where batches are worked on side by side, a core for each: what is fastest, by the runtime."""

FEWEST_TOKENS = 256
"""Batches become smaller towards the end, so that all lanes end together, but no smaller than this."""

GPU_TOKENS = ((38, 32_768), (20, 16_384), (14, 8_192), (7, 4_096))
"""Padded tokens in one batch by a GPU's memory in GiB, from so much on; less memory than the last has 2,048.

By arithmetic, measured on no GPU. A forward of 2,048 tokens costs the host 2 to 5 ms (6 or 12 layers) of launches
whatever the GPU: RoBERTa-base keeps a T4 busy with it and a fifth of an H100. With these the arithmetic takes several
times as long as the launches on each of T4 (14.6 GiB, 65 TFLOP/s in fp16), L4 and A10G (22 GiB, 121 and 70), A100 and
H100 (39 GiB and more, 312 and 989), by NVIDIA's data sheets; activations of RoBERTa-base are under 2 GB at 32,768.
"""

MOST_WITHOUT_BF16, MOST_WITHOUT_TENSOR_CORES = 16_384, 8_192
"""The most tokens for GPUs below compute capability 8.0 and 7.0: an old card with much memory is no faster for it."""


def device_tokens(kind: str, capability: tuple[int, int] = (0, 0), memory_bytes: int = 0) -> int:
    """Padded tokens that one batch may have on a device of torch's ``kind`` (``cpu``, ``cuda``).

    ``capability`` and ``memory_bytes`` are those of a GPU, as torch reports them.
    """
    if kind != "cuda":
        return TOKENS_PER_BATCH
    gib = memory_bytes / 2**30
    tokens = next((tokens for least, tokens in GPU_TOKENS if gib >= least), TOKENS_PER_BATCH)
    if capability < (7, 0):
        return min(tokens, MOST_WITHOUT_TENSOR_CORES)
    return min(tokens, MOST_WITHOUT_BF16) if capability < (8, 0) else tokens


@dataclass
class Budget:
    """The padded tokens that a device takes at once, and how often they had to be halved for want of memory."""

    tokens: int
    halved: int = 0

    def divide(self, ids: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
        """The rows in their order, in pieces that fit; a row that fits nowhere is a piece of its own."""
        rows = max(1, self.tokens // max(map(len, ids)))
        return [ids[start : start + rows] for start in range(0, len(ids), rows)]

    def halve(self, tokens: int) -> None:
        """So many padded tokens were too many."""
        self.tokens, self.halved = max(1, min(self.tokens, tokens) // 2), self.halved + 1


def padded(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask, both ``(len(ids), longest)``, int64."""
    longest = max(len(row) for row in ids)
    tokens = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for index, row in enumerate(ids):
        tokens[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return tokens, mask


def length_batches(lengths: Sequence[int], tokens: int, rows: int | None = None, lanes: int = 1) -> Iterator[list[int]]:
    """Row numbers, longest first, in batches of at most ``tokens`` padded tokens (and ``rows`` rows).

    For several lanes they become smaller towards the end (guided self-scheduling, Polychronopoulos and Kuck 1987), so
    that all lanes end at about the same time: by halves, since oneDNN makes and keeps code for each new shape.
    """
    batch: list[int] = []
    longest, left, most = 0, sum(lengths), tokens
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and ((len(batch) + 1) * longest > most or len(batch) == rows):
            yield batch
            batch = []
        if not batch:
            longest = lengths[index]
            while lanes > 1 and most >= 2 * FEWEST_TOKENS and most * 2 * lanes > left:
                most //= 2
        batch.append(index)
        left -= lengths[index]
    if batch:
        yield batch


def shared_batches(lengths: Sequence[int], tokens: int, rank: int, workers: int) -> list[list[int]]:
    """One worker's part of :func:`length_batches` of all rows, itself in batches of at most ``tokens``.

    Which rows are whose does not depend on ``tokens``, which is the worker's own: its GPU may be another than theirs.
    """
    shares = list(length_batches(lengths, TOKENS_PER_BATCH))[rank::workers]
    if tokens <= TOKENS_PER_BATCH:
        return shares
    mine = [row for share in shares for row in share]
    return [[mine[i] for i in batch] for batch in length_batches([lengths[row] for row in mine], tokens)]


def batch_figures(ran: Sequence[tuple[int, int]]) -> dict[str, float | int] | None:
    """What was in the batches that a device computed, each given as (rows, longest): means, and how many there were.

    ``tokens`` count padding; they are what the device computed.
    """
    if not ran:
        return None
    rows, tokens = sum(rows for rows, _ in ran), sum(rows * longest for rows, longest in ran)
    return {"batches": len(ran), "rows": rows / len(ran), "tokens": tokens / len(ran)}


def mean_figures(figures: Sequence[dict[str, float | int]]) -> dict[str, float | int] | None:
    """Those of :func:`batch_figures` for several lots of batches together."""
    if not (batches := sum(lot["batches"] for lot in figures)):
        return None
    means = {name: sum(lot[name] * lot["batches"] for lot in figures) / batches for name in ("rows", "tokens")}
    return {"batches": batches, **means}


def halved_warning(times: int, tokens: int) -> list[str]:
    """What to say where batches were halved for want of memory, down to so many tokens; nothing where they were not."""
    if not times:
        return []
    return [
        f"the GPU's memory ran out {times} time{'s' if times > 1 else ''} over the student's batches, which were "
        f"halved to {tokens:,} tokens and done again, so that no result is missing; something else may be using that "
        "GPU (`nvidia-smi` shows what)"
    ]
