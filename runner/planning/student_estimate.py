"""What training the student and labelling the corpus with it would take: hours, and USD where there is a price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner import models
from runner.data.reading import count_rows
from runner.data.sources import source_of
from runner.planning.hardware.throughput import CHARACTERS_PER_TOKEN
from runner.planning.rates import CPU_STUDENT_TFLOPS, operations_per_second
from runner.spec import Spec
from runner.student import gradient_traffic
from runner.student.held_out import held_out_size
from runner.student.training_plan import TrainingPlan
from runner.tasks.kinds import task_of

STEP_SECONDS = 12 * gradient_traffic.HOST_SECONDS_PER_LAYER
"""Of a training step of 12 layers, however fast the GPU."""


def estimate_training(spec: Spec, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The student's part of the plan, for a training on ``rows``."""
    student = spec.student
    facts = models.describe(student.model, student.revision, spec.base)
    learned = len(rows) - held_out_size(len(rows), student.validation)
    answers = max(1, len(task_of(spec).asking.answer_format(vars(spec.task)).choices))
    plan = TrainingPlan(student, learned, answers, facts.parameters)
    texts = plan.texts_learned + plan.texts_tried
    each = _forward(spec, facts, [row["text"] for row in rows])
    return {
        "model": student.model,
        "present": facts.present,
        "parameters": facts.parameters,
        "epochs": plan.epochs,
        "recipe": student.recipe,
        "trainings": list(plan.trainings),
        "advice": plan.advice(),
        "trials": student.search.trials if student.search else 0,
        **_spent(spec, 3 * each * texts, texts / student.batch_size),  # back takes twice as much as forth
    }


def estimate_apply(spec: Spec, texts: Sequence[str]) -> dict[str, Any] | None:
    """What labelling the corpus takes, where there is one; its texts are taken to be as long as the others."""
    if spec.data.corpus is None:
        return None
    rows = count_rows(source_of(spec, spec.data.corpus))
    facts = models.describe(spec.student.model, spec.student.revision, spec.base)
    return {"rows": rows, **_spent(spec, None if rows is None else rows * _forward(spec, facts, texts))}


def _forward(spec: Spec, facts: models.ModelFacts, texts: Sequence[str]) -> float:
    """Floating-point operations of the student on one of ``texts``, on average: two for each weight and token."""
    lengths = [min(spec.student.max_length, len(text) / CHARACTERS_PER_TOKEN) for text in texts]
    return 2 * (facts.parameters or 125e6) * sum(lengths) / max(1, len(lengths))


def _spent(spec: Spec, operations: float | None, steps: float = 0) -> dict[str, Any]:
    """Hours and USD of so much work on the student's workers, in so many ``steps``; None where it is not known."""
    resources = spec.student.resources
    rate = operations_per_second(resources, CPU_STUDENT_TFLOPS) * resources.workers
    least = steps * STEP_SECONDS if resources.gpus else 0.0
    hours = None if operations is None else max(operations / rate, least) / 3600
    price = spec.benchmark.price_per_hour
    usd = None if hours is None or price is None else hours * price * resources.workers
    return {"hours": hours, "basis": "rough, from arithmetic", "usd": usd}
