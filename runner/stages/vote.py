"""vote: raw answers -> a value with its probabilities for each row, or an abstention with its reason.

Calibration happens here, so that changing it asks the teacher nothing. A tie is not broken by chance: the
row abstains. Counts: rows = labelled + abstained + failed in label.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from runner.spec import Spec
from runner.stages.contract import Context, always, nothing
from runner.stages.tables import votes
from runner.tasks.kinds import task_of
from runner.teacher.answer_store import folder_of

NAME = "vote"
NEEDS = ("load", "label")

VERSION = 5
"""Of reading answers and counting votes: a change makes votes that are stored new."""


WRITES = {"votes.parquet": votes}

wanted, demands = always, nothing


def key(spec: Spec) -> dict[str, Any]:
    """How the kind of task judges."""
    return task_of(spec).judging.key(spec) | {"rules": VERSION}


def run(context: Context) -> dict[str, Any]:
    """:raises DataError: when the teacher left nothing to learn from."""
    spec, judging = context.spec, task_of(context.spec).judging
    rows = [
        row | {"split": split}
        for split in ("train", "test")
        for row in context.inputs["load"].read_table(f"{split}.parquet").to_pylist()
    ]
    folders = [folder_of(context.inputs["label"], number) for number in range(len(spec.teachers()))]
    judgement = judging.judge(spec, rows, [folder.read_table("answers.parquet") for folder in folders])
    table = [
        {name: row[name] for name in ("id", "split", "text")} | judgement.verdicts[row["id"]]
        for row in rows
        if row["id"] in judgement.verdicts
    ]
    context.here.write_table("votes.parquet", pa.Table.from_pylist(table, schema=votes(spec)))
    context.progress.warn(judgement.warnings, NAME)
    teachers = {"teachers": judgement.teachers} if judgement.teachers else {}
    return judgement.summary | {"warnings": judgement.warnings} | teachers
