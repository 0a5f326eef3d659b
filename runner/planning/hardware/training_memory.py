"""Whether a student's training fits into a GPU: its weights are counted, what its layers keep is an estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.models import ModelFacts
from runner.planning.hardware.memory import CUDA_BYTES
from runner.spec.model import Student
from runner.system.accelerators import GIB, known

TRAINED_BYTES = 4 + 4 + 8 + 4 + 2
"""Of a weight that learns: itself, its gradient, AdamW's two moments, the mean of the later epochs, in fp32; and the
half-precision copy that autocast keeps."""
FROZEN_BYTES = 4
"""Of a word vector whose token is in no text: it does not learn (``SeenEmbedding`` in runner/student/shortcuts.py)."""
SEEN_TOKENS = 30_000
"""Tokens that occur in the texts, at most, where they are not counted."""
KEPT_BYTES = 34
"""What a layer keeps for its gradients, of each token and column of its width, in half precision: Korthikanti et al.
2022, "Reducing Activation Recomputation in Large Transformer Models", without what attention does not keep any more."""


@dataclass(frozen=True)
class Encoder:
    """A student: weights, layers, width, and tokens in its vocabulary."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int


def training_bytes(student: Encoder, texts: int, tokens: int, half: bool) -> int:
    """Memory of a training that computes ``texts`` of ``tokens`` each at a time, in ``half`` precision or in fp32."""
    words = student.vocabulary * student.hidden
    seen = min(student.vocabulary, SEEN_TOKENS) * student.hidden
    weights = (student.parameters - words + seen) * TRAINED_BYTES + words * FROZEN_BYTES
    kept = KEPT_BYTES * (1 if half else 2) * texts * tokens * student.hidden * student.layers
    return CUDA_BYTES + weights + kept


def parts_that_fit(student: Encoder, batch: int, tokens: int, half: bool, have: int) -> int | None:
    """In how many parts a batch must be computed (``student.accumulate``) to fit into ``have`` bytes; None: in none."""
    for number in range(1, batch + 1):
        if training_bytes(student, math.ceil(batch / number), tokens, half) <= have:
            return number
    return None


def too_large(student: Student, facts: ModelFacts) -> str | None:
    """What to do where a training does not fit into the GPU of the spec; None where it does, or nobody knows."""
    gpu = known(student.resources.accelerator) if student.resources.gpus else None
    vocabulary = (facts.config or {}).get("vocab_size")
    if gpu is None or not (facts.parameters and facts.layers and facts.hidden) or type(vocabulary) is not int:
        return None
    encoder = Encoder(facts.parameters, facts.layers, facts.hidden, vocabulary)
    half, share = student.precision != "fp32", math.ceil(student.batch_size / student.resources.workers)
    texts = math.ceil(share / student.accumulate)
    need = training_bytes(encoder, texts, student.max_length, half)
    if need <= gpu.memory_bytes:
        return None
    parts = parts_that_fit(encoder, share, student.max_length, half, gpu.memory_bytes)
    advice = f"set student.accumulate: {parts}, and it is computed in parts" if parts else "take a larger GPU"
    return (
        f"student.resources: {texts} texts of {student.max_length} tokens at once take about {need / GIB:.1f} GiB in "
        f"training, and {gpu.name} has {gpu.memory_bytes / GIB:.1f} GiB: {advice}"
    )


def emulated(student: Student) -> str | None:
    """What to say where the GPU of the spec does not multiply in the student's precision; None where it does.

    torch computes bf16 on every GPU, and below compute capability 8.0 without the units that make it fast.
    """
    gpu = known(student.resources.accelerator) if student.resources.gpus else None
    if gpu is None or gpu.bf16 or student.precision != "bf16":
        return None
    return (
        f"student.precision: {gpu.name} has no hardware for bf16 (compute capability "
        f"{'.'.join(map(str, gpu.capability))}, 8.0 is needed), so that it is slow: set auto, which takes fp16 there"
    )
