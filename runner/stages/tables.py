"""The tables that more than one stage writes or reads."""

from __future__ import annotations

import pyarrow as pa

from runner.spec import Spec
from runner.tasks.kinds import task_of


def rows(spec: Spec) -> pa.Schema:
    """``train.parquet`` and ``test.parquet``: in train no row has a ``label``, and ``votes`` are the recorded ones."""
    value = pa.field("label", task_of(spec).gold.VALUE)
    return pa.schema([("id", pa.string()), ("text", pa.large_string()), value, ("votes", pa.list_(pa.string()))])


def votes(spec: Spec) -> pa.Schema:
    """``votes.parquet``: a row, and the columns of its verdict."""
    row = [("id", pa.string()), ("split", pa.string()), ("text", pa.large_string())]
    return pa.schema([*row, *task_of(spec).judging.COLUMNS])


def queue(spec: Spec) -> pa.Schema:
    """``queue.parquet``: a line for each train row with a verdict; ``order`` 0 is looked at first."""
    finding = [pa.field("doubt", pa.float64()), *task_of(spec).auditing.COLUMNS]
    return pa.schema([pa.field("id", pa.string()), *finding, pa.field("order", pa.int64())])


def population(spec: Spec) -> pa.Schema:
    """``population.parquet``: every row that the blind sample could have drawn, with what the audit found at that time,
    and the probability with which it was drawn and labelled, null for a row that was not."""
    return queue(spec).append(pa.field("inclusion", pa.float64()))
