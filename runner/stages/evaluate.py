"""evaluate: teacher, student and recorded others on the same test rows, which experts or reviewers have labelled.

Where nobody has labelled any, nothing is claimed: ``rows`` is 0, and how often the student gives its teacher's value on
the train rows that were held out is all that is said of it.

Rows that the teacher abstained or failed on count as wrong for it, as do those to which the student has no finite
answer: nobody may choose the rows that they are judged on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.cluster.resources import Resources
from runner.data import annotators
from runner.spec import Spec
from runner.stages.contract import Context, always, one_student, versioned
from runner.student import finite
from runner.student import held_out as held_out_rows
from runner.student.trained import StudentRef, chosen_student
from runner.tasks.kinds import task_of

NAME = "evaluate"
NEEDS = ("load", "vote", "correct", "train", "export")
VERSION = 1

SYSTEMS = ("teacher", "student")


def predictions(spec: Spec) -> pa.Schema:
    """The columns of ``predictions.parquet``: the experts' answer, and those of teacher and student."""
    task = task_of(spec)
    row = [pa.field("id", pa.string()), pa.field("text", pa.large_string()), pa.field("label", task.gold.VALUE)]
    given = [field.with_name(f"{who}_{field.name}") for who in SYSTEMS for field in task.scoring.ANSWER]
    return pa.schema([*row, *given])


WRITES = {"predictions.parquet": predictions, "evaluate.json": None}

wanted, demands = always, one_student


def key(spec: Spec) -> dict[str, Any]:
    """How intervals are drawn, what others said, and what the kind of task scores besides."""
    evaluate = {"resamples": spec.evaluate.resamples, "seed": spec.evaluate.seed}
    compared = annotators.key(spec)
    of_task = task_of(spec).scoring.key(spec)
    return {"evaluate": evaluate} | of_task | ({"compare": compared} if compared else {}) | versioned(VERSION)


def run(context: Context) -> dict[str, Any]:
    """Score both, compare them pairwise, keep every prediction."""
    spec, scoring = context.spec, task_of(context.spec).scoring
    test = context.latest("test.parquet", "correct", "load").to_pylist()
    verdicts = context.latest("votes.parquet", "correct", "vote").to_pylist()
    if not test:
        return _unmeasured(context, verdicts)
    teacher = {row["id"]: row for row in verdicts if row["split"] == "test"}
    student = _student_answers(context, [row["text"] for row in test])
    columns = [field.name for field in scoring.ANSWER]
    rows = [
        {name: row[name] for name in ("id", "text", "label")}
        | {f"teacher_{name}": teacher.get(row["id"], {}).get(name) for name in columns}
        | {f"student_{name}": answer[name] for name in columns}
        for row, answer in zip(test, student.values, strict=True)
    ]
    context.here.write_table("predictions.parquet", pa.Table.from_pylist(rows, schema=predictions(spec)))
    result = _scores(context, rows) | {"others": others(spec, rows)}
    context.here.write_json("evaluate.json", result)
    scores = {who: {name: result[who][name] for name in scoring.SUMMARY} for who in SYSTEMS}
    return scores | {"warnings": student.warnings}


def _scores(context: Context, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores on the experts' rows and, of a blind sample, the estimates for all texts that it was drawn from.

    Where experts have labelled no others, the scores are of the sample, each row weighted by how many it stands for.
    """
    spec, scoring = context.spec, task_of(context.spec).scoring
    population = _population(context)
    chances = {row["id"]: row["inclusion"] for row in population if row["inclusion"] is not None}
    experts = [row for row in rows if row["id"] not in chances]
    if not chances:
        return compare(spec, rows)
    sample = [row for row in rows if row["id"] in chances]
    verdicts = context.inputs["vote"].read_table("votes.parquet")
    teacher = dict(zip(verdicts["id"].to_pylist(), verdicts["label"].to_pylist(), strict=True))
    truth, student = ({row["id"]: row[name] for row in sample} for name in ("label", "student_label"))
    found = scoring.estimates(spec, truth, teacher, student, population)
    if experts:
        return compare(spec, experts) | {"sample": found}
    result = compare(spec, sample, [1 / chances[row["id"]] for row in sample])
    for who in SYSTEMS:
        result[who] |= found[who]
    return result | {scoring.PAIRED: found["difference"], "population": found["population"], "sample": found}


def _population(context: Context) -> list[dict[str, Any]]:
    """The rows that the blind sample was drawn from; empty where nobody has labelled one of it."""
    if "correct" not in context.inputs:
        return []
    rows: list[dict[str, Any]] = context.inputs["correct"].read_table("population.parquet").to_pylist()
    return rows


@dataclass(frozen=True)
class _Answers:
    """The student's answers to some texts, and what to say of those that it did not give."""

    values: list[dict[str, Any]]
    warnings: list[str]


def _student_answers(context: Context, texts: list[str]) -> _Answers:
    predicted = context.cluster.call(
        predict,
        Resources.of(context.spec.student.resources),
        student=chosen_student(context.spec, context.inputs),
        texts=texts,
    )
    answers = task_of(context.spec).scoring.answers(context.spec, predicted["answers"], predicted["decision"])
    unanswered = sum(answer["label"] is None for answer in answers)
    warnings = finite.said_of(unanswered, len(texts), predicted["recomputed"], predicted["precision"])
    context.progress.warn(warnings, NAME)
    return _Answers(answers, warnings)


def _unmeasured(context: Context, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """What can be said without a single label of a person's: how often the student gives its teacher's value."""
    spec = context.spec
    held_out = context.inputs["train"].read_table(held_out_rows.FILE).to_pylist()
    texts = {row["id"]: row["text"] for row in verdicts}
    judged = [(texts[row["id"]], row["label"]) for row in held_out if row["held_out"]]
    student = _student_answers(context, [text for text, _ in judged]) if judged else _Answers([], [])
    agree = sum(answer["label"] == value for answer, (_, value) in zip(student.values, judged, strict=True))
    result = {
        **task_of(spec).scoring.about(spec),
        "rows": 0,
        "student_agrees_with_teacher": None,
        "held_out": {"rows": len(judged), "agree": agree},
        "others": {},
    }
    context.here.write_table("predictions.parquet", predictions(spec).empty_table())
    context.here.write_json("evaluate.json", result)
    return {"rows": 0, "held_out": len(judged), "agree": agree, "warnings": student.warnings}


def compare(spec: Spec, rows: list[dict[str, Any]], weights: Sequence[float] | None = None) -> dict[str, Any]:
    """Both scores, the paired test, and how often the student's answer is the teacher's.

    ``weights``: how many rows each one stands for; None: itself alone.
    """
    scoring = task_of(spec).scoring
    truth = [row["label"] for row in rows]
    given = {who: _answers(spec, rows, who) for who in SYSTEMS}
    teacher, student = ([answer["label"] for answer in given[who]] for who in SYSTEMS)
    agree = [t is not None and t == s for t, s in zip(teacher, student, strict=True)]
    stands_for = weights or [1.0] * len(rows)
    share = math.fsum(weight for weight, same in zip(stands_for, agree, strict=True) if same) / math.fsum(stands_for)
    return {
        **scoring.about(spec),
        "rows": len(rows),
        **{who: scoring.score(spec, truth, given[who], weights) for who in SYSTEMS},
        scoring.PAIRED: scoring.paired(truth, teacher, student),
        "student_agrees_with_teacher": share,
    }


def others(spec: Spec, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each recorded annotator on the rows that it has, with teacher and student on exactly those rows.

    By name: ``rows``, ``missing`` (test rows that it lacks), ``conflicting`` (left out: the file has them with several
    answers), the scores of ``annotator``, the primary figure of ``teacher`` and ``student``, and the paired test of the
    annotator (a) against each of them (b).
    """
    scoring = task_of(spec).scoring
    result = {}
    for name, annotator in annotators.read_all(spec, rows).items():
        common = [row for row in rows if row["id"] in annotator.values]
        truth, given = [row["label"] for row in common], [annotator.values[row["id"]] for row in common]
        systems = {who: [row[f"{who}_label"] for row in common] for who in SYSTEMS}
        result[name] = {
            "rows": len(common),
            "missing": len(rows) - len(common),
            "conflicting": annotator.conflicting,
            "annotator": scoring.score(spec, truth, [{"label": label} for label in given]),
            **{who: {scoring.PRIMARY: scoring.primary(truth, systems[who])} for who in SYSTEMS},
            scoring.PAIRED: {who: scoring.paired(truth, given, systems[who]) for who in SYSTEMS},
        }
    return result


def _answers(spec: Spec, rows: list[dict[str, Any]], who: str) -> list[dict[str, Any]]:
    columns = [field.name for field in task_of(spec).scoring.ANSWER]
    return [{name: row[f"{who}_{name}"] for name in columns} for row in rows]


def predict(student: StudentRef, texts: list[str]) -> dict[str, Any]:
    """The student's raw ``answers``, computed where the student runs, and how many had to be computed again."""
    model = student.open()
    answers = model.predict(texts).astype(float)
    how = {"decision": model.decision, "precision": model.precision}
    return {"answers": answers, "recomputed": model.recomputed} | how
