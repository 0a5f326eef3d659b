"""A few rows labelled before a run: which ones, what each teacher is asked about them, and what it comes to.

Answers go to the run's own store, where a run finds them. What is learnt of a version of the prompt is compared with
the version before in :mod:`runner.planning.versions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.data.examples import vote_columns
from runner.rundir.folder import fingerprint
from runner.spec import Spec
from runner.stages import label
from runner.stages.contract import Context
from runner.tasks.kinds import task_of
from runner.teacher.answer_store import answers_folder, pending, read_answers
from runner.teacher.batch import by_row
from runner.teacher.budget_share import seconds_for
from runner.teacher.content_free import content_free_rows
from runner.teacher.generate import generate
from runner.teacher.request import asks_content_free


@dataclass(frozen=True)
class Tried:
    """What the teacher says of one row. ``probabilities`` and ``raw`` (before calibration) are in the task's order.

    ``value`` None: it has none, and ``why_not`` says why. ``answers`` are the raw texts, vote after vote; ``truth`` is
    an expert's value, None where there is none.
    """

    id: str
    text: str
    split: str
    value: Any
    probabilities: list[float] | None
    raw: list[float] | None
    reason: str
    answers: tuple[str, ...]
    why_not: str | None
    truth: Any


@dataclass(frozen=True)
class Trial:
    """The rows, for one ``version`` of what is asked and judged; ``asked`` of them had no answer before.

    ``note`` says what of the calibration is not in it.
    """

    version: str
    rows: list[Tried]
    asked: int
    note: str = ""


def version_of(spec: Spec) -> str:
    """A name for all that decides a row's value: another prompt, model or calibration has another one."""
    return fingerprint([label.key(spec), task_of(spec).judging.key(spec)])


def is_calibrated(spec: Spec) -> bool:
    """Whether values change once calibration's own texts are answered."""
    return any(asks_content_free(one) for one in spec.teachers() if one.teacher.engine != "recorded")


def label_few(context: Context, rows: int, calibrated: bool = True) -> Trial:
    """Ask about ``rows`` of the loaded rows what was not asked before; ``calibrated``: and about calibration's texts.

    :raises EngineError: when an engine cannot start, or cannot be asked in this way. A row that fails is a row
        without a value.
    """
    spec = context.spec
    loaded = label.loaded_rows(context.inputs["load"])
    truths = _truths(context)
    ids = choose(loaded["id"].to_pylist(), truths, rows)
    few = loaded.filter(pc.is_in(loaded["id"], value_set=pa.array(ids, pa.string())))
    answers, failures, asked = [], dict[str, str](), 0
    for number, one in enumerate(spec.teachers()):
        found, failed, new = _asked(replace(context, spec=one), few, loaded, spec, number, calibrated)
        answers.append(found)
        failures |= failed
        asked = max(asked, new)
    note = "" if calibrated or not is_calibrated(spec) else "before calibration"
    if any(one.teacher.calibration == "batch" and one.teacher.prompt == "direct" for one in spec.teachers()):
        spec = replace(spec, teacher=replace(spec.teacher, calibration="none"))
        note = "without calibration: batch needs all rows"
    return Trial(version_of(context.spec), _tried(spec, few, answers, failures, truths), asked, note)


def choose(ids: list[str], truths: Mapping[str, Any], number: int) -> list[str]:
    """The ids of ``number`` rows, half of them with an expert's value where there are so many.

    By the ids, which are hashes of the texts: spread over the data in whatever order they are, the same ones each time,
    and more of them are these and others.
    """
    known, others = sorted(id_ for id_ in ids if id_ in truths), sorted(id_ for id_ in ids if id_ not in truths)
    half = min(len(known), max(number // 2, number - len(others)))
    return known[:half] + others[: number - half]


def _truths(context: Context) -> dict[str, Any]:
    """Experts' values by row id: those of ``data.test``, and what people have decided in a review."""
    test = context.inputs["load"].read_table("test.parquet").select(["id", "label"]).to_pylist()
    people = context.spec.reviewed
    return {**people.corrections, **people.sample, **{row["id"]: row["label"] for row in test}}


def _asked(
    context: Context, few: pa.Table, loaded: pa.Table, whole: Spec, number: int, calibrated: bool
) -> tuple[pa.Table, dict[str, str], int]:
    """The answers of the teacher of that number, the rows that failed with reasons, and how many were asked now."""
    spec = context.spec
    if spec.teacher.engine == "recorded":
        columns = vote_columns(whole)
        return label.recorded_answers(few, [columns.index(name) for name in spec.teacher.columns], spec), {}, 0
    store = answers_folder(context.run, spec)
    found, failures = read_answers(store), dict[str, str]()
    asked = pa.concat_tables([few, content_free_rows(context, loaded)]) if calibrated else few
    waiting = pending(spec, asked, found)
    new = pc.sum(pc.equal(waiting["kind"], "row")).as_py() or 0
    if len(waiting):
        # Here a row that fails is shown with its reason, however many there are.
        all_may_fail = replace(context, spec=replace(spec, teacher=replace(spec.teacher, max_failure_rate=1.0)))
        seconds = seconds_for(context, loaded, whole, number, 1)
        failures, warnings = generate(all_may_fail, waiting, store, seconds, 1)
        context.progress.warn(warnings, label.NAME)
        found = read_answers(store)
    mine = found.filter(pc.is_in(found["id"], value_set=asked["id"].combine_chunks()))
    return mine, failures, new


def _tried(
    spec: Spec,
    few: pa.Table,
    answers: list[pa.Table],
    failures: Mapping[str, str],
    truths: Mapping[str, Any],
) -> list[Tried]:
    task, lines = task_of(spec), few.select(["id", "text", "split"]).to_pylist()
    verdicts = task.judging.verdicts(spec, lines, answers)
    records = by_row(answers[0])
    rows = []
    for line in lines:
        verdict = verdicts.get(line["id"], {})
        mine = sorted(records.get(line["id"], ()), key=lambda record: (record["vote"], record["attempt"]))
        said = tuple(record["text"] for record in mine if record["text"] is not None)
        lacking = verdict.get("reason") or failures.get(line["id"]) or "no answer"
        rows.append(
            Tried(
                **line,
                value=verdict.get("label"),
                probabilities=verdict.get("probabilities"),
                raw=next((record["label_probabilities"] for record in mine if record["label_probabilities"]), None),
                reason=next(filter(None, map(task.asking.reason_of, said)), ""),
                answers=said,
                why_not=None if verdict.get("label") is not None else lacking,
                truth=truths.get(line["id"]),
            )
        )
    return sorted(rows, key=lambda row: row.id)
