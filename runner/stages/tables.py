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


POPULATION = pa.schema([("id", pa.string()), ("guide", pa.float64()), ("inclusion", pa.float64())])
"""Every row that a blind sample could have drawn: the ``guide`` is the estimated probability that the teacher's value
is right, and ``inclusion`` the probability with which the row was drawn, null for a row that was not."""
