"""The memory that a teacher needs against what there is, and what to do where it does not fit."""

from __future__ import annotations

from typing import Any

from runner import models
from runner.planning.hardware.teacher_fit import Asked, Row, Verdict, context_too_long, judge
from runner.spec import Spec
from runner.system import machine
from runner.system.accelerators import GIB, known
from runner.teacher import request
from runner.teacher.engines.vllm_arguments import engine_options

USABLE = 0.9
"""The share of this machine's memory that a teacher on its processor may take."""


def teacher_memory(spec: Spec, facts: models.ModelFacts) -> tuple[dict[str, Any], list[str]]:
    """The memory that the teacher needs against what there is, and what to do where it does not fit."""
    resources = spec.teacher.resources
    if spec.teacher.endpoint:
        return {"arithmetic": "the server's own"}, []
    if verdict := verdict_on_gpus(spec, facts):
        return memory_of(verdict)
    teacher = spec.teacher
    if reason := context_too_long(teacher.model, teacher.max_context, facts, teacher.engine_options):
        return {"arithmetic": "not counted: the context is longer than the model's"}, [reason]
    if facts.weight_bytes is None:
        return {"arithmetic": "unknown: the model is not on this machine"}, []
    wide = 2 if engine_options(request.settings_of(spec.teacher)).get("dtype") in ("float32", "float") else 1
    quantised = facts.weight_bytes < 1.9 * (facts.parameters or 0)  # such weights stay as they are
    weights = facts.weight_bytes * (1 if quantised else wide)
    cache = (facts.kv_bytes_per_token or 0) * spec.teacher.max_context * wide
    need = weights + cache
    arithmetic = (
        f"weights {weights / GIB:.1f} GiB + KV cache of one full context {cache / GIB:.2f} GiB = {need / GIB:.1f} GiB"
    )
    if resources.gpus:
        kind = resources.accelerator or "GPU"
        arithmetic += f"; the memory of {resources.gpus} x {kind} is not known here"
        return {"need_gib": need / GIB, "have_gib": None, "arithmetic": arithmetic}, []
    have = machine.memory_bytes() * USABLE
    arithmetic += f"; this machine's memory: {have / GIB:.1f} GiB"
    problems = []
    if have and need > have:
        problems.append(
            f"teacher.resources: {spec.teacher.model} does not fit: {arithmetic}. "
            "Ask for a GPU, a smaller model, or a smaller teacher.max_context"
        )
    return {"need_gib": need / GIB, "have_gib": have / GIB or None, "arithmetic": arithmetic}, problems


def verdict_on_gpus(spec: Spec, facts: models.ModelFacts, row: Row | None = None) -> Verdict | None:
    """Of a teacher on GPUs that are known here; None of any other."""
    teacher = spec.teacher
    gpu = known(teacher.resources.accelerator) if teacher.resources.gpus else None
    if gpu is None or teacher.endpoint or teacher.engine != "vllm":
        return None
    options = engine_options(request.settings_of(teacher))
    gpus = int(options["tensor_parallel_size"])
    return judge(Asked(teacher.model, gpu, gpus, teacher.max_context, options), facts, row)


def memory_of(verdict: Verdict) -> tuple[dict[str, Any], list[str]]:
    """A verdict as the plan tells it, and the problems."""
    return {**verdict.to_dict(), "notes": verdict.notes}, verdict.problems
