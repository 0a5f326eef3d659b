"""Rows that no answer could be had for: their reasons, and when there are too many of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from runner.spec import Spec
from runner.system.errors import EngineError
from runner.tasks.kinds import task_of
from runner.teacher.batch import by_row
from runner.teacher.worker import OVER_BUDGET

FAILURES = pa.schema(
    [("id", pa.string()), ("split", pa.string()), ("text", pa.large_string()), ("reason", pa.string())]
)


TOO_LONG = "too long"


def reasons_of(result: pa.Table) -> dict[str, str]:
    failed = result.filter(pc.is_valid(result["error"]))
    return dict(zip(failed["id"].to_pylist(), failed["error"].to_pylist(), strict=True))


def check_failures(failures: Mapping[str, str], done: int, total: int, allowed: float) -> None:
    """:raises EngineError: when more rows failed than are allowed, or so many so early that they will.

    Where any may fail, one may in a job of a few rows too.
    """
    # Rows that are too long come first, so that they say nothing about those to come.
    failures = {id_: reason for id_, reason in failures.items() if reason != OVER_BUDGET}
    telling = sum(not reason.startswith(TOO_LONG) for reason in failures.values())
    early = done * allowed + 5 * math.sqrt(done * max(allowed, 0.01)) + 5
    few = len(failures) <= (1 if allowed else 0) or (total and len(failures) / total <= allowed)
    if few and telling <= early:
        return
    common = Counter(reason.split(":")[0] for reason in failures.values()).most_common(3)
    raise EngineError(
        "teacher.too-many-failures",
        f"{len(failures)} of the first {done} rows failed ({total} in all), "
        f"more than teacher.max_failure_rate ({allowed:.0%}) allows: "
        f"{', '.join(f'{count} x {reason}' for reason, count in common)}; "
        f"the first: {next(iter(failures.values()))}. Answers that came are kept",
    )


def unusable_rows(spec: Spec, answers: pa.Table) -> dict[str, str]:
    """Rows of which no reply says a value, though the teacher was asked again."""
    if spec.teacher.prompt == "direct" or spec.teacher.engine == "recorded":
        return {}
    asking = task_of(spec).asking
    return {
        id_: f"unusable answer: {(records[0]['text'] or '')[:200]!r}"
        for id_, records in by_row(answers).items()
        if not asking.has_answer(spec, records)
    }


def failed_rows(asked: pa.Table, reasons: Mapping[str, str]) -> pa.Table:
    rows = asked.filter(pc.is_in(asked["id"], value_set=pa.array(list(reasons), pa.string())))
    why = pa.array([reasons[id_] for id_ in rows["id"].to_pylist()], pa.string())
    return pa.Table.from_arrays([rows["id"], rows["split"], rows["text"], why], schema=FAILURES)
