"""What labelling with a teacher would take: requests, tokens, memory, hours and USD.

Times come from the teacher's earlier answers in the run folder where there are any, and else from arithmetic:
floating-point operations over what the hardware is known to do. They are rough and say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner import models
from runner.planning.check import context_problem
from runner.planning.hardware.teacher_fit import Row, Verdict
from runner.planning.hardware.throughput import ANSWER_TOKENS, Work, row_seconds, start_seconds
from runner.planning.memory import memory_of, teacher_memory, verdict_on_gpus
from runner.planning.rates import operations_per_second, watts
from runner.planning.replicas import worth_starting
from runner.planning.tokens import direct_requests, prompt_tokens, shown_task
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.spec.model import Teacher
from runner.system.accelerators import known
from runner.tasks.kinds import task_of
from runner.teacher import answer_store, prompt, request
from runner.teacher.budget import Spent, seconds_left, spent
from runner.teacher.engines.vllm_arguments import engine_options
from runner.teacher.random_texts import CONTENT_FREE_TEXTS

DECODING = 5.0
"""A decoded token takes about this many times the time of a prompt token, which come many at once."""


@dataclass(frozen=True)
class _Answers:
    """What the run folder has of the rows: how many are left to ask, how many are there, and what they took together.

    ``replies``: None where they say nothing of those to come; ``calibrating``: texts for calibration that are left.
    """

    todo: int
    reused: int
    seconds: float | None
    replies: int | None
    calibrating: int

    @property
    def replies_per_row(self) -> float | None:
        return self.replies / self.reused if self.reused and self.replies else None


def estimate_teacher(
    spec: Spec, run: Folder, ids: Sequence[str], texts: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """A teacher's part of the plan, for rows with these ids and texts, and the problems that would stop it."""
    teacher = spec.teacher
    if teacher.engine == "recorded":
        return {"engine": "recorded", "model": teacher.model, "rows": len(ids), "generate": 0}, []
    facts, answers = _facts(spec), _stored_answers(spec, run, ids, texts)
    counted = prompt_tokens(spec, texts)
    fixed, per_row = counted.fixed, counted.per_row
    memory, problems = teacher_memory(spec, facts)
    requests, most_requests, read_again, output = _requests(spec, per_row, answers.replies_per_row, problems)
    problems += [reason] if (reason := context_problem(spec, counted.besides_text)) else []
    verdict = verdict_on_gpus(spec, facts, Row(fixed, math.ceil(per_row + output / requests)))
    if verdict and not problems:
        memory, problems = memory_of(verdict)
    # Texts that say nothing leave probability everywhere, so that hardly a request is spared.
    calls = answers.todo + answers.calibrating * most_requests / requests
    work = Work(requests, per_row + read_again, output)
    seconds, basis = _seconds(spec, facts, verdict, answers, calls, work)
    replicas = _replicas(spec, answers.todo, texts)
    hours = seconds / 3600 / replicas["at_work"]
    start = _start_hours(teacher, facts, verdict) if answers.todo else 0.0
    held = (hours + start) * replicas["held"]
    return {
        "engine": teacher.engine,
        "model": teacher.model,
        "present": facts.present,
        "rows": len(ids),
        "generate": answers.todo,
        "reuse": len(ids) - answers.todo,
        "prompt_tokens": {"fixed": fixed, "per_row": per_row, "counted": counted.counted, "read_again": read_again},
        "requests_per_row": requests,
        "requests_per_row_most": most_requests,
        "output_tokens_per_row": output,
        "memory": memory,
        "hours": hours,
        "start_hours": start,
        "replicas": replicas,
        "basis": basis,
        "gpu_hours": held * teacher.resources.gpus,
        "kwh": (held if teacher.resources.gpus else seconds / 3600) * watts(teacher.resources) / 1000,
        "size_known": bool(facts.active_parameters) or teacher.engine != "vllm",
        "usd": teacher.price_per_hour and held * teacher.price_per_hour,
        "engine_options": engine_options(request.settings_of(teacher)),
        "prompt": prompt.messages(shown_task(spec)[1], texts[0] if texts else ""),
    }, problems


def _stored_answers(spec: Spec, run: Folder, ids: Sequence[str], texts: Sequence[str]) -> _Answers:
    asked = pa.table({"id": ids, "kind": ["row"] * len(ids), "text": pa.array(texts, pa.large_string())})
    answers = answer_store.read_answers(answer_store.answers_folder(run, spec))
    todo = answer_store.pending(spec, asked, answers)
    own = answers.filter(pc.is_in(answers["id"], value_set=asked["id"].combine_chunks()))
    if direct := spec.teacher.prompt == "direct":  # rows that are asked once more take longer this time
        own = own.filter(pc.invert(pc.is_in(own["id"], value_set=todo["id"].combine_chunks())))
    reused, seconds = pc.count_distinct(own["id"]).as_py(), pc.sum(own["seconds"]).as_py()
    replies = pc.sum(own["output_tokens"]).as_py() if direct else None
    there = len(answers.filter(pc.equal(answers["kind"], "content-free")))
    calibrating = max(0, CONTENT_FREE_TEXTS - there) if len(todo) and request.asks_content_free(spec) else 0
    return _Answers(len(todo), reused, seconds, replies, calibrating)


def _seconds(
    spec: Spec, facts: models.ModelFacts, verdict: Verdict | None, answers: _Answers, calls: float, work: Work
) -> tuple[float, str]:
    """Seconds that one replica takes for the rows that are left, and what the figure rests on.

    ``work`` is that of a row, and with what calibration takes there are as many as ``calls``.
    """
    teacher, todo = spec.teacher, answers.todo
    if answers.reused:
        assert answers.seconds is not None
        return calls * answers.seconds / answers.reused, f"measured on {answers.reused} earlier rows"
    if verdict and verdict.sequences:
        return todo * _on_gpus(teacher, facts, verdict, work, todo), "rough, from the GPU's bandwidth and peak"
    tokens = work.read + work.generated * (DECODING if teacher.prompt == "cot" else 1)
    rate = operations_per_second(teacher.resources)
    return calls * 2 * (facts.active_parameters or 7e9) * tokens / rate, "rough, from arithmetic"


def _replicas(spec: Spec, rows: int, texts: Sequence[str]) -> dict[str, int]:
    """How many are held at least, how many of those have a batch of the ``rows``, and how many have one at most."""
    teacher = spec.teacher
    characters = sum(map(len, texts)) / max(1, len(texts))
    most = worth_starting(spec, engine_options(request.settings_of(teacher)), rows, characters)
    least, batches = teacher.resources.replicas[0], max(1, math.ceil(rows / teacher.batch_size))
    return {"held": least, "at_work": min(least, batches), "at_work_most": min(most, batches)}


def budget_left(spec: Spec, run: Folder, replicas: int) -> dict[str, float] | None:
    """The hours that all teachers together may label on so many ``replicas``, and what is left of them; None without a
    budget."""
    hours = seconds_left(spec.teacher, Spent(), replicas) / 3600
    if not math.isfinite(hours):
        return None
    before = spent(answer_store.answers_folder(run, one) for one in spec.teachers())
    return {"hours": hours, "left_hours": seconds_left(spec.teacher, before, replicas) / 3600}


def _requests(spec: Spec, per_row: int, measured: float | None, problems: list[str]) -> tuple[float, int, int, int]:
    """Of a row: requests, how many they may be, tokens that are read for those after the first, and tokens that are
    generated. ``measured``: the requests that earlier rows took, with prompt ``direct``."""
    teacher = spec.teacher
    if teacher.prompt == "cot":
        votes = _expected_votes(spec)
        return votes, teacher.votes, 0, round(ANSWER_TOKENS * votes)
    try:
        found = direct_requests(spec, per_row, measured)
    except ValueError as error:
        problems.append(str(error))
        return 1, 1, 0, 1
    return found.number, found.most, found.read_again, round(found.number)


def _facts(spec: Spec) -> models.ModelFacts:
    if spec.teacher.engine == "noop":
        return models.ModelFacts(None, None, None, None, None, None, None, None, present=True)
    return models.describe(spec.teacher.model, spec.teacher.revision, spec.base, spec.teacher.endpoint is None)


def _expected_votes(spec: Spec) -> float:
    """Where votes stop early, about one row in ten needs more than the fewest (the published case: 8 %)."""
    teacher = spec.teacher
    if not teacher.early_stop:
        return teacher.votes
    least = task_of(spec).asking.answer_format(vars(spec.task)).next_votes([], teacher.votes, early_stop=True)
    return least + (teacher.votes - least) / 10


def _on_gpus(teacher: Teacher, facts: models.ModelFacts, verdict: Verdict, work: Work, rows: int) -> float:
    """Seconds of one replica for a row."""
    gpu = known(teacher.resources.accelerator)
    assert gpu and verdict.fit and verdict.sequences
    active = facts.active_parameters or 7e9
    return row_seconds(verdict.fit, gpu, teacher.resources.gpus, active, work, verdict.sequences, max(1, rows))


def _start_hours(teacher: Teacher, facts: models.ModelFacts, verdict: Verdict | None) -> float:
    """From nothing to the first answer of an engine on GPUs; 0 where it is not known."""
    if not teacher.resources.gpus or teacher.endpoint or teacher.engine != "vllm":
        return 0.0
    if verdict and verdict.fit:
        return start_seconds(verdict.fit.weight_bytes * teacher.resources.gpus) / 3600
    return start_seconds(facts.weight_bytes) / 3600 if facts.weight_bytes else 0.0
