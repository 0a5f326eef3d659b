"""How many replicas of a teacher on GPUs a job pays for: each takes minutes to start, and a large node meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runner import models
from runner.hardware.accelerators import known
from runner.hardware.teacher_fit import Asked, Row, judge
from runner.hardware.throughput import ANSWER_TOKENS, CHARACTERS_PER_TOKEN, Work, row_seconds, start_seconds
from runner.spec import Spec
from runner.teacher.votes import still_needed

STARTS = 5
"""How many times as long as its start a replica should label: then a sixth of what it costs is for nothing."""

SHARED_TOKENS = 200
"""Of a prompt, that all rows share; a rough figure does, since the engine computes them once."""


def worth_starting(spec: Spec, options: Mapping[str, Any], rows: int, characters: float) -> int:
    """How many of the replicas that the spec allows have enough to do with so many ``rows`` of so many ``characters``.

    ``options``: vLLM's. All that it allows where nothing is known of the GPU or the model, and without GPUs.
    """
    teacher, (least, most) = spec.teacher, spec.teacher.resources.replicas
    gpu = known(teacher.resources.accelerator) if teacher.resources.gpus else None
    if gpu is None or teacher.engine != "vllm" or teacher.endpoint or least == most:
        return most
    facts = models.describe(teacher.model, teacher.revision, spec.base)
    own = math.ceil(characters / CHARACTERS_PER_TOKEN)
    votes = (still_needed([], teacher.votes) if teacher.early_stop else teacher.votes) if teacher.prompt == "cot" else 0
    work = Work(max(1, votes), own * max(1, votes), ANSWER_TOKENS * votes if votes else 1)
    gpus = int(options["tensor_parallel_size"])
    asked = Asked(teacher.model, gpu, gpus, teacher.max_context, options)
    verdict = judge(asked, facts, Row(SHARED_TOKENS, own + ANSWER_TOKENS))
    if verdict.fit is None or not verdict.sequences or not facts.active_parameters:
        return most
    seconds = rows * row_seconds(verdict.fit, gpu, gpus, facts.active_parameters, work, verdict.sequences, max(1, rows))
    enough = int(seconds / (STARTS * start_seconds(verdict.fit.weight_bytes * gpus)))
    return max(least, min(most, enough))
