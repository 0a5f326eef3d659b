"""train: rows with label probabilities -> a fine-tuned student, under Ray Train.

A part of train, chosen by the seed, is held out and picks the epoch; the test set is never looked at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runner import models
from runner.cluster import Resources
from runner.spec import Spec
from runner.spec.model import Student
from runner.stage import Context
from runner.store import Folder

NAME = "train"
NEEDS = ("vote",)

STEPS, LEAST_EPOCHS, MOST_EPOCHS = 800, 5, 20

NOT_LEARNT = ("resources", "export", "runtime")

RECIPE = 4
"""Of training: learning rates, the choice of the epoch. A change trains students anew."""


def key(spec: Spec) -> dict[str, Any]:
    """The student's whole part of the spec but for its hardware and runtimes, which must not change the outcome."""
    student = {name: value for name, value in spec.to_dict()["student"].items() if name not in NOT_LEARNT}
    identity = models.identity(spec.student.model, spec.student.revision, spec.base)
    return {"recipe": RECIPE, "student": student, "identity": identity, "workers": spec.student.resources.workers}


def run(context: Context) -> dict[str, Any]:
    """:raises ModelError: when the student cannot be had or is no encoder."""
    spec, student = context.spec, context.spec.student
    wanted = Resources(student.resources.cpus, student.resources.gpus, student.resources.accelerator)
    context.cluster.require(wanted, "student")
    folder = models.ensure(
        student.model, student.revision, spec.base, lambda text: context.progress.say(text, NAME), who="student.model"
    )
    rows = [
        row
        for row in context.inputs["vote"].read_table("votes.parquet").to_pylist()
        if row["split"] == "train" and row["label"] is not None
    ]
    held_out, kept = split_rows(len(rows), student.validation, student.seed)
    epochs = epochs_for(student, len(kept))
    config = {
        "model": str(folder),
        "labels": list(spec.task.labels),
        "student": spec.to_dict()["student"] | {"epochs": epochs},
        "train": _columns([rows[i] for i in kept]),
        "held_out": _columns([rows[i] for i in held_out]),
        "save_to": context.here.url,
    }
    context.progress.say(f"{student.model}: {len(kept)} rows, {len(held_out)} held out, {epochs} epochs", NAME)
    context.progress.begin(NAME, len(kept) * epochs, "texts")
    result = context.cluster.train(
        train_loop,
        config,
        wanted,
        student.resources.workers,
        context.here.path("ray"),
        lambda progress: context.progress.at(progress["done"]),
    )
    context.here.child("ray").clear()
    known = models.provenance(student.model, student.revision, spec.base)
    return {"rows": len(kept), "held_out": len(held_out), "model": student.model} | known | result


def epochs_for(student: Student, rows: int) -> int:
    """The epochs that the spec says, or enough for a small train set to be learnt at all."""
    if student.epochs is not None:
        return student.epochs
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, round(STEPS * student.batch_size / max(1, rows))))


def split_rows(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Held-out and kept row numbers: at least one row each, decided by the seed alone."""
    order = np.random.default_rng(seed).permutation(count)
    size = min(max(1, round(count * share)), count - 1)
    return sorted(map(int, order[:size])), sorted(map(int, order[size:]))


def train_loop(
    config: dict[str, Any],
    rank: int,
    size: int,
    wrap: Callable[[Any], Any],
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """What one worker does; rank 0 saves the student to the stage's folder."""
    from runner import training  # in the worker only: the driver needs no torch

    student = config["student"]
    fit = training.Fit(
        model=Path(config["model"]),
        labels=tuple(config["labels"]),
        epochs=student["epochs"],
        learning_rate=student["learning_rate"],
        batch_size=student["batch_size"],
        max_length=student["max_length"],
        precision=student["precision"],
        seed=student["seed"],
    )
    train, held_out = (
        training.Rows(part["texts"], np.array(part["targets"], dtype=np.float32))
        for part in (config["train"], config["held_out"])
    )
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "student"
        result = training.fit(
            fit,
            train,
            held_out,
            saved,
            training.Worker(rank, size, wrap),
            lambda done, total, history: report({"done": done, "total": total}),
        )
        if rank == 0:
            Folder(config["save_to"]).upload(saved, "student")
            result["size_mb"] = (saved / "model.safetensors").stat().st_size / 1e6
    return result


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"texts": [row["text"] for row in rows], "targets": [row["probabilities"] for row in rows]}
