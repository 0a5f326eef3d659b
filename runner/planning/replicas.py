"""How many replicas of a teacher on GPUs a job pays for: each takes minutes to start, and a large node meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runner import models
from runner.planning.hardware.teacher_fit import Asked, Row, judge
from runner.planning.hardware.throughput import ANSWER_TOKENS, CHARACTERS_PER_TOKEN, Work, row_seconds, start_seconds
from runner.spec import Spec
from runner.system.accelerators import known
from runner.tasks.kinds import task_of

STARTS = 5
"""How many times as long as its start a replica should label: then a sixth of what it costs is for nothing."""

SHARED_TOKENS = 200
"""Of a prompt, that all rows share; a rough figure does, since the engine computes them once."""


def first_requests(spec: Spec) -> int:
    """Requests that a row begins with: votes that are drawn at once, or one."""
    teacher = spec.teacher
    if teacher.prompt != "cot":
        return 1
    return task_of(spec).asking.answer_format(vars(spec.task)).next_votes([], teacher.votes, teacher.early_stop)


def worth_starting(spec: Spec, options: Mapping[str, Any], rows: int, characters: float) -> int:
    """The most replicas, of those that the spec allows, that have enough to do with ``rows`` of so many ``characters``.

    ``options``: vLLM's. Each has a batch at the least, and on GPUs that are known here labels for :data:`STARTS` times
    as long as it takes to start; but never fewer than the spec's own least.
    """
    teacher, (least, most) = spec.teacher, spec.teacher.resources.replicas
    batches = math.ceil(rows / teacher.batch_size)
    return max(least, min(most, batches, _paying(spec, options, rows, characters) if least < most else most))


def _paying(spec: Spec, options: Mapping[str, Any], rows: int, characters: float) -> int:
    """How many the work pays for; as many as the spec allows where nothing is known of the GPU or the model."""
    teacher, most = spec.teacher, spec.teacher.resources.replicas[1]
    gpu = known(teacher.resources.accelerator) if teacher.resources.gpus else None
    if gpu is None or teacher.engine != "vllm" or teacher.endpoint:
        return most
    facts = models.describe(teacher.model, teacher.revision, spec.base)
    own, requests = math.ceil(characters / CHARACTERS_PER_TOKEN), first_requests(spec)
    work = Work(requests, own * requests, requests * (ANSWER_TOKENS if teacher.prompt == "cot" else 1))
    gpus = int(options["tensor_parallel_size"])
    asked = Asked(teacher.model, gpu, gpus, teacher.max_context, options)
    verdict = judge(asked, facts, Row(SHARED_TOKENS, own + ANSWER_TOKENS))
    if verdict.fit is None or not verdict.sequences or not facts.active_parameters:
        return most
    seconds = rows * row_seconds(verdict.fit, gpu, gpus, facts.active_parameters, work, verdict.sequences, max(1, rows))
    return int(seconds / (STARTS * start_seconds(verdict.fit.weight_bytes * gpus)))
