"""label: rows -> the teacher's raw answers.

Raw answers live beside the stages, in ``answers/<teacher>/``, keyed by what the teacher was asked, not by
the data: more rows or more votes ask only for what is new, and another calibration, parser or vote rule asks for
nothing. ``answers.parquet`` holds those of this data set, ``failures.parquet`` the rows that have none and why.
Counts: rows = answered + failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.data.examples import vote_columns
from runner.observe.metrics import count_failures
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages.contract import Context, always, nothing
from runner.tasks.kinds import task_of
from runner.teacher.answer_store import answers_folder, folder_of, pending, read_answers
from runner.teacher.batch import ANSWERS
from runner.teacher.budget_share import seconds_for
from runner.teacher.content_free import content_free_rows
from runner.teacher.failures import FAILURES, check_failures, failed_rows, unusable_rows
from runner.teacher.generate import generate, replicas_for, require_replicas
from runner.teacher.request import asks_content_free, teacher_key
from runner.teacher.summary import elapsed_seconds, shortlist_of, summary_of, summary_of_all, uncalibrated

NAME = "label"
NEEDS = ("load",)

VERSION = 3
"""Of reading answers: a change looks at stored answers again, and asks only where they have become unusable."""

WRITES = {"answers.parquet": ANSWERS, "failures.parquet": FAILURES}

wanted, demands = always, nothing


def key(spec: Spec) -> dict[str, Any]:
    """What was asked, of whom, how often, and whether content-free texts were asked about as well."""
    first, *others = map(_key, spec.teachers())
    return first | ({"also": others} if others else {})


def _key(spec: Spec) -> dict[str, Any]:
    if spec.teacher.engine == "recorded":
        return {"recorded": list(spec.teacher.columns)}
    calibrated = asks_content_free(spec)
    asked: dict[str, Any] = {
        "teacher": teacher_key(spec),
        # Seed 0 has drawn the calibration texts since before they had a seed.
        "content_free": {"seed": spec.teacher.seed} if calibrated and spec.teacher.seed else calibrated,
        "truncate": spec.teacher.truncate,
        # A larger budget goes on with the rows that a smaller one left.
        "budget": [spec.teacher.budget.usd, spec.teacher.budget.hours],
    }
    if spec.teacher.exhaustive:
        asked["exhaustive"] = True  # answers that left branches out are asked about again
    if spec.teacher.prompt == "cot":
        asked |= {"votes": spec.teacher.votes, "early_stop": spec.teacher.early_stop, "reading": VERSION}
    return asked


def run(context: Context) -> dict[str, Any]:
    """:raises EngineError: when the engine cannot start or more rows fail than ``max_failure_rate`` allows."""
    rows, columns = loaded_rows(context.inputs["load"]), vote_columns(context.spec)
    first, *others = (
        _label(replace(context, spec=spec, here=folder_of(context.here, number)), rows, columns, context.spec, number)
        for number, spec in enumerate(context.spec.teachers())
    )
    return summary_of_all(context, [first, *others]) if others else first


def _label(context: Context, rows: pa.Table, columns: list[str], whole: Spec, number: int) -> dict[str, Any]:
    """What the teacher of that number among those of the ``whole`` spec says: its own spec is the context's."""
    spec = context.spec
    if spec.teacher.engine == "recorded":
        places = [columns.index(name) for name in spec.teacher.columns]
        return _finish(context, rows, recorded_answers(rows, places, spec), {}, 0)
    store = answers_folder(context.run, spec)
    found = read_answers(store)
    if asks_content_free(spec) and len(pending(spec, rows, found)) and context.cluster.starts_on_demand:
        require_replicas(context)  # else calibration's texts, which any node may cut, would start one of another kind
    asked = pa.concat_tables([rows, content_free_rows(context, rows)])
    waiting = pending(spec, _in_order(asked), found)
    if not len(waiting):
        return _finish(context, asked, found, {}, 0)
    replicas = replicas_for(spec, waiting)
    seconds = seconds_for(context, rows, whole, number, replicas)
    failures, doubts = generate(context, waiting, store, seconds, replicas)
    answered = waiting.filter(pc.invert(pc.is_in(waiting["id"], value_set=pa.array(list(failures), pa.string()))))
    generated = pc.sum(pc.equal(answered["kind"], "row")).as_py() or 0
    return _finish(context, asked, read_answers(store), failures, generated, doubts)


def probe(context: Context, rows: int) -> None:
    """Ask each teacher about a few rows of all lengths, so that a plan can measure; their answers are kept."""
    loaded = loaded_rows(context.inputs["load"])
    asked = _in_order(loaded)
    for number, spec in enumerate(context.spec.teachers()):
        if spec.teacher.engine == "recorded":
            continue
        store = answers_folder(context.run, spec)
        waiting = pending(spec, asked, read_answers(store))
        if len(waiting):
            step = max(1, len(waiting) // rows)
            sample = waiting.take(list(range(0, len(waiting), step))[:rows])
            here, replicas = replace(context, spec=spec), replicas_for(spec, sample)
            generate(here, sample, store, seconds_for(here, loaded, context.spec, number, replicas), replicas)


def _in_order(asked: pa.Table) -> pa.Table:
    """As rows are asked about: what calibration and evaluation need first, in case a budget ends the run.

    Then the longest: a long row that begins last would keep the engine waiting for it alone.
    """
    train = pc.cast(pc.equal(asked["split"], "train"), pa.int8())
    order = pc.sort_indices(
        pa.table({"train": train, "length": pc.utf8_length(asked["text"]), "id": asked["id"]}),
        sort_keys=[("train", "ascending"), ("length", "descending"), ("id", "ascending")],
    )
    return asked.take(order)


def loaded_rows(load: Folder) -> pa.Table:
    """All rows of train and test: ``id``, ``kind``, ``text``, ``split`` and their recorded ``votes``."""
    parts = []
    for split in ("train", "test"):
        table = load.read_table(f"{split}.parquet").select(["id", "text", "votes"])
        for name, value in (("kind", "row"), ("split", split)):
            table = table.append_column(name, pa.repeat(pa.scalar(value), len(table)))
        parts.append(table)
    return pa.concat_tables(parts)


def recorded_answers(rows: pa.Table, places: list[int], spec: Spec) -> pa.Table:
    """The votes of ``rows`` in these ``places`` as :data:`ANSWERS`."""
    asking = task_of(spec).asking
    lines = [
        {"id": row["id"], "kind": "row", "vote": number, "attempt": 0, "text": vote}
        | {"label_probabilities": asking.probabilities_of(spec, vote)}
        for row in rows.select(["id", "votes"]).to_pylist()
        for number, vote in enumerate(row["votes"][place] for place in places)
    ]
    return pa.Table.from_pylist(lines, schema=ANSWERS)


def _finish(
    context: Context,
    asked: pa.Table,
    found: pa.Table,
    failures: Mapping[str, str],
    generated: int,
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the answers ``found`` to the rows that were ``asked`` about, and the rows without one; the summary.

    :raises EngineError: when more rows have none than may.
    """
    spec = context.spec
    mine = found.filter(pc.is_in(found["id"], value_set=asked["id"].combine_chunks()))
    elapsed = elapsed_seconds(answers_folder(context.run, spec), mine, found)
    unusable = unusable_rows(spec, mine)
    reasons = dict(failures) | unusable
    if lost := count_failures(context.cluster, NAME, (unusable[id_] for id_ in unusable.keys() - failures.keys())):
        context.progress.tell("rows_failed", NAME, reasons=dict(lost))
    mine = mine.filter(pc.invert(pc.is_in(mine["id"], value_set=pa.array(list(reasons), pa.string()))))
    context.here.write_table("answers.parquet", mine)
    rows = asked.filter(pc.equal(asked["kind"], "row"))
    of_rows = {id_: reasons[id_] for id_ in rows["id"].to_pylist() if id_ in reasons}
    context.here.write_table("failures.parquet", failed_rows(asked, reasons))
    off = pc.count_distinct(mine["id"]).as_py() + len(reasons) - len(asked)
    if off:
        raise RuntimeError(f"{-off} rows have neither an answer nor a reason")
    check_failures(of_rows, len(rows), len(rows), spec.teacher.max_failure_rate)
    calibrating = {id_: reason for id_, reason in reasons.items() if id_ not in of_rows}
    warnings = [*doubts, *uncalibrated(asked, calibrating)]
    context.progress.warn(warnings, NAME)
    summary = summary_of(spec, mine, rows, of_rows, generated)
    context.cluster.count("tutelage_rows_reused_total", summary["reused"], stage=NAME)
    return summary | shortlist_of(context, mine) | {"elapsed": elapsed, "warnings": warnings}
