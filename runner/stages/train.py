"""train: rows with label probabilities -> a fine-tuned student, under Ray Train.

A part of train (:mod:`runner.student.held_out`) is held out and picks the epoch and, with ``student.search``, the
settings; the test set is never looked at. Checkpoints lie beside the stages, in ``checkpoints/<fingerprint>/``, so that
a killed run goes on where it was; they are removed when the stage is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from runner import models
from runner.cluster.node_demand import Demand, of_student
from runner.spec import Spec
from runner.stages.contract import Context, always
from runner.student import held_out as held_out_rows
from runner.student import recipes, vocabulary
from runner.student.held_out import split_rows
from runner.student.rows import Rows
from runner.student.training_plan import TrainingPlan
from runner.student.training_runs import TrainingRuns
from runner.system.errors import UserError
from runner.tasks.kinds import task_of

NAME = "train"
NEEDS = ("vote", "correct")

TEXTS = "train texts"

NOT_LEARNT = ("resources", "export", "runtime", "max_disagreement")

VERSION = 10
"""Of training: recipes, learning rates, the rows held out, the choice of the epoch, dropout. A change trains anew."""

AUTO_VERSION = 2
"""Of how ``student.recipe: auto`` chooses: a change trains those students alone anew."""


def held_out_table(spec: Spec) -> pa.Schema:
    """The labelled rows, and which of them were held out."""
    return held_out_rows.schema(task_of(spec).gold.VALUE)


WRITES = {held_out_rows.FILE: held_out_table, "student/config.json": None}

wanted = always


def demands(spec: Spec) -> list[Demand]:
    """All workers at once."""
    return [of_student(spec, trains=True)]


def key(spec: Spec) -> dict[str, Any]:
    """The student's whole part of the spec but for its hardware and runtimes, which must not change the outcome.

    The number of workers does: each drops out units of its own.
    """
    student = {name: value for name, value in spec.to_dict()["student"].items() if name not in NOT_LEARNT}
    identity = models.identity(spec.student.model, spec.student.revision, spec.base)
    auto = {"auto": AUTO_VERSION} if spec.student.recipe == "auto" else {}
    workers = spec.student.resources.workers
    return {"recipe": VERSION, "student": student, "identity": identity, "workers": workers} | auto


def run(context: Context) -> dict[str, Any]:
    """Train the student.

    :raises ModelError: when it cannot be had or is no encoder.
    :raises UserError: when the rows are too few for the recipe.
    """
    spec, student = context.spec, context.spec.student
    rows = [
        row
        for row in context.latest("votes.parquet", "correct", "vote").to_pylist()
        if row["split"] == "train" and row["label"] is not None
    ]
    parts = [task_of(spec).targets.parts(row["label"]) for row in rows]
    held_out, kept = split_rows(parts, student.validation, student.seed)
    context.here.write_table(held_out_rows.FILE, held_out_rows.table(rows, held_out, task_of(spec).gold.VALUE))
    if student.recipe == "best" and len(kept) < recipes.FOLDS:
        raise UserError(
            "student.too-few-rows",
            f"student.recipe: best parts the rows into {recipes.FOLDS}, and the teacher labelled {len(rows)} train "
            f"rows, of which {len(kept)} are left to learn from; set it to fast, or bring more texts (data.train)",
        )
    model = context.model(student.model, student.revision, "student.model", NAME)
    unknown = vocabulary.warning(student.model, vocabulary.count_before(spec, [row["text"] for row in rows]), TEXTS)
    warnings = [said for said in (held_out_rows.warning(len(rows), len(held_out)), unknown) if said]
    context.progress.warn(warnings, NAME)
    learned, judging = (_rows(spec, [rows[i] for i in numbers]) for numbers in (kept, held_out or kept))
    plan = TrainingPlan(student, len(learned), len(set(chain.from_iterable(parts))), _parameters(spec))
    search, result = _trained(context, model, learned, judging, len(held_out), plan)
    later = _warnings(context, result, unknown_said=bool(unknown))
    context.progress.warn(later, NAME, before=len(warnings))
    facts = {
        "rows": len(learned),
        "held_out": len(held_out),
        "model": student.model,
        "warnings": warnings + later,
        "recipe": student.recipe,
        "rows_per_label": len(learned) / plan.answers,
    }
    if (kept_recipe := _kept(plan, result)) is not None:
        context.progress.say(kept_recipe, NAME)
    return facts | search | models.provenance(student.model, student.revision, spec.base) | result


def _rows(spec: Spec, verdicts: Sequence[dict[str, Any]]) -> Rows:
    return Rows([row["text"] for row in verdicts], task_of(spec).targets.of(verdicts))


def _trained(
    context: Context, model: tuple[str, str | None], rows: Rows, judging: Rows, held_out: int, plan: TrainingPlan
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train all that the recipe wants; what a search found, and the figures of the student that is kept."""
    progress, checkpoints = context.progress, context.run.child("checkpoints")
    runs = TrainingRuns(
        context.spec, context.cluster, progress, context.here, checkpoints, *model, held_out=judging, plan=plan
    )
    search: dict[str, Any] = {}
    if plan.student.search is not None:
        search["search"] = runs.search(rows)
    what = "a head on the encoder as it is" if plan.trainings == ("head",) else f"{plan.epochs} epochs"
    progress.say(f"{plan.student.model}: {len(rows)} rows, {held_out} held out, {what}", NAME)
    progress.begin(NAME, plan.texts_learned, "texts")
    result = runs.student(runs.out_of_fold_targets(rows) if plan.student.recipe == "best" else rows)
    checkpoints.clear()  # those of trainings that were given up as well
    _say_what_was_lost(context, result, len(rows))
    return search, result


def _say_what_was_lost(context: Context, result: dict[str, Any], rows: int) -> None:
    student = context.spec.student
    if result["truncated_rows"]:
        context.progress.say(
            f"{result['truncated_rows']} of {rows} texts are longer than student.max_length "
            f"({student.max_length} tokens): the student learned from their beginning",
            NAME,
        )
    if result["skipped_steps"]:
        context.progress.say(
            f"the loss scale left out {result['skipped_steps']} of {result['steps']} steps, whose gradients overflowed "
            f"in {result['precision']}",
            NAME,
        )


def _warnings(context: Context, result: dict[str, Any], unknown_said: bool) -> list[str]:
    """What the training warns of; ``unknown_said``: unknown tokens have been warned of before."""
    model, why = context.spec.student.model, result["fell_back"]
    warnings = [f"{model}: {why}; the student was trained in fp32 instead"] if why else []
    unknown = vocabulary.warning(model, vocabulary.Unknown(**result["unknown_tokens"]), TEXTS)
    return warnings + ([unknown] if unknown and not unknown_said else [])


def _parameters(spec: Spec) -> int | None:
    """The encoder's size, where it is known."""
    return models.describe(spec.student.model, spec.student.revision, spec.base).parameters


def _kept(plan: TrainingPlan, result: dict[str, Any]) -> str | None:
    """What to say of the recipe that was kept, where the spec left it open."""
    if plan.student.recipe != "auto":
        return None
    figures = ", ".join(f"{tried['recipe']} {tried['val_accuracy']:.1%}" for tried in result["tried"])
    return f"recipe {result['kept']} is kept; agreement with the teacher on held-out rows: {figures}"
