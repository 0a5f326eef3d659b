"""evaluate: teacher, student and recorded others on the same expert-labelled test rows.

Rows that the teacher abstained or failed on count as wrong for it, as do those to which the student has no finite
answer: nobody may choose the rows that they are judged on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from runner.cluster.resources import Resources
from runner.data import annotators
from runner.spec import Spec
from runner.stages.contract import Context, always, one_student, versioned
from runner.student import finite
from runner.student.trained import StudentRef, chosen_student

NAME = "evaluate"
NEEDS = ("load", "vote", "train", "export")
VERSION = 1

PREDICTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("label", pa.string()),
        ("teacher_label", pa.string()),
        ("teacher_probabilities", pa.list_(pa.float64())),
        ("student_label", pa.string()),
        ("student_probabilities", pa.list_(pa.float64())),
    ]
)
WRITES = {"predictions.parquet": PREDICTIONS, "evaluate.json": None}

wanted, demands = always, one_student


def key(spec: Spec) -> dict[str, Any]:
    """How intervals are drawn, and what others said."""
    evaluate = {"resamples": spec.evaluate.resamples, "seed": spec.evaluate.seed}
    compared = annotators.key(spec)
    return {"evaluate": evaluate} | ({"compare": compared} if compared else {}) | versioned(VERSION)


def run(context: Context) -> dict[str, Any]:
    """Score both, compare them pairwise, keep every prediction."""
    spec, labels = context.spec, context.spec.task.labels
    test = context.inputs["load"].read_table("test.parquet").to_pylist()
    votes = context.inputs["vote"].read_table("votes.parquet").to_pylist()
    teacher = {row["id"]: row for row in votes if row["split"] == "test"}
    predicted = context.cluster.call(
        predict,
        Resources.of(spec.student.resources),
        student=chosen_student(spec, context.inputs),
        texts=[row["text"] for row in test],
    )
    student = finite.labels_of(labels, predicted["probabilities"])
    warnings = finite.said_of(student.count(None), len(test), predicted["recomputed"], predicted["precision"])
    context.progress.warn(warnings, NAME)
    rows = [
        {
            "id": row["id"],
            "text": row["text"],
            "label": row["label"],
            "teacher_label": teacher.get(row["id"], {}).get("label"),
            "teacher_probabilities": teacher.get(row["id"], {}).get("probabilities"),
            "student_label": label,
            "student_probabilities": None if label is None else probabilities.tolist(),
        }
        for row, label, probabilities in zip(test, student, predicted["probabilities"], strict=True)
    ]
    context.here.write_table("predictions.parquet", pa.Table.from_pylist(rows, schema=PREDICTIONS))
    result = compare(spec, rows) | {"others": others(spec, rows)}
    context.here.write_json("evaluate.json", result)
    scores = {who: {name: result[who][name] for name in ("accuracy", "macro_f1")} for who in ("teacher", "student")}
    return scores | {"warnings": warnings}


def compare(spec: Spec, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Both scores, McNemar's test, and how often the student says what the teacher said."""
    from runner.tasks.single_label import metrics  # scikit-learn takes a second to load, which `plan` should not pay

    labels = spec.task.labels
    even = [1.0 / len(labels)] * len(labels)
    truth, said = _said(rows)
    draws = (spec.evaluate.resamples, spec.evaluate.seed)
    scores = {
        who: metrics.score(
            labels, truth, said[who], np.array([row[f"{who}_probabilities"] or even for row in rows]), *draws
        )
        for who in said
    }
    agree = sum(t is not None and t == s for t, s in zip(said["teacher"], said["student"], strict=True))
    return {
        "labels": list(labels),
        "rows": len(rows),
        **scores,
        "mcnemar": metrics.mcnemar(truth, said["teacher"], said["student"]),
        "student_agrees_with_teacher": agree / len(rows),
    }


def others(spec: Spec, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each recorded annotator on the rows that it has, with teacher and student on exactly those rows.

    By name: ``rows``, ``missing`` (test rows that it lacks), ``conflicting`` (left out: the file has them with several
    labels), the scores of ``annotator``, the accuracy of ``teacher`` and ``student``, and McNemar's test of the
    annotator (a) against each of them (b).
    """
    from runner.tasks.single_label import metrics

    result = {}
    for name, found in annotators.read_all(spec, rows).items():
        common = [row for row in rows if row["id"] in found.labels]
        truth, said = _said(common)
        given = [found.labels[row["id"]] for row in common]
        result[name] = {
            "rows": len(common),
            "missing": len(rows) - len(common),
            "conflicting": found.conflicting,
            "annotator": metrics.score(
                spec.task.labels, truth, given, None, spec.evaluate.resamples, spec.evaluate.seed
            ),
            **{who: {"accuracy": float(np.mean(np.array(truth) == np.array(said[who], object)))} for who in said},
            "mcnemar": {who: metrics.mcnemar(truth, given, said[who]) for who in said},
        }
    return result


def _said(rows: list[dict[str, Any]]) -> tuple[list[str], dict[str, list[str | None]]]:
    """The experts' labels, and those of teacher and student."""
    said = {who: [row[f"{who}_label"] for row in rows] for who in ("teacher", "student")}
    return [row["label"] for row in rows], said


def predict(student: StudentRef, texts: list[str]) -> dict[str, Any]:
    """The student's ``probabilities``, computed where the student runs, and how many had to be computed again."""
    model = student.open()
    found = model.predict(texts).astype(float)
    return {"probabilities": found, "recomputed": model.recomputed, "precision": model.precision}
