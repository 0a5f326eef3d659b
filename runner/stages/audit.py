"""audit: votes -> how doubtful each train row's value is, what unseeing students say, and in which order to look.

Students that did not see a row are asked about it (:mod:`runner.review.opinions`); what their answers and the teacher's
come to is for the kind of task to say. Test rows are not touched, and nothing is asked of the teacher.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from runner import models
from runner.cluster.resources import Resources
from runner.review.opinions import Opinions, ask
from runner.review.ordering import ordered
from runner.spec import Spec
from runner.stages.contract import Context, one_student
from runner.stages.tables import queue
from runner.tasks.kinds import task_of

NAME = "audit"
NEEDS = ("vote",)
VERSION = 1
"""Of the students that are asked, and of the order."""


WRITES = {"queue.parquet": queue}

demands = one_student


def wanted(spec: Spec) -> bool:
    """Where its consensus is learned; a review asks for it as well."""
    return spec.audit.consensus


def key(spec: Spec) -> dict[str, Any]:
    """The encoder, how texts are cut and rows parted, and how the kind of task combines what it is told."""
    model, revision, _ = _encoder(spec)
    return {
        "version": VERSION,
        "model": model,
        "identity": models.identity(model, revision, spec.base),
        "max_length": spec.student.max_length,
        "seed": spec.audit.seed,
        "kind": task_of(spec).auditing.key(spec),
    }


def run(context: Context) -> dict[str, Any]:
    """:raises ModelError: when the encoder cannot be had or is none."""
    spec, auditing = context.spec, task_of(context.spec).auditing
    votes = context.inputs["vote"].read_table("votes.parquet").to_pylist()
    rows = [row for row in votes if row["split"] == "train"]
    opinions = _opinions(context, rows)
    findings = auditing.findings(spec, rows, opinions.answers)
    doubt = np.array([finding["doubt"] for finding in findings], dtype=np.float64)
    places = np.empty(len(rows), dtype=np.int64)
    places[ordered(doubt, opinions.vectors)] = np.arange(len(rows))
    table = [
        {"id": row["id"], **finding, "order": int(place)}
        for row, finding, place in zip(rows, findings, places, strict=True)
    ]
    context.here.write_table("queue.parquet", pa.Table.from_pylist(table, schema=queue(spec)))
    unheard = sum(finding["opinion"] is None for finding in findings)
    warnings = []
    if unheard:
        warnings.append(
            f"on {unheard:,} of {len(rows):,} train rows no student knows more than how frequent each value is: "
            "their doubt is the teacher's own; more texts (data.train) or another encoder (audit.model) help"
        )
    context.progress.warn(warnings, NAME)
    model, revision, _ = _encoder(spec)
    return {
        "rows": len(rows),
        "abstained": sum(row["label"] is None for row in rows),
        "expected_errors": float(doubt.sum()),
        "differing": _differing(rows, findings, "opinion"),
        "consensus_differs": _differing(rows, findings, "consensus"),
        "unheard": unheard,
        "warnings": warnings,
    } | models.provenance(model, revision, spec.base)


def _encoder(spec: Spec) -> tuple[str, str | None, str]:
    """The model whose vectors the students learn from, its revision, and the field that names it."""
    if spec.audit.model is not None:
        return spec.audit.model, spec.audit.revision, "audit.model"
    return spec.student.model, spec.student.revision, "student.model"


def _opinions(context: Context, rows: list[dict[str, Any]]) -> Opinions:
    spec, task = context.spec, task_of(context.spec)
    name, revision, who = _encoder(spec)
    model, revision = context.model(name, revision, who, NAME)
    context.progress.say(f"{name}: students that did not see them are asked about {len(rows):,} train rows", NAME)
    found: Opinions = context.cluster.call(
        ask,
        Resources.of(spec.student.resources),
        kind=task.NAME,
        model=model,
        revision=revision,
        max_length=spec.student.max_length,
        texts=[row["text"] for row in rows],
        targets=task.auditing.targets(spec, rows),
        learned=task.auditing.learned(rows),
        seed=spec.audit.seed,
        who=who,
    )
    return found


def _differing(rows: list[dict[str, Any]], findings: list[dict[str, Any]], column: str) -> int:
    """On how many rows with a value the students, or the consensus, say another."""
    return sum(
        row["label"] is not None and finding[column] is not None and row["label"] != finding[column]
        for row, finding in zip(rows, findings, strict=True)
    )
