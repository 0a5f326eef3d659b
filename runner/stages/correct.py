"""correct: what people decided, and where the spec wants it the consensus, take the place of the teacher's values.

A row of the blind sample that a person has labelled is a test row from here on: the student does not learn from it. A
row that was corrected in the queue is learned with certainty. Nothing is asked of the teacher.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from runner.review import consensus
from runner.review.sample import drawn, inclusion
from runner.spec import Spec
from runner.stages.contract import Context, nothing
from runner.stages.tables import population, rows, votes
from runner.tasks.kinds import task_of

NAME = "correct"
NEEDS = ("load", "vote", "audit")
VERSION = 1
WRITES = {"votes.parquet": votes, "test.parquet": rows, "population.parquet": population}

demands = nothing


def wanted(spec: Spec) -> bool:
    """Whether anything takes the place of what the teacher said."""
    return bool(spec.reviewed) or spec.audit.consensus


def key(spec: Spec) -> dict[str, Any]:
    """What people decided, and whether the consensus counts."""
    return {"version": VERSION, "reviewed": spec.reviewed.digest, "consensus": spec.audit.consensus}


def run(context: Context) -> dict[str, Any]:
    """Write the verdicts that hold, the rows to measure on, and what the sample was drawn from."""
    spec, reviewed = context.spec, context.spec.reviewed
    verdicts = {row["id"]: row for row in context.inputs["vote"].read_table("votes.parquet").to_pylist()}
    agreed = _consensus(context, verdicts) if spec.audit.consensus else 0
    changed = _correct(spec, verdicts)
    test = context.inputs["load"].read_table("test.parquet").to_pylist()
    train = {row["id"]: row for row in context.inputs["load"].read_table("train.parquet").to_pylist()}
    sample = [id_ for id_ in reviewed.sample if id_ in train]
    for id_ in sample:
        if id_ in verdicts:
            verdicts[id_]["split"] = "test"
    test += [train[id_] | {"label": reviewed.sample[id_]} for id_ in sample]
    context.here.write_table("votes.parquet", pa.Table.from_pylist(list(verdicts.values()), schema=votes(spec)))
    context.here.write_table("test.parquet", pa.Table.from_pylist(test, schema=rows(spec)))
    drawn_from = pa.Table.from_pylist(_drawn_from(context, train), schema=population(spec))
    context.here.write_table("population.parquet", drawn_from)
    known = verdicts.keys() | train.keys()
    gone = sum(id_ not in known for id_ in (*reviewed.sample, *reviewed.corrections))
    warnings = []
    if gone:
        warnings.append(f"{gone:,} rows that people decided on are no longer among the texts; they are left out")
    context.progress.warn(warnings, NAME)
    return {
        "sample": len(sample),
        "unclear": len(reviewed.unclear),
        "corrected": sum(id_ in verdicts for id_ in reviewed.corrections),
        "changed": changed,
        "consensus": agreed,
        "gone": gone,
        "warnings": warnings,
    }


def _correct(spec: Spec, verdicts: dict[str, dict[str, Any]]) -> int:
    """Put people's values in; how many differ from the teacher's."""
    changed = 0
    for id_, value in spec.reviewed.corrections.items():
        if id_ in verdicts:
            changed += verdicts[id_]["label"] != value
            verdicts[id_] |= task_of(spec).judging.certain(spec, value)
    return changed


def _consensus(context: Context, verdicts: dict[str, dict[str, Any]]) -> int:
    """Put in what teacher and unseeing students agree on; how many values differ from the teacher's.

    Not in rows of the blind sample: there the teacher is measured, by what it said.
    """
    findings = context.inputs["audit"].read_table("queue.parquet").to_pylist()
    learned = [finding for finding in findings if finding["id"] not in context.spec.reviewed.sample]
    found = consensus.apply(context.spec, verdicts, learned)
    verdicts |= found.verdicts
    return found.changed + found.filled


def _drawn_from(context: Context, train: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the sample was drawn from and that are still there, with the probabilities of those asked."""
    sample, reviewed = drawn(context.run), context.spec.reviewed
    if sample is None or not reviewed.sample:
        return []
    asked = inclusion(sample, reviewed.sample.keys())
    return [
        finding | {"inclusion": asked.get(finding["id"])}
        for finding in sample.findings.to_pylist()
        if finding["id"] in train
    ]
