"""The raw answers of a teacher, kept beside the stages: what was answered, and what is still to be asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.tasks.kinds import task_of
from runner.teacher.batch import ANSWERS, by_row
from runner.teacher.request import teacher_key
from runner.teacher.worker import QUESTIONS

READERS = 16
"""Files of answers that are read at once: far away, most of a read is waiting."""


def folder_of(here: Folder, number: int) -> Folder:
    """Where the stage keeps what the teacher of that number said: the first in the stage's own folder."""
    return here.child(f"also-{number}") if number else here


def answers_folder(run: Folder, spec: Spec) -> Folder:
    """Where the answers of this teacher to this question are kept."""
    return run.child("answers", fingerprint(teacher_key(spec)))


def read_answers(store: Folder) -> pa.Table:
    """All stored replies, in :data:`ANSWERS`; of two of the same (a batch done again after a crash) one.

    Those whose probabilities are no numbers, as earlier versions kept them, are left out, and so asked for again.
    """
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(store.read_table, store.names(".parquet")))
    if not tables:
        return ANSWERS.empty_table()
    table = pa.concat_tables(tables).combine_chunks()
    shares = table["label_probabilities"]
    broken = pc.list_parent_indices(shares).filter(pc.invert(pc.is_finite(pc.list_flatten(shares))))
    if len(broken):
        places = pa.array(range(len(table)), broken.type)
        table = table.filter(pc.invert(pc.is_in(places, value_set=broken.combine_chunks())))
    table = table.append_column("place", pa.array(range(len(table)), pa.int64()))
    first = table.group_by(["id", "vote", "attempt"]).aggregate([("place", "min")])["place_min"]
    return table.take(first.sort()).drop_columns("place")


def pending(spec: Spec, asked: pa.Table, found: pa.Table) -> pa.Table:
    """The rows of ``asked`` about which something is still to be asked, in their order, in :data:`QUESTIONS`."""
    if spec.teacher.prompt == "direct":
        keep = asked.filter(pc.invert(pc.is_in(asked["id"], value_set=found["id"].combine_chunks())))
        earlier: list[list[dict[str, Any]] | None] = [None] * len(keep)
    else:
        by_id = by_row(found)
        asking = task_of(spec).asking
        earlier, open_ = [], []
        for id_ in asked["id"].to_pylist():
            records = by_id.get(id_, [])
            open_.append(asking.is_open(spec, records))
            if open_[-1]:
                earlier.append([{name: one[name] for name in ("vote", "attempt", "text")} for one in records])
        keep = asked.filter(pa.array(open_, pa.bool_()))
    return pa.table(
        {
            "id": keep["id"],
            "kind": keep["kind"],
            "text": keep["text"],
            "earlier": pa.array(earlier, QUESTIONS.field("earlier").type),
            "examples": pa.nulls(len(keep), QUESTIONS.field("examples").type),
        },
        schema=QUESTIONS,
    )
