"""What is said of a recorded teacher's columns once their answers are judged, whatever the kind of task."""

from __future__ import annotations

import pyarrow as pa

from runner.spec import Spec
from runner.system.errors import DataError
from runner.tasks.rules import rules_of
from runner.tasks.shared.columns import ADVICE, Columns
from runner.teacher.batch import by_row


def looked_at(spec: Spec, answers: pa.Table) -> Columns | None:
    """What the teacher's columns hold, where its ``answers`` were recorded."""
    if spec.teacher.engine != "recorded":
        return None
    looked = rules_of(vars(spec.task)).columns(vars(spec.task), spec.teacher.columns)
    for records in by_row(answers).values():
        looked.look([record["text"] or "" for record in sorted(records, key=lambda record: int(record["vote"]))])
    return looked


def lacking(looked: Columns, spec: Spec) -> list[str]:
    """What to say of rows without a recorded vote. :raises DataError: when they are too many, or a column has none."""
    allowed = spec.teacher.max_failure_rate
    if dead := looked.dead():
        raise DataError("teacher.no-votes", f"no cell is a vote in {', '.join(dead)}: {looked.held(dead)}; {ADVICE}")
    if looked.too_many(allowed):
        raise DataError(
            "teacher.too-few-votes",
            f"{looked.words()}; teacher.max_failure_rate allows {100 * allowed:g} %: {ADVICE}, or raise it to "
            "learn from the other rows",
        )
    return [f"{looked.words()}; nothing is learned from these"] if looked.without else []
