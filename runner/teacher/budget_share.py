"""Each teacher's share of the run's budget: what is left of it, divided among those that still have to be asked."""

from __future__ import annotations

import math
from dataclasses import replace

import pyarrow as pa

from runner.observe.progress import clock
from runner.spec import Spec
from runner.spec.model import Budget
from runner.stages.contract import Context
from runner.teacher.answer_store import answers_folder, pending, read_answers
from runner.teacher.budget import Spent, seconds_left, spent
from runner.teacher.content_free import content_free_rows
from runner.teacher.request import STAGE


def seconds_for(context: Context, rows: pa.Table, whole: Spec, number: int, replicas: int | None = None) -> float:
    """How long the teacher of that number among those of the ``whole`` spec may label on so many ``replicas``: what is
    left of the run's budget, divided among the teachers that still have something to be asked about ``rows``."""
    teachers, budget = whole.teachers(), whole.teacher.budget
    if budget == Budget(usd=None, hours=None):
        return math.inf
    before = spent(answers_folder(context.run, teacher) for teacher in teachers)
    left = seconds_left(whole.teacher, before, replicas)
    later = sum(_is_waiting(replace(context, spec=teacher), rows) for teacher in teachers[number + 1 :])
    seconds = left / (1 + later)
    context.progress.tell(
        "budget", STAGE, _budget_words(left, before), usd=budget.usd, hours=budget.hours, seconds=round(seconds, 3)
    )
    return seconds


def _budget_words(left: float, before: Spent) -> str:
    return f"teacher.budget: {clock(before.seconds)} spent before, {clock(left)} left" if before.seconds else ""


def _is_waiting(context: Context, rows: pa.Table) -> bool:
    asked = pa.concat_tables([rows, content_free_rows(context, rows)])
    return len(pending(context.spec, asked, read_answers(answers_folder(context.run, context.spec)))) > 0
