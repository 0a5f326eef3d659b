"""benchmark: latency, throughput, memory and cost of the student, and of the teacher from its own run."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from runner.cluster import Resources
from runner.spec import Spec
from runner.stage import Context
from runner.store import Folder

NAME = "benchmark"
NEEDS = ("load", "label", "train")

WARM_UP = 8
LATENCY_RUNS = 200


def key(spec: Spec) -> dict[str, Any]:
    """What is timed, on what, at which price."""
    return {
        "benchmark": spec.to_dict()["benchmark"],
        "resources": spec.to_dict()["student"]["resources"],
        "teacher_price": spec.teacher.price_per_hour,
        "replicas": list(spec.teacher.resources.replicas),
    }


def run(context: Context) -> dict[str, Any]:
    """Time the student where it runs; work out what each million texts cost."""
    spec, bench = context.spec, context.spec.benchmark
    test = context.inputs["load"].read_table("test.parquet").column("text").to_pylist()
    resources = spec.student.resources
    measured = context.cluster.call(
        measure,
        Resources(resources.cpus, resources.gpus, resources.accelerator),
        student=context.inputs["train"].url,
        texts=test[: bench.rows],
        max_length=spec.student.max_length,
        precision=spec.student.precision,
        batch_sizes=list(bench.batch_sizes),
    )
    student = measured | {
        "usd_per_million": usd_per_million(bench.price_per_hour, measured["texts_per_second"]),
        "price_per_hour": bench.price_per_hour,
    }
    label = (context.inputs["label"].done or {})["summary"]
    rate, price = label["rows_per_second"], spec.teacher.price_per_hour
    if price is None and not spec.teacher.resources.gpus and not resources.gpus:
        price = bench.price_per_hour  # both ran on the same kind of machine
    teacher = {
        "rows_per_second": rate,
        "usd_per_million": usd_per_million(price, rate) if price and rate else None,
        "price_per_hour": price,
        "replicas": list(spec.teacher.resources.replicas),
    }
    result = {
        "student": student,
        "teacher": teacher,
        "texts": bench.texts,
        "student_usd": student["usd_per_million"] * bench.texts / 1e6,
        "teacher_usd": teacher["usd_per_million"] and teacher["usd_per_million"] * bench.texts / 1e6,
    }
    context.here.write_json("benchmark.json", result)
    return {"texts_per_second": student["texts_per_second"], "usd_per_million": student["usd_per_million"]}


def usd_per_million(price_per_hour: float, texts_per_second: float) -> float:
    """USD for a million texts on a machine at that price, at that rate, with nothing else to do."""
    return price_per_hour / 3600 / texts_per_second * 1e6


def measure(student: str, texts: list[str], max_length: int, precision: str, batch_sizes: list[int]) -> dict[str, Any]:
    """Latency at batch 1 (tokenising included) and throughput by batch size, warm-up apart."""
    from runner.student import Student

    with tempfile.TemporaryDirectory() as scratch:
        model = Student.load(Folder(student).fetch("student", Path(scratch)), max_length, precision)
    for text in texts[:WARM_UP]:
        model.predict([text])
    times = []
    for index in range(LATENCY_RUNS):
        start = time.perf_counter()
        model.predict([texts[index % len(texts)]])
        times.append((time.perf_counter() - start) * 1000)
    throughput = []
    for size in batch_sizes:
        model.predict(texts[: 2 * size], batch_rows=size)
        start = time.perf_counter()
        model.predict(texts, batch_rows=size)
        rate = len(texts) / (time.perf_counter() - start)
        throughput.append({"batch_size": size, "texts_per_second": rate})
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return {
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
        "latency_runs": LATENCY_RUNS,
        "throughput": throughput,
        "texts_per_second": max(row["texts_per_second"] for row in throughput),
        "peak_memory_mb": _peak_memory_mb(),
        "device": str(model.device),
        "precision": model.precision,
    }


def _peak_memory_mb() -> float:
    """The most memory that this process held; macOS counts in bytes, Linux in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
