"""How many batches an actor has in hand, so that its engine is never empty."""

from __future__ import annotations

import math

from runner.planning.hardware.memory import largest_step
from runner.planning.replicas import first_requests
from runner.spec import Spec
from runner.system.accelerators import known

CONCURRENT_BATCHES, MOST_CONCURRENT_BATCHES = 4, 64
"""Batches inside one engine at once, at the least and at most: while the last rows of one are finished, those of the
others fill it. Each has a thread."""


IN_HAND = 4.0
"""Requests that an actor has in hand for each that its engine computes at once. A batch waits for its slowest row, so
that of the rows in hand about half are in the engine, and fewer towards the end of a job (recorded answers: mean 42
tokens, p95 70)."""


UNKNOWN_GPU_SEQUENCES = 256
"""What vLLM computes at once on GPUs of less than 70 GiB."""


def concurrent_batches(spec: Spec, batches: int, replicas: int = 1) -> int:
    """How many batches an actor has in hand: enough to keep its engine full, and no more than its share of the
    ``batches``, so that one of the ``replicas`` leaves something to the others."""
    teacher = spec.teacher
    if not teacher.resources.gpus:
        return CONCURRENT_BATCHES
    gpu = known(teacher.resources.accelerator)
    asked = teacher.engine_options.get("max_num_seqs")  # null, or left out: vLLM chooses
    sequences = UNKNOWN_GPU_SEQUENCES if asked is None else asked
    if gpu:
        sequences = largest_step(gpu, teacher.engine_options, teacher.max_context).sequences
    wanted = math.ceil(IN_HAND * sequences / first_requests(spec) / teacher.batch_size)
    share = math.ceil(batches / replicas)
    return max(CONCURRENT_BATCHES, min(wanted, share, MOST_CONCURRENT_BATCHES))
