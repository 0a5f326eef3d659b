"""How long a teacher takes on GPUs: a step reads all weights once, and computes what its tokens need.

An estimate of an engine that is kept full, from the bandwidth and the dense peak of the table of accelerators: nothing
here has run on one.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.planning.hardware.memory import Fit
from runner.system.accelerators import Accelerator

BANDWIDTH_SHARE = 0.75
"""Of the memory's bandwidth, that a step of decoding reaches; all-reduces and launches are in it."""
PEAK_SHARE = 0.45
"""Of the dense peak, that reading prompts reaches: 0.4 to 0.5 is usual for matrices of a language model's size."""
SECONDS_A_SEQUENCE = 20e-6
"""Of a step, for each sequence: the scheduler, sampling and detokenising are Python's, and are not divided by GPUs."""
SECONDS_A_ROW = 400e-6
"""Of a request that generates one token: templating, tokenising and scheduling are Python's."""
OCCUPANCY = 0.65
"""Of the sequences that an engine can hold, those that are at work on average: answers end at different times, and the
last ones are few. Recorded answers (mean 42 tokens, p95 70) replayed against such steps give 656 of 1,024."""
START_SECONDS = 90.0
"""From an engine's process to its first answer, without loading: imports, CUDA, torch.compile, CUDA graphs, warm-up."""
CHARACTERS_PER_TOKEN = 4
"""Of a text, where no tokenizer is at hand to count."""
ANSWER_TOKENS = 45
"""Of a chain-of-thought answer: the recorded ones of Mixtral have 42 on average, and 70 at the 95th percentile."""
LOADING_BYTES_A_SECOND = 0.5e9
"""Of weights, from a disk or a volume of a cloud to the GPUs."""


@dataclass(frozen=True)
class Work:
    """Of a row: requests, tokens of prompts that are read (not from the cache), and tokens that are generated."""

    requests: float
    read: float
    generated: float


def start_seconds(weight_bytes: int) -> float:
    """From nothing to the first answer, for weights of so many bytes on all GPUs together."""
    return START_SECONDS + weight_bytes / LOADING_BYTES_A_SECOND


def row_seconds(fit: Fit, gpu: Accelerator, gpus: int, active: float, work: Work, sequences: int, rows: int) -> float:
    """Seconds of one replica for a row, of ``rows``; ``active``: weights that a token passes through."""
    peak = gpu.fp8_tflops if fit.layout.method == "fp8" and gpu.fp8_tflops else gpu.tflops
    reading = work.read * 2 * active / (gpus * peak * 1e12 * PEAK_SHARE)
    at_once = max(1.0, OCCUPANCY * min(sequences, rows * work.requests))
    if work.generated <= work.requests:  # one token each: the step that reads the prompt is the last one
        return max(reading, work.requests * SECONDS_A_ROW)
    step = fit.weight_bytes / (gpu.bytes_per_second * BANDWIDTH_SHARE) + at_once * SECONDS_A_SEQUENCE
    return reading + work.generated * step / at_once
