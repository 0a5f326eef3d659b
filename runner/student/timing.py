"""How fast a student is, how much memory it takes, and how much energy: measured in the process that it runs in."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.economics.carbon import energy_of
from runner.student.batches import batch_figures
from runner.student.trained import LoadedStudent, StudentRef
from runner.system import machine

WARM_UP = 8
LATENCY_RUNS = 200
ENERGY_SECONDS = 10.0
"""For how long the student works while its energy is measured: power is sampled once a second."""

BATCHES, MOST_TEXTS = 8, 100_000
"""How many batches of each size an accelerator is timed over at least, by taking the texts again, and of how many texts
at most: a benchmark's texts are often fewer than one of its batches holds."""


def measure(
    student: StudentRef,
    texts: list[str],
    batch_sizes: list[int],
    carbon: dict[str, Any] | None = None,
    others: Sequence[StudentRef] = (),
) -> dict[str, Any]:
    """Latency at batch 1 (tokenising included) and throughput by batch size, warm-up apart; energy where asked for.

    Of ``others``, the same student in other runtimes, throughput only.
    """
    model = student.open()
    for text in texts[:WARM_UP]:
        model.predict([text])
    latency = _latency(model, texts)
    throughput = _throughput(model, texts, batch_sizes)
    peak = _peak_memory_mb()  # before codecarbon brings libraries of its own
    best = max(throughput, key=lambda row: row["texts_per_second"])
    timed = _enough(model, texts, best["batch_size"])
    return {
        **latency,
        "throughput": throughput,
        "texts_per_second": best["texts_per_second"],
        "batch": best["batch"],
        "tokens_per_batch": model.tokens_per_batch,
        "memory_ran_out": model.halved,
        "runtimes": [
            {"runtime": one.runtime, "throughput": _throughput(one.open(), texts, batch_sizes)} for one in others
        ],
        "peak_memory_mb": peak,
        "peak_gpu_memory_mb": model.gpu_memory_mb(),
        "device": str(model.device),
        "precision": model.precision,
        "runtime": model.runtime,
        "hardware": machine.hardware(),
        "not_finite": max(row["not_finite"] for row in throughput),
        "energy": carbon and _energy(lambda: model.predict(timed, batch_rows=best["batch_size"]), len(timed), carbon),
    }


def _latency(model: LoadedStudent, texts: list[str]) -> dict[str, Any]:
    """Of one text at a time, in milliseconds. Each text is timed twice, in two passes: how far its two times lie apart
    (``latency_repeat_p95``, the longer by the shorter) tells a busy machine, whatever the texts' lengths."""
    half = [texts[index % len(texts)] for index in range(LATENCY_RUNS // 2)]
    times = np.empty((2, len(half)))
    for place, text in np.ndenumerate(np.array([half, half], dtype=object)):
        start = time.perf_counter()
        model.predict([text])
        times[place] = (time.perf_counter() - start) * 1000
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return {
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        "latency_runs": times.size,
        "latency_repeat_p95": float(np.percentile(times.max(axis=0) / times.min(axis=0), 95)),
    }


def _throughput(model: LoadedStudent, texts: list[str], batch_sizes: list[int]) -> list[dict[str, Any]]:
    """Texts per second by the most rows that a batch may have, each after a warm-up; how many had no finite answer.

    ``batch`` is what was in a batch (:func:`runner.student.batches.batch_figures`), which token budgets keep small. On
    an accelerator the last ``batch_size`` is None: as many rows as its budget has tokens for, as a corpus is labelled.
    """
    throughput: list[dict[str, Any]] = []
    for size in [*batch_sizes, None] if model.in_flight else batch_sizes:
        timed = _enough(model, texts, size)
        model.predict(timed if size is None else timed[: 2 * size], batch_rows=size)
        with model.recorded() as ran:
            start = time.perf_counter()
            found = model.predict(timed, batch_rows=size)
            rate = len(timed) / (time.perf_counter() - start)
        without = int((~np.isfinite(found[: len(texts)]).all(axis=1)).sum())
        row = {"batch_size": size, "texts_per_second": rate, "not_finite": without, "batch": batch_figures(ran)}
        throughput.append(row)
    return throughput


def _enough(model: LoadedStudent, texts: list[str], size: int | None) -> list[str]:
    """The texts that are timed; on an accelerator as often as makes :data:`BATCHES` batches of ``size`` rows."""
    if model.in_flight is None or not texts:
        return texts
    full = model.rows_per_batch(texts)
    wanted = min(MOST_TEXTS, BATCHES * (full if size is None else min(full, size)))
    return texts * math.ceil(wanted / len(texts))


def _energy(predict: Callable[[], object], rows: int, carbon: dict[str, Any]) -> dict[str, Any]:
    """The energy of the student at work at its best batch size, for a million texts."""

    def work() -> int:
        texts, until = 0, time.perf_counter() + ENERGY_SECONDS
        while time.perf_counter() < until:
            predict()
            texts += rows
        return texts

    return energy_of(work, **carbon)


def _peak_memory_mb() -> float:
    """The most memory that this process held; macOS counts in bytes, Linux in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
