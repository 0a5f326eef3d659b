"""train: rows with label probabilities -> a fine-tuned student, under Ray Train.

A part of train, chosen by the seed, is held out and picks the epoch; the test set is never looked at.
Checkpoints lie beside the stages, in ``checkpoints/<fingerprint>/``, so that a killed run goes on where it was;
they are removed when the stage is done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner import models
from runner.cluster import Resources
from runner.progress import Progress
from runner.spec import Spec
from runner.spec.model import Student
from runner.stage import Context
from runner.store import Folder

NAME = "train"
NEEDS = ("vote",)

CHECKPOINT_SECONDS = 60.0
"""From one checkpoint to the next, and as many again for each second that the last took. A short training has none."""

STEPS, LEAST_EPOCHS, MOST_EPOCHS = 800, 5, 20

NOT_LEARNT = ("resources", "export", "runtime")

RECIPE = 4
"""Of training: learning rates, the choice of the epoch. A change trains students anew."""


def key(spec: Spec) -> dict[str, Any]:
    """The student's whole part of the spec but for its hardware and runtimes, which must not change the outcome.

    The number of workers does: each drops out units of its own.
    """
    student = {name: value for name, value in spec.to_dict()["student"].items() if name not in NOT_LEARNT}
    identity = models.identity(spec.student.model, spec.student.revision, spec.base)
    return {"recipe": RECIPE, "student": student, "identity": identity, "workers": spec.student.resources.workers}


def run(context: Context) -> dict[str, Any]:
    """:raises ModelError: when the student cannot be had or is no encoder."""
    spec, student = context.spec, context.spec.student
    wanted = Resources(student.resources.cpus, student.resources.gpus, student.resources.accelerator)
    model, revision = context.model(student.model, student.revision, "student.model", NAME)
    rows = [
        row
        for row in context.inputs["vote"].read_table("votes.parquet").to_pylist()
        if row["split"] == "train" and row["label"] is not None
    ]
    held_out, kept = split_rows(len(rows), student.validation, student.seed)
    epochs = epochs_for(student, len(kept))
    warnings = _unlearnable(spec, rows, kept)
    for warning in warnings:
        context.progress.say(f"warning: {warning}", NAME)
    config = {
        "model": model,
        "revision": revision,
        "labels": list(spec.task.labels),
        "student": spec.to_dict()["student"] | {"epochs": epochs},
        "train": _columns([rows[i] for i in kept]),
        "held_out": _columns([rows[i] for i in held_out]),
        "save_to": context.here.url,
        "checkpoint_seconds": CHECKPOINT_SECONDS,
    }
    context.progress.say(f"{student.model}: {len(kept)} rows, {len(held_out)} held out, {epochs} epochs", NAME)
    context.progress.begin(NAME, len(kept) * epochs, "texts")
    workers, checkpoints = student.resources.workers, context.run.child("checkpoints")
    storage = checkpoints.child(context.here.name)
    result = context.cluster.train(train_loop, config, wanted, workers, storage, _Telling(context.progress))
    checkpoints.clear()  # those of trainings that were given up as well
    known = models.provenance(student.model, student.revision, spec.base)
    return {"rows": len(kept), "held_out": len(held_out), "model": student.model, "warnings": warnings} | known | result


class _Telling:
    """Shows how far the training is, and says when it went on from a checkpoint."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._resumes = progress, 0

    def __call__(self, found: dict[str, Any]) -> None:
        if found["resumes"] > self._resumes:
            self._progress.say(f"going on from a checkpoint, at {found['done']} of {found['total']} texts", NAME)
        self._resumes = found["resumes"]
        self._progress.at(found["done"])


def _unlearnable(spec: Spec, rows: Sequence[dict[str, Any]], kept: Sequence[int]) -> list[str]:
    """What to say of labels that the teacher gave, but to held-out rows alone."""
    left = {rows[i]["label"] for i in kept}
    only = [(label, [row["text"] for row in rows if row["label"] == label]) for label in spec.task.labels]
    return [
        f"the only {len(texts)} rows of {label} are held out to choose the epoch, so that the student does not learn "
        f"it (the first: {texts[0][:80]!r}); more training texts of that kind are needed"
        for label, texts in only
        if texts and label not in left
    ]


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


def train_loop(config: dict[str, Any], report: Callable[[dict[str, Any]], None], **worker: Any) -> dict[str, Any]:
    """What one worker does; rank 0 saves the student to the stage's folder.

    ``worker`` holds the fields of :class:`runner.training.Worker`.
    """
    from runner import training  # in the worker only: the driver needs no torch

    student = config["student"]
    fit = training.Fit(
        model=models.ensure(config["model"], config["revision"], who="student.model"),
        labels=tuple(config["labels"]),
        epochs=student["epochs"],
        learning_rate=student["learning_rate"],
        batch_size=student["batch_size"],
        max_length=student["max_length"],
        precision=student["precision"],
        seed=student["seed"],
        accumulate=student["accumulate"],
        checkpoint_seconds=config["checkpoint_seconds"],
    )
    train, held_out = (
        training.Rows(part["texts"], np.array(part["targets"], dtype=np.float32))
        for part in (config["train"], config["held_out"])
    )

    def tell(done: int, total: int, course: training.Course) -> None:
        report({"done": done, "total": total, "resumes": course.resumes})

    me = training.Worker(**worker)
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "student"
        result = training.fit(fit, train, held_out, saved, me, tell)
        if me.rank == 0:
            Folder(config["save_to"]).upload(saved, "student")
            result["size_mb"] = (saved / "model.safetensors").stat().st_size / 1e6
    return result


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"texts": [row["text"] for row in rows], "targets": [row["probabilities"] for row in rows]}
