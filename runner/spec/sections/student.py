"""The model that learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runner.spec.sections.shared import Found
from runner.spec.strict_yaml import KeyPath


@dataclass(frozen=True, kw_only=True)
class StudentResources:
    """What each training worker runs on."""

    accelerator: str | None
    gpus: int
    cpus: int | None
    workers: int


@dataclass(frozen=True, kw_only=True)
class Search:
    """How many trainings are tried to find their settings."""

    trials: int


@dataclass(frozen=True, kw_only=True)
class Student:
    """The model that learns."""

    model: str
    revision: str | None
    recipe: Literal["auto", "head", "lp-ft", "fast", "best"]
    search: Search | None
    epochs: int | None
    learning_rate: float | None
    batch_size: int
    accumulate: int
    max_length: int
    validation: float
    export: tuple[Literal["safetensors", "onnx", "onnx-int8", "openvino"], ...]
    runtime: Literal["auto", "torch", "onnx", "onnx-int8", "openvino"]
    max_disagreement: float
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    seed: int
    resources: StudentResources


def batches_can_be_shared(spec: dict[str, Any]) -> Found:
    student = spec["student"]
    size, parts, workers = student["batch_size"], student["accumulate"], student["resources"]["workers"]
    if parts * workers > size:
        path: KeyPath = ("student", "accumulate") if parts > 1 else ("student", "resources", "workers")
        shares = " times ".join(
            f"{count} {name}" for count, name in ((workers, "workers"), (parts, "parts")) if count > 1
        )
        yield path, "spec.batch-too-small", f"{shares} is more than the {size} texts of a step (batch_size)"


def runtime_is_exported(spec: dict[str, Any]) -> Found:
    student = spec["student"]
    if student["runtime"] not in ("auto", "torch", *student["export"]):
        yield (
            ("student", "runtime"),
            "spec.runtime-not-exported",
            f"{student['runtime']} is not in student.export: put it there, or use auto",
        )
    if student["resources"]["gpus"] and student["runtime"] not in ("auto", "torch"):
        yield (
            ("student", "runtime"),
            "spec.runtime-without-gpus",
            f"{student['runtime']} runs on processors: use torch where gpus are asked for",
        )
