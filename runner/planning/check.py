"""Whether the spec's models can do what they are to do, as far as can be told before anything is spent."""

from __future__ import annotations

from dataclasses import replace

from runner import models
from runner.planning.memory import teacher_memory
from runner.planning.tokens import prompt_tokens
from runner.spec import Spec
from runner.system import machine
from runner.system.accelerators import of_product
from runner.system.errors import EngineError, ModelError
from runner.teacher import prompt, request
from runner.teacher.shortlist import advice


def check_models(spec: Spec, elsewhere: bool = False) -> None:
    """Whether the spec's models can do what they are to do, as far as can be told before anything is spent.

    ``elsewhere``: they run on another machine than this one, so that without GPUs nothing is known of its memory.

    :raises ModelError: when the student's model cannot be one.
    :raises EngineError: when the teacher cannot fit into the accelerator asked for, with the arithmetic, or its prompt
        into ``teacher.max_context``.
    """
    if reason := student_problem(spec):
        raise ModelError("model.student-unsuitable", reason)
    for each in spec.teachers():
        if each.teacher.engine != "recorded" and (reason := _prompt_too_long(each)):
            raise EngineError("teacher.prompt-too-long", reason)
        if elsewhere and not each.teacher.resources.gpus:
            continue
        if not elsewhere:
            each = _with_gpus_here(each)
        if each.teacher.engine == "vllm" and each.teacher.endpoint is None:
            problems = teacher_memory(each, models.describe(each.teacher.model, each.teacher.revision, each.base))[1]
            if problems:
                raise EngineError("teacher.memory-too-small", "; ".join(problems))


def _with_gpus_here(spec: Spec) -> Spec:
    """Where the spec takes any GPU, it will be one of this machine: its kind, if it is known here."""
    resources, here = spec.teacher.resources, []
    if resources.gpus and resources.accelerator is None:
        here = machine.gpus()
    kind = of_product(here[0].name) if here else None
    if kind is None:
        return spec
    return replace(spec, teacher=replace(spec.teacher, resources=replace(resources, accelerator=kind.name)))


def student_problem(spec: Spec) -> str | None:
    """Why the student's model cannot be one; None where it can."""
    student = spec.student
    return models.no_student(student.model, student.revision, spec.base, student.max_length)


def context_problem(spec: Spec, fixed: int) -> str | None:
    """Why a prompt that has so many tokens besides the text cannot be used; None where it can."""
    teacher = spec.teacher
    if fixed < teacher.max_context:
        return None
    return (
        f"teacher.max_context: {teacher.max_context} tokens do not hold the prompt, whose fixed part has about "
        f"{fixed}: raise it, or shorten task.instructions and task.examples"
        f"{advice(request.prompt_task(spec).answers)}"
    )


def _prompt_too_long(spec: Spec) -> str | None:
    """Why the teacher's prompt cannot be used, where its tokenizer is here to tell."""
    turns = prompt.messages(request.prompt_task(spec), "")
    if sum(len(turn["content"].encode()) for turn in turns) < spec.teacher.max_context:
        return None  # a token has a byte at the least
    counted = prompt_tokens(spec, [])
    return context_problem(spec, counted.besides_text) if counted.exact else None
