"""Whether several training workers are slower than one: the gradients' way between them against a step's arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner import models
from runner.planning.hardware.throughput import CHARACTERS_PER_TOKEN
from runner.spec import Spec

NETWORK = 25e9 / 8
"""Bytes a second between nodes: "up to 25 Gbit/s" is what EC2 gives a g4dn.xlarge, which has one T4 (AWS's page on G4
instances). Workers on one node have what its PCIe has, which for two T4s is a few times as much."""

HOST_SECONDS_PER_LAYER = 0.022 / 12
"""What a step costs the host whatever its size: 22 ms for 12 layers, forward, backward and optimizer, measured on one
Xeon core without a GPU. On a faster host the traffic weighs more."""


@dataclass(frozen=True)
class Step:
    """One training step of one worker: bytes of gradients, and seconds for their way and for everything else."""

    gradient_bytes: float
    traffic_seconds: float
    compute_seconds: float
    rows_to_balance: int
    """The batch size at which the arithmetic takes as long as the gradients' way."""


def learned_parameters(parameters: int | None, layers: int | None, hidden: int | None) -> float | None:
    """The weights whose gradients travel: those of the layers, 12 x hidden^2 each, for of the words only those of the
    texts are learned (:class:`runner.student.shortcuts.SeenEmbedding`); all weights where the shape is not known."""
    if not layers or not hidden:
        return parameters
    body = 12 * layers * hidden**2
    return body if parameters is None else min(parameters, body)


def step(
    parameters: float, layers: int | None, rows: int, tokens: float, workers: int, bytes_each: int, flops: float
) -> Step:
    """``rows`` texts of ``tokens`` tokens each are shared by ``workers``, each of ``flops`` operations a second.

    A ring all-reduce sends and receives 2 (n - 1) / n of the gradients (Patarasuk and Yuan 2009); forward and backward
    take six operations for each weight and token.
    """
    gradients = parameters * bytes_each
    traffic = 2 * (workers - 1) / workers * gradients / NETWORK
    per_row = 6 * parameters * tokens / flops
    least = HOST_SECONDS_PER_LAYER * (layers or 0)
    balance = math.ceil(traffic / per_row) * workers
    return Step(gradients, traffic, max(per_row * math.ceil(rows / workers), least), balance)


def warnings(spec: Spec, texts: list[str], flops: float) -> list[str]:
    """What to say where the student's workers wait for gradients more than they compute; ``flops`` is one worker's."""
    student = spec.student
    resources, workers = student.resources, student.resources.workers
    if workers == 1 or not texts:
        return []
    facts = models.describe(student.model, student.revision, spec.base)
    parameters = learned_parameters(facts.parameters, facts.layers, facts.hidden)
    if parameters is None:
        return []
    tokens = sum(min(student.max_length, len(text) / CHARACTERS_PER_TOKEN) for text in texts) / len(texts)
    half = bool(resources.gpus) and student.precision != "fp32"
    layers = facts.layers if resources.gpus else None
    found = step(parameters, layers, student.batch_size, max(1.0, tokens), workers, 2 if half else 4, flops)
    if found.traffic_seconds <= found.compute_seconds:
        return []
    return [
        f"student.resources.workers: {workers} are likely slower than one: in each step of batch_size "
        f"{student.batch_size} a worker computes for about {found.compute_seconds * 1e3:.0f} ms, and "
        f"{found.gradient_bytes / 1e6:,.0f} MB of gradients take about {found.traffic_seconds * 1e3:.0f} ms between "
        f"nodes (25 Gbit/s); set workers to 1, or batch_size to {found.rows_to_balance:,} or more"
    ]
