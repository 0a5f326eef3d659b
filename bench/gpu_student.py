"""The student on a GPU, in fp16 and bf16, against plain transformers: a part of `bench/gpu.py`.

learn   training.fit, one epoch, load and save   against  transformers.Trainer, its defaults and the same precision
say     Student.predict                          against  pipeline, batches of 8, and of 64 in the same precision
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import student as bench
from gpu_machine import used_gib
from gpu_models import student, texts

HALVES = ("fp16", "bf16")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Rates in both precisions, texts per second."""
    import torch

    on = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as scratch:
        folder, name = student(Path(scratch), job["tiny"])
        found: dict[str, Any] = {"model": name, "device": on}
        for precision in HALVES:
            if on == "cuda" and precision == "bf16" and torch.cuda.get_device_capability()[0] < 8:
                found[precision] = {"left_out": "this GPU has no bf16"}
                continue
            found[precision] = {"learn": _learn(folder, precision, job, on), "say": _say(folder, precision, job, on)}
    return found


def _learn(model: Path, precision: str, job: dict[str, Any], on: str) -> dict[str, Any]:
    from dataclasses import replace

    from runner.student import fit as training
    from runner.tasks.single_label import learner

    rows = texts(job["train_rows"])
    fit, train, held_out = bench.learning(model, rows)
    fit = replace(fit, precision=precision)
    told: dict[str, Any] = {}

    def ours() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            done = training.fit(learner, fit, train, held_out, Path(scratch) / "student")
            told.update(done if isinstance(done, dict) else vars(done))

    labels = train.targets.argmax(axis=1)
    plain = {"use_cpu": on == "cpu"}
    # On processors Trainer knows no fp16.
    half = {precision: True} if on == "cuda" or precision == "bf16" else {}
    careful = plain | half | {"per_device_train_batch_size": fit.batch_size}
    peers = {
        "Trainer, defaults": bench.plain_trainer(model, rows, labels, plain),
        f"Trainer, {precision if half else 'fp32'}": bench.plain_trainer(model, rows, labels, careful),
    }
    return _timed(ours, peers, len(rows), job["rounds"]) | {
        "computed_in": told.get("precision"),
        "fell_back": told.get("fell_back"),
        "used_gib": used_gib(),
    }


def _say(model: Path, precision: str, job: dict[str, Any], on: str) -> dict[str, Any]:
    from runner.student.predict import Student
    from runner.tasks.single_label import learner

    rows = texts(job["predict_rows"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = bench.trained(model, Path(scratch) / "student")
        ours = Student.load(learner, folder, precision=precision)
        peers = {
            "pipeline, batches of 8": _pipeline(folder, rows, on, 8, None),
            f"pipeline, batches of 64, {precision}": _pipeline(folder, rows, on, 64, precision),
        }
        found = _timed(lambda: ours.predict(rows), peers, len(rows), job["rounds"])
    return found | {"computed_in": ours.precision, "fell_back": ours.fell_back, "used_gib": used_gib()}


def _pipeline(folder: Path, rows: Sequence[str], on: str, batch: int, precision: str | None) -> Callable[[], Any]:
    import torch
    from transformers import pipeline

    dtypes = {None: torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    classify = pipeline("text-classification", model=str(folder), device=on, truncation=True, dtype=dtypes[precision])
    return lambda: classify(list(rows), batch_size=batch)


def _timed(ours: Callable[[], Any], peers: Mapping[str, Callable[[], Any]], count: int, rounds: int) -> dict[str, Any]:
    """Texts per second of each side: medians of ``rounds``, one goes before; a peer that cannot says why."""
    rates: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for number in range(rounds + 1):
        for name, side in {"ours": ours, **peers}.items():
            if name in failed:
                continue
            start = time.perf_counter()
            try:
                side()
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                if name == "ours":
                    raise
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                continue
            if number:
                rates.setdefault(name, []).append(count / (time.perf_counter() - start))
    found = {name: statistics.median(several) for name, several in rates.items()}
    ratios = {f"over {name}": found["ours"] / rate for name, rate in found.items() if name != "ours"}
    return {"texts": count, "texts_per_second": found, "ratios": ratios, "failed": failed}
