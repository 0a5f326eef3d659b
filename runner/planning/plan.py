"""What a job would do, before anything is spent: rows, tokens, memory, time, cost, and what is already there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from runner import models
from runner.data import annotators
from runner.data.splits import read_splits
from runner.planning.check import student_problem
from runner.planning.hardware.training_memory import emulated, too_large
from runner.planning.rates import CPU_STUDENT_TFLOPS, operations_per_second
from runner.planning.student_estimate import estimate_apply, estimate_training
from runner.planning.teacher_estimate import budget_left, estimate_teacher
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages.pipeline import steps, with_decisions
from runner.student import gradient_traffic, vocabulary
from runner.teacher.engines import vllm_config


@dataclass(frozen=True)
class Plan:
    """The plan of one job. ``problems`` would stop it; ``notes`` are worth knowing."""

    stages: list[dict[str, Any]]
    rows: dict[str, Any]
    teacher: dict[str, Any]
    student: dict[str, Any]
    apply: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    vllm: list[dict[str, Any]] = field(default_factory=list)
    """What vLLM says of each teacher on GPUs: :func:`runner.teacher.engines.vllm_config.report`."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)


def make_plan(spec: Spec, run: Folder) -> Plan:
    """Work out the plan; reads the data files and the run folder, starts nothing.

    :raises DataError: when the data would not load.
    """
    train, test, warnings = read_splits(spec)
    texts = [row["text"] for split in (train, test) for row in split.rows.values()]
    ids = [identity for split in (train, test) for identity in split.rows]
    stages = [{"name": step.stage.NAME, "cached": step.cached} for step in steps(with_decisions(spec, run), run)]
    teachers = [estimate_teacher(one, run, ids, texts) for one in spec.teachers()]
    problems = [problem for _, found in teachers for problem in found]
    problems += [reason] if (reason := student_problem(spec)) else []
    teacher = teachers[0][0]
    if spec.teacher.engine != "recorded":
        teacher["budget"] = budget_left(
            spec, run, max(teacher["replicas"]["held"], teacher["replicas"]["at_work_most"])
        )
    if spec.teacher.also:
        teacher["also"] = [facts for facts, _ in teachers[1:]]
    rows = {
        "train": len(train.rows),
        "test": len(test.rows),
        "dropped": len(train.dropped) + len(test.dropped),
    }
    annotators.read_all(spec, test.rows.values())
    student = estimate_training(spec, list(train.rows.values()))
    notes = [*warnings, *_slow_choices(spec, teacher), *([student["advice"]] if student["advice"] else [])]
    notes += [note for one, _ in teachers for note in one.get("memory", {}).get("notes", ())]
    facts = models.describe(spec.student.model, spec.student.revision, spec.base)
    notes += [said for said in (too_large(spec.student, facts), emulated(spec.student)) if said]
    learned = [row["text"] for row in train.rows.values()]
    found = vocabulary.count_before(spec, learned)
    student["unknown_tokens"] = found and asdict(found)
    notes += [said] if (said := vocabulary.warning(spec.student.model, found, "train texts")) else []
    notes += gradient_traffic.warnings(spec, learned, operations_per_second(spec.student.resources, CPU_STUDENT_TFLOPS))
    said_by_vllm = vllm_config.report(spec)
    # Where this program has found a fault itself, vLLM would tell the same one again, in other words.
    problems = list(dict.fromkeys(problems)) or vllm_config.problems(said_by_vllm)
    return Plan(stages, rows, teacher, student, estimate_apply(spec, texts), problems, notes, said_by_vllm)


def _slow_choices(spec: Spec, facts: Mapping[str, Any]) -> list[str]:
    teacher, notes = spec.teacher, []
    if not facts.get("size_known", True):
        notes.append(
            f"teacher.model: how large {teacher.model} is cannot be told before it is here, so that its memory is not "
            "counted and times are those of a model of 7 B: `tutelage models pull` fetches it"
        )
    if teacher.engine == "vllm" and teacher.prompt == "cot" and not teacher.resources.gpus and teacher.top_p < 1:
        notes.append(
            "teacher.top_p below 1 sorts the whole vocabulary for every sequence at every step, which on processors "
            "takes about a third of the time: top_k: 20 with top_p: 1 draws nearly the same"
        )
    if spec.task.pool and spec.task.pool.select == "similar" and teacher.engine != "recorded":
        notes.append(
            "task.examples.select: similar shows every row examples of its own, so that no prefix serves all rows: "
            f"about {facts['prompt_tokens']['per_row']} prompt tokens are read for each row; select: diverse reads "
            "the examples once"
        )
    return notes
