"""load: data files -> ``train.parquet`` and ``test.parquet``, with stable ids and nothing twice.

Every row that is dropped keeps its reason in ``dropped.parquet``: rows in = rows out + rows dropped.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from runner.data import annotators
from runner.data import examples as few_shot
from runner.data.examples import pool_key, vote_columns
from runner.data.reading import class_names
from runner.data.sources import source_key, source_of
from runner.data.splits import examples_of, read_splits
from runner.spec import Spec
from runner.stages.contract import Context, always, nothing, versioned
from runner.stages.tables import rows
from runner.tasks.kinds import task_of

NAME = "load"
NEEDS: tuple[str, ...] = ()
VERSION = 1


def examples(spec: Spec) -> pa.Schema:
    """``examples.parquet``."""
    return few_shot.schema(task_of(spec).gold.VALUE)


DROPPED = pa.schema([(name, pa.string()) for name in ("split", "id", "place", "reason")])
WRITES = {"train.parquet": rows, "test.parquet": rows, "examples.parquet": examples, "dropped.parquet": DROPPED}


wanted, demands = always, nothing


def key(spec: Spec) -> dict[str, Any]:
    """What the outcome depends on: the sources, the files' content, labels and few-shot examples."""
    return {
        "train": source_key(spec, spec.data.train),
        "test": spec.data.test and source_key(spec, spec.data.test),
        **task_of(spec).gold.key(spec),
        "examples": pool_key(spec) or [example.text for example in spec.task.written],
        "columns": vote_columns(spec),
        **_classes(spec),
        **versioned(VERSION),
    }


def _classes(spec: Spec) -> dict[str, Any]:
    """Which names stand for the integers of the files' labels; nothing where no file has such names."""
    pool = spec.task.pool
    sources = [source for source in (spec.data.train, spec.data.test, pool and pool.source) if source]
    named = [found for source in sources if (found := class_names(source_of(spec, source)))]
    return {"classes": named} if named else {}


def run(context: Context) -> dict[str, Any]:
    """:raises DataError: when a file is broken, no row is left, or a test label is unknown."""
    spec = context.spec
    train, test, warnings = read_splits(spec)
    annotators.read_all(spec, test.rows.values())  # not used yet, but wrong ones must not be met after the spending
    for split in (train, test):
        table = pa.Table.from_pylist(list(split.rows.values()), schema=rows(spec))
        context.here.write_table(f"{split.name}.parquet", table)
    context.here.write_table("examples.parquet", pa.Table.from_pylist(examples_of(spec), schema=examples(spec)))
    dropped = train.dropped + test.dropped
    context.here.write_table("dropped.parquet", pa.Table.from_pylist(dropped, schema=DROPPED))
    context.progress.warn(warnings, NAME)
    return {
        "train": len(train.rows),
        "test": len(test.rows),
        "read": {"train": train.read, "test": test.read},
        "dropped": {s.name: dict(Counter(row["reason"] for row in s.dropped)) for s in (train, test)},
        "warnings": warnings,
    }
