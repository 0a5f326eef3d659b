"""What stands beside the texts: the few-shot examples of a spec, and the columns with recorded votes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from runner.data.sources import source_key
from runner.spec import Spec

COLUMNS = ("text", "label", "reason")


def schema(value: pa.DataType) -> pa.Schema:
    """``examples.parquet``: the texts that the teacher is shown, or from which those are chosen, with their values."""
    return pa.schema(list(zip(COLUMNS, (pa.large_string(), value, pa.large_string()), strict=True)))


def pool_key(spec: Spec) -> dict[str, Any] | None:
    """What the examples that are chosen depend on, besides the row and the encoder; None where they are written."""
    pool = spec.task.pool
    return source_key(spec, pool.source) | {"reason": pool.reason} if pool else None


def vote_columns(spec: Spec) -> list[str]:
    """The columns with recorded votes, of all teachers, in the order in which rows keep them."""
    return list(dict.fromkeys(column for one in spec.teachers() for column in one.teacher.columns))
