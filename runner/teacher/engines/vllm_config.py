"""vLLM's own word on a teacher before anything is spent: its configuration is built for a GPU that is only declared.

A process of its own builds what the engine would be started with (:mod:`runner.teacher.engines.vllm_dry_run`), from the
model's ``config.json`` without its weights, on the kind of GPU that the spec names. What vLLM refuses then, it would
refuse after the GPUs are fetched and the weights are read. It knows nothing of memory, of compiled kernels, or of what
a model does with its weights when it loads them: these are refused on the GPU alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner import models
from runner.spec import Spec
from runner.system.accelerators import accelerators, known
from runner.system.errors import ModelError
from runner.teacher import request
from runner.teacher.engines.vllm_arguments import EngineSettings

SECONDS = 180.0
"""How long vLLM may take for an answer: importing it takes 8 to 20 s on two cores, a configuration a fifth of one."""

MARK = "vllm-config: "
"""Before the answers: what vLLM and its imports print goes to the same stream."""


@dataclass(frozen=True)
class Case:
    """One engine: the folder with its ``config.json``, what it is started with, and the kind of GPU by a name of the
    table of accelerators."""

    folder: str
    settings: EngineSettings
    gpu: str


@dataclass(frozen=True)
class Answer:
    """What vLLM says of a case.

    ``refused``: its last sentence, where it does. ``chosen``: what it would compute with (dtype, sequences and tokens
    in a step, ...). ``options``: the engine arguments that it was given; ``environment``: the variables that were set
    for it. ``not_asked``: why there is no answer.
    """

    refused: str | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    not_asked: str | None = None


def ask(cases: Sequence[Case], seconds: float = SECONDS) -> list[Answer]:
    """What vLLM says of each case; one process for all of them. Never raises: an answer may say that there is none."""
    if not cases:
        return []
    if importlib.util.find_spec("vllm") is None:
        return [Answer(not_asked="vLLM is not installed here")] * len(cases)
    given = json.dumps([asdict(case) for case in cases])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runner.teacher.engines.vllm_dry_run"],
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        return [Answer(not_asked=f"it gave no answer within {seconds:g} seconds")] * len(cases)
    line = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if line is None:
        last = next((text for text in reversed(done.stderr.splitlines()) if text.strip()), "no word").strip()[:300]
        return [Answer(not_asked=f"its process ended with status {done.returncode}: {last}")] * len(cases)
    return [Answer(**one) for one in json.loads(line.removeprefix(MARK))]


def _environment() -> dict[str, str]:
    """Of the process: this package can be imported, and nothing is fetched. GPUs that are there are not touched."""
    here = str(Path(__file__).parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return os.environ | offline | {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""}


def report(spec: Spec) -> list[dict[str, Any]]:
    """What vLLM says of each teacher that runs on GPUs: an :class:`Answer` as plain data, with the teacher's ``model``,
    its ``field`` in the spec, and in ``problem`` what is to be said where vLLM refuses it."""
    cases: list[tuple[Spec, list[str | int], Answer | Case]] = []
    for number, one in enumerate(spec.teachers()):
        if one.teacher.engine == "vllm" and one.teacher.endpoint is None and one.teacher.resources.gpus:
            place: list[str | int] = ["teacher", "also", number - 1, "model"] if number else ["teacher", "model"]
            cases.append((one, place, _case(one)))
    answers = iter(ask([case for _, _, case in cases if isinstance(case, Case)]))
    facts = []
    for one, place, case in cases:
        answer = next(answers) if isinstance(case, Case) else case
        problem = _refusal(one, answer.refused) if answer.refused else None
        facts.append({"model": one.teacher.model, "field": place, **asdict(answer), "problem": problem})
    return facts


def _case(spec: Spec) -> Case | Answer:
    """What vLLM can be asked of one teacher, or why it cannot."""
    teacher = spec.teacher
    kind = teacher.resources.accelerator
    if kind is None:
        return Answer(not_asked="teacher.resources names no accelerator")
    if known(kind) is None:
        return Answer(not_asked=f"{kind} is not among the GPUs that are known here ({', '.join(accelerators())})")
    try:
        folder = models.config_folder(teacher.model, teacher.revision, spec.base)
    except ModelError as error:
        return Answer(not_asked=str(error))
    if folder is None:
        return Answer(not_asked="the model's config.json is not on this machine")
    return Case(str(folder), request.settings_of(teacher), kind)


def _refusal(spec: Spec, reason: str) -> str:
    resources = spec.teacher.resources
    return (
        f"vLLM refuses {spec.teacher.model} on {resources.gpus} x {resources.accelerator}: {reason.rstrip('.')}. "
        "Change teacher.model, teacher.resources or teacher.engine_options"
    )


def problems(facts: Sequence[dict[str, Any]]) -> list[str]:
    """What of a :func:`report` would stop the job."""
    return [f"{'.'.join(map(str, one['field']))}: {one['problem']}" for one in facts if one["problem"]]


def lines(facts: Sequence[dict[str, Any]]) -> list[str]:
    """The plan's lines on what vLLM said; a refusal stands among the problems."""
    said = []
    for one in facts:
        if one["not_asked"]:
            said.append(f"vLLM       was not asked about {one['model']}: {one['not_asked']}")
        elif not one["refused"]:
            chosen = ", ".join(f"{name}={value}" for name, value in one["chosen"].items() if value is not None)
            said.append(f"vLLM       accepts {one['model']} (asked without its weights): {chosen}")
    return said
