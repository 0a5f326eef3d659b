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
from runner.teacher.worker import EARLIER, QUESTIONS

READERS = 16
"""Files of answers that are read at once: far away, most of a read is waiting."""


def folder_of(here: Folder, number: int) -> Folder:
    """Where the stage keeps what the teacher of that number said: the first in the stage's own folder."""
    return here.child(f"also-{number}") if number else here


def answers_folder(run: Folder, spec: Spec) -> Folder:
    """Where the answers of this teacher to this question are kept."""
    return run.child("answers", fingerprint(teacher_key(spec)))


def read_answers(store: Folder) -> pa.Table:
    """All stored replies, in :data:`ANSWERS`; of two of the same (a batch done again after a crash) one, and that which
    left less ``unasked``. Columns that an earlier version did not have are null.

    Those whose probabilities are no numbers, as earlier versions kept them, are left out, and so asked for again.
    """
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(store.read_table, store.names(".parquet")))
    if not tables:
        return ANSWERS.empty_table()
    table = pa.concat_tables([ANSWERS.empty_table(), *tables], promote_options="default").combine_chunks()
    shares = table["label_probabilities"]
    broken = pc.list_parent_indices(shares).filter(pc.invert(pc.is_finite(pc.list_flatten(shares))))
    if len(broken):
        places = pa.array(range(len(table)), broken.type)
        table = table.filter(pc.invert(pc.is_in(places, value_set=broken.combine_chunks())))
    places = table.append_column("place", pa.array(range(len(table)), pa.int64()))
    left = pc.fill_null(places["unasked"], 0.0)
    order = pc.sort_indices(
        pa.table({"left": left, "place": places["place"]}), sort_keys=[("left", "ascending"), ("place", "ascending")]
    )
    best = places.take(order).group_by(["id", "vote", "attempt"], use_threads=False).aggregate([("place", "first")])
    return table.take(best["place_first"].sort())


def pending(spec: Spec, asked: pa.Table, found: pa.Table) -> pa.Table:
    """The rows of ``asked`` about which something is still to be asked, in their order, in :data:`QUESTIONS`."""
    earlier: list[list[dict[str, Any]] | None]
    if spec.teacher.prompt == "direct":
        settled = found
        if spec.teacher.exhaustive:
            settled = found.filter(pc.equal(pc.fill_null(found["unasked"], 0.0), 0.0))
        keep = asked.filter(pc.invert(pc.is_in(asked["id"], value_set=settled["id"].combine_chunks())))
        by_id = by_row(found.filter(pc.is_in(found["id"], value_set=keep["id"].combine_chunks())))
        earlier = [_earlier(by_id[id_]) if id_ in by_id else None for id_ in keep["id"].to_pylist()]
    else:
        by_id = by_row(found)
        asking = task_of(spec).asking
        earlier, open_ = [], []
        for id_ in asked["id"].to_pylist():
            records = by_id.get(id_, [])
            open_.append(asking.is_open(spec, records))
            if open_[-1]:
                earlier.append(_earlier(records))
        keep = asked.filter(pa.array(open_, pa.bool_()))
    return pa.table(
        {
            "id": keep["id"],
            "kind": keep["kind"],
            "text": keep["text"],
            "earlier": pa.array(earlier, QUESTIONS.field("earlier").type),
            "examples": pa.nulls(len(keep), QUESTIONS.field("examples").type),
            "shortlist": pa.nulls(len(keep), QUESTIONS.field("shortlist").type),
        },
        schema=QUESTIONS,
    )


def _earlier(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a worker must know of the answers about a row that are there."""
    return [{name: one[name] for name in EARLIER.value_type.names} for one in records]
