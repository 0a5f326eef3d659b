"""Which labelled train rows a student does not learn from: they choose the epoch, the settings and the runtime.

No answer, nor a part of one, loses more than half of its rows, so that none is left without any; of a handful of rows
none is held out. The train stage writes the choice to :data:`FILE`, for the stages after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

FEWEST_ROWS = 10
"""Of fewer labelled rows none is held out: one row or two say nothing, and the student needs them."""

FILE = "rows.parquet"


def schema(value: pa.DataType) -> pa.Schema:
    """Of :data:`FILE`: every train row that the teacher labelled, with its ``value``, and whether the student did not
    learn from it."""
    return pa.schema([("id", pa.string()), ("label", value), ("held_out", pa.bool_())])


def held_out_size(count: int, share: float) -> int:
    """How many of ``count`` rows are held out at most."""
    return 0 if count < FEWEST_ROWS else max(1, round(count * share))


def split_rows(values: Sequence[Hashable], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Held-out and kept row numbers, by the value of each row, or the tuple of its parts, and the seed.

    Rows are taken in an order that the seed alone decides; one with a value, or a part, that has lost half of its rows
    is passed over. So fewer than ``share`` are held out where values have few rows, and none where each has but one.
    """
    parts = [value if isinstance(value, tuple) else (value,) for value in values]
    spare = {part: count // 2 for part, count in Counter(chain.from_iterable(parts)).items()}
    size = held_out_size(len(values), share)
    held_out: list[int] = []
    for row in map(int, np.random.default_rng(seed).permutation(len(values))):
        if len(held_out) == size:
            break
        if all(spare[part] for part in parts[row]):
            held_out.append(row)
            for part in parts[row]:
                spare[part] -= 1
    return sorted(held_out), sorted(set(range(len(values))).difference(held_out))


def table(rows: Sequence[dict[str, Any]], held_out: Sequence[int], value: pa.DataType) -> pa.Table:
    """What the train stage writes, of rows with ``id`` and ``label``, whose type is ``value``."""
    apart = set(held_out)
    lines = [{"id": row["id"], "label": row["label"], "held_out": n in apart} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(lines, schema=schema(value))


def warning(rows: int, held_out: int) -> str | None:
    """What to say where no row could be held out."""
    if held_out:
        return None
    return (
        f"none of the {rows} labelled train rows is held out, because they are too few: the student's epoch is chosen "
        "by the rows that it learned from, which favours the last; more training texts are needed (data.train)"
    )
