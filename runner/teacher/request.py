"""What a teacher is asked, from the spec: the prompt's task, the engine's settings, and the identity of both."""

from __future__ import annotations

from typing import Any

from runner import models
from runner.cluster.resources import Resources
from runner.data.examples import pool_key
from runner.spec import Spec
from runner.spec.model import Teacher
from runner.tasks.kinds import task_of
from runner.teacher import prompt, shortlist
from runner.teacher.engines.protocol import Sampling
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.worker import Asking

STAGE = "label"
"""Whose progress the teacher's work is."""


def teacher_key(spec: Spec) -> dict[str, Any]:
    """All that decides an answer to a given text."""
    teacher = spec.teacher
    answers = prompt_task(spec).answers
    asked: dict[str, Any] = {
        "engine": "server" if teacher.endpoint else teacher.engine,
        "model": _identity(spec) if teacher.engine == "vllm" else "",
        "prompt": [prompt.messages(prompt_task(spec), ""), answers.ask_again()],
        "kind": teacher.prompt,
        **task_of(spec).asking.key(spec),
        "max_context": teacher.max_context,
        "options": teacher.engine_options,
        "aligned": True,
    }
    if pool := spec.task.pool:
        encoder = models.identity(pool.model, None, spec.base)
        asked["examples"] = {"pool": pool_key(spec), "select": pool.select, "k": pool.k, "encoder": encoder}
    if teacher.shortlist:
        encoder = models.identity(shortlist.MODEL, None, spec.base)
        asked["shortlist"] = {"size": teacher.shortlist, "encoder": encoder, "meanings": list(answers.meanings)}
    if teacher.prompt == "cot":
        names = ("temperature", "top_k", "top_p", "max_tokens", "seed")
        asked["sampling"] = {name: getattr(teacher, name) for name in names}
        if teacher.structured:
            asked["schema"] = answers.schema(teacher.max_tokens)
    return asked


def _identity(spec: Spec) -> str:
    """Of the teacher's model; a server elsewhere has the weights."""
    teacher = spec.teacher
    return models.identity(teacher.model, teacher.revision, spec.base, weights=teacher.endpoint is None)


def prompt_task(spec: Spec) -> prompt.Task:
    """The spec's task as the prompt wants it."""
    examples = tuple(prompt.Example(e.text, e.label, e.reason) for e in spec.task.written)
    teacher = spec.teacher
    answers = task_of(spec).asking.answer_format(vars(spec.task))
    return prompt.Task(answers, spec.task.instructions, examples, teacher.prompt, teacher.template)


def asks_content_free(spec: Spec) -> bool:
    """Whether the teacher is asked about calibration texts besides the rows."""
    return spec.teacher.prompt == "direct" and spec.teacher.calibration == "content-free"


def wanted_resources(teacher: Teacher) -> Resources:
    """What each replica runs on: a GPU only where there is a model, and not a server elsewhere that has it."""
    resources = teacher.resources
    if teacher.endpoint is not None or teacher.engine == "noop":
        return Resources(resources.cpus or 1)
    return Resources.of(resources)


def asking_of(spec: Spec) -> Asking:
    """How the spec's teacher is asked."""
    teacher = spec.teacher
    task = prompt_task(spec)
    schema = task.answers.schema(teacher.max_tokens) if teacher.structured else None
    sampling = Sampling(teacher.temperature, teacher.top_p, teacher.top_k, teacher.max_tokens, schema)
    return Asking(
        task,
        teacher.votes,
        teacher.early_stop,
        sampling,
        teacher.seed,
        teacher.truncate,
        exhaustive=teacher.exhaustive,
        shortlist=teacher.shortlist,
    )


def settings_of(teacher: Teacher) -> EngineSettings:
    """What the spec's engine is started with."""
    return EngineSettings(
        teacher.max_context, teacher.resources.gpus, teacher.seed, teacher.start_minutes, teacher.engine_options
    )
