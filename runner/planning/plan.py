"""What a job would do, before anything is spent: rows, tokens, memory, time, cost, and what is already there.

Times come from the teacher's earlier answers in the run folder where there are any, and else from
arithmetic: floating-point operations over what the hardware is known to do. They are rough and say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner import models
from runner.data import annotators
from runner.data.reading import count_rows
from runner.data.sources import source_of
from runner.engines import vllm_config
from runner.engines.vllm import engine_options
from runner.observe.progress import clock
from runner.planning.hardware.accelerators import GIB, known, of_product
from runner.planning.hardware.teacher_fit import Asked, Row, Verdict, context_too_long, judge
from runner.planning.hardware.throughput import ANSWER_TOKENS, CHARACTERS_PER_TOKEN, Work, row_seconds, start_seconds
from runner.planning.hardware.training_memory import emulated, too_large
from runner.planning.replicas import worth_starting
from runner.planning.tokens import direct_requests, prompt_tokens, shown_task
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.spec.model import StudentResources, Teacher, TeacherResources
from runner.stages import load
from runner.stages.pipeline import steps
from runner.student import gradient_traffic, vocabulary
from runner.student.held_out import held_out_size
from runner.student.schedule import TrainingPlan
from runner.system import machine
from runner.system.errors import EngineError, ModelError
from runner.tasks.single_label import calibrate
from runner.teacher import answer_store, prompt, request
from runner.teacher.budget import Spent, seconds_left, spent

WATTS_PER_CORE = 10.0
DECODING = 5.0
"""A decoded token takes about this many times the time of a prompt token, which come many at once."""
USABLE = 0.9
"""The share of this machine's memory that a teacher on its processor may take."""
USEFUL = 0.4
"""The share of a GPU's dense peak that is reached where nothing more exact is known."""
STEP_SECONDS = 12 * gradient_traffic.HOST_SECONDS_PER_LAYER
"""Of a training step of 12 layers, however fast the GPU."""
UNKNOWN_TFLOPS, UNKNOWN_WATTS = 50.0, 300.0
"""Of a GPU of which nothing is known here: useful operations, and power."""

CPU_TEACHER_TFLOPS, CPU_STUDENT_TFLOPS = 0.23, 0.08
"""Per core with bf16 in hardware, measured on 2 cores: a 1.5 B teacher, and fine-tuning with small batches."""
AMX_TEACHER_TFLOPS = 0.4
"""The same teacher where the core has AMX: an estimate from runs of 2 to 10 rows a second."""


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
    """What vLLM says of each teacher on GPUs: :func:`runner.engines.vllm_config.report`."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)


def make_plan(spec: Spec, run: Folder) -> Plan:
    """Work out the plan; reads the data files and the run folder, starts nothing.

    :raises DataError: when the data would not load.
    """
    train, test, warnings = load.collect(spec)
    texts = [row["text"] for split in (train, test) for row in split.rows.values()]
    ids = [identity for split in (train, test) for identity in split.rows]
    stages = [{"name": step.stage.NAME, "cached": step.cached} for step in steps(spec, run)]
    teachers = [_teacher(one, run, ids, texts) for one in spec.teachers()]
    problems = [problem for _, found in teachers for problem in found]
    problems += [reason] if (reason := _no_student(spec)) else []
    teacher = teachers[0][0]
    if spec.teacher.engine != "recorded":
        teacher["budget"] = _budget(spec, run, max(teacher["replicas"]["held"], teacher["replicas"]["at_work_most"]))
    if spec.teacher.also:
        teacher["also"] = [facts for facts, _ in teachers[1:]]
    rows = {
        "train": len(train.rows),
        "test": len(test.rows),
        "dropped": len(train.dropped) + len(test.dropped),
    }
    annotators.read_all(spec, test.rows.values())
    student = _student(spec, list(train.rows.values()))
    notes = [*warnings, *_slow_choices(spec, teacher), *([student["advice"]] if student["advice"] else [])]
    notes += [note for one, _ in teachers for note in one.get("memory", {}).get("notes", ())]
    facts = models.describe(spec.student.model, spec.student.revision, spec.base)
    notes += [said for said in (too_large(spec.student, facts), emulated(spec.student)) if said]
    learned = [row["text"] for row in train.rows.values()]
    found = vocabulary.count_before(spec, learned)
    student["unknown_tokens"] = found and asdict(found)
    notes += [said] if (said := vocabulary.warning(spec.student.model, found, "train texts")) else []
    notes += gradient_traffic.warnings(spec, learned, _flops(spec.student.resources, CPU_STUDENT_TFLOPS))
    said_by_vllm = vllm_config.report(spec)
    # Where this program has found a fault itself, vLLM would tell the same one again, in other words.
    problems = list(dict.fromkeys(problems)) or vllm_config.problems(said_by_vllm)
    return Plan(stages, rows, teacher, student, _apply(spec, texts), problems, notes, said_by_vllm)


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


def check_models(spec: Spec, elsewhere: bool = False) -> None:
    """Whether the spec's models can do what they are to do, as far as can be told before anything is spent.

    ``elsewhere``: they run on another machine than this one, so that without GPUs nothing is known of its memory.

    :raises ModelError: when the student's model cannot be one.
    :raises EngineError: when the teacher cannot fit into the accelerator asked for, with the arithmetic, or its prompt
        into ``teacher.max_context``.
    """
    if reason := _no_student(spec):
        raise ModelError(reason)
    for one in spec.teachers():
        if one.teacher.engine != "recorded" and (reason := _prompt_too_long(one)):
            raise EngineError(reason)
        if elsewhere and not one.teacher.resources.gpus:
            continue
        if not elsewhere:
            one = _with_gpus_here(one)
        if one.teacher.engine == "vllm" and one.teacher.endpoint is None:
            problems = _memory(one, models.describe(one.teacher.model, one.teacher.revision, one.base))[1]
            if problems:
                raise EngineError("; ".join(problems))


def _with_gpus_here(spec: Spec) -> Spec:
    """Where the spec takes any GPU, it will be one of this machine: its kind, if it is known here."""
    resources, here = spec.teacher.resources, []
    if resources.gpus and resources.accelerator is None:
        here = machine.gpus()
    kind = of_product(here[0].name) if here else None
    if kind is None:
        return spec
    return replace(spec, teacher=replace(spec.teacher, resources=replace(resources, accelerator=kind.name)))


def _no_student(spec: Spec) -> str | None:
    student = spec.student
    return models.no_student(student.model, student.revision, spec.base, student.max_length)


def _teacher(spec: Spec, run: Folder, ids: Sequence[str], texts: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    teacher = spec.teacher
    if teacher.engine == "recorded":
        return {"engine": "recorded", "model": teacher.model, "rows": len(ids), "generate": 0}, []
    facts = _facts(spec)
    asked = pa.table({"id": ids, "kind": ["row"] * len(ids), "text": pa.array(texts, pa.large_string())})
    answers = answer_store.read_answers(answer_store.answers_folder(run, spec))
    todo = len(answer_store.pending(spec, asked, answers))
    mine = answers.filter(pc.is_in(answers["id"], value_set=asked["id"].combine_chunks()))
    reused = pc.count_distinct(mine["id"]).as_py()
    _, shown = shown_task(spec)
    counted = prompt_tokens(spec, texts)
    fixed, per_row = counted.fixed, counted.per_row
    memory, problems = _memory(spec, facts)
    requests, read_again, output = _requests(spec, per_row, problems)
    problems += [reason] if (reason := _no_room(teacher, fixed)) else []
    verdict = _verdict(spec, facts, Row(fixed, math.ceil(per_row + output / requests)))
    if verdict and not problems:
        memory, problems = _told(verdict)
    if reused:
        seconds = todo * pc.sum(mine["seconds"]).as_py() / reused
        basis = f"measured on {reused} earlier rows"
    elif verdict and verdict.sequences:
        seconds = todo * _on_gpus(teacher, facts, verdict, Work(requests, per_row + read_again, output), todo)
        basis = "rough, from the GPU's bandwidth and peak"
    else:
        calls = todo + (calibrate.CONTENT_FREE_TEXTS if todo and request.asks_content_free(spec) else 0)
        work = per_row + read_again + output * (DECODING if teacher.prompt == "cot" else 1)
        seconds = calls * 2 * (facts.active_parameters or 7e9) * work / _flops(teacher.resources)
        basis = "rough, from arithmetic"
    replicas = _replicas(spec, todo, texts)
    hours = seconds / 3600 / replicas["at_work"]
    start = _start_hours(teacher, facts, verdict) if todo else 0.0
    held = (hours + start) * replicas["held"]
    return {
        "engine": teacher.engine,
        "model": teacher.model,
        "present": facts.present,
        "rows": len(ids),
        "generate": todo,
        "reuse": len(ids) - todo,
        "prompt_tokens": {"fixed": fixed, "per_row": per_row, "counted": counted.counted, "read_again": read_again},
        "requests_per_row": requests,
        "output_tokens_per_row": output,
        "memory": memory,
        "hours": hours,
        "start_hours": start,
        "replicas": replicas,
        "basis": basis,
        "gpu_hours": held * teacher.resources.gpus,
        "kwh": (held if teacher.resources.gpus else seconds / 3600) * _watts(teacher.resources) / 1000,
        "size_known": bool(facts.active_parameters) or teacher.engine != "vllm",
        "usd": teacher.price_per_hour and held * teacher.price_per_hour,
        "engine_options": engine_options(request.settings_of(teacher)),
        "prompt": prompt.messages(shown, texts[0] if texts else ""),
    }, problems


def _replicas(spec: Spec, rows: int, texts: Sequence[str]) -> dict[str, int]:
    """How many are held at least, how many of those have a batch of the ``rows``, and how many have one at most."""
    teacher = spec.teacher
    characters = sum(map(len, texts)) / max(1, len(texts))
    most = worth_starting(spec, engine_options(request.settings_of(teacher)), rows, characters)
    least, batches = teacher.resources.replicas[0], max(1, math.ceil(rows / teacher.batch_size))
    return {"held": least, "at_work": min(least, batches), "at_work_most": min(most, batches)}


def _budget(spec: Spec, run: Folder, replicas: int) -> dict[str, float] | None:
    """The hours that all teachers together may label on so many ``replicas``, and what is left of them; None without a
    budget."""
    hours = seconds_left(spec.teacher, Spent(), replicas) / 3600
    if not math.isfinite(hours):
        return None
    before = spent(answer_store.answers_folder(run, one) for one in spec.teachers())
    return {"hours": hours, "left_hours": seconds_left(spec.teacher, before, replicas) / 3600}


def _no_room(teacher: Teacher, fixed: int) -> str | None:
    if fixed < teacher.max_context:
        return None
    return (
        f"teacher.max_context: {teacher.max_context} tokens do not hold the prompt, whose fixed part has about "
        f"{fixed}: raise it, or shorten task.instructions and task.examples"
    )


def _prompt_too_long(spec: Spec) -> str | None:
    """Why the teacher's prompt cannot be used, where its tokenizer is here to tell."""
    turns = prompt.messages(request.prompt_task(spec), "")
    if sum(len(turn["content"].encode()) for turn in turns) < spec.teacher.max_context:
        return None  # a token has a byte at the least
    counted = prompt_tokens(spec, [])
    return _no_room(spec.teacher, counted.fixed) if counted.exact else None


def _requests(spec: Spec, per_row: int, problems: list[str]) -> tuple[float, int, int]:
    """Of a row: requests, tokens that are read for those after the first, and tokens that are generated."""
    teacher = spec.teacher
    if teacher.prompt == "cot":
        votes = _expected_votes(teacher)
        return votes, 0, round(ANSWER_TOKENS * votes)
    try:
        found = direct_requests(spec, per_row)
    except ValueError as error:
        problems.append(f"task.labels: {teacher.model} cannot tell the labels apart: {error}; rename them")
        return 1, 0, 1
    return found.number, found.read_again, found.number


def _facts(spec: Spec) -> models.ModelFacts:
    if spec.teacher.engine == "noop":
        return models.ModelFacts(None, None, None, None, None, None, None, None, present=True)
    return models.describe(spec.teacher.model, spec.teacher.revision, spec.base, spec.teacher.endpoint is None)


def _expected_votes(teacher: Teacher) -> float:
    """Where votes stop early, about one row in ten needs more than a bare majority (the published case: 8 %)."""
    if not teacher.early_stop:
        return teacher.votes
    least = teacher.votes // 2 + 1
    return least + (teacher.votes - least) / 10


def _student(spec: Spec, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    student = spec.student
    facts = models.describe(student.model, student.revision, spec.base)
    learned = len(rows) - held_out_size(len(rows), student.validation)
    plan = TrainingPlan(student, learned, len(spec.task.labels), facts.parameters)
    texts = plan.texts_learned + plan.texts_tried
    each = _forward(spec, facts, [row["text"] for row in rows])
    return {
        "model": student.model,
        "present": facts.present,
        "parameters": facts.parameters,
        "epochs": plan.epochs,
        "recipe": student.recipe,
        "trainings": list(plan.trainings),
        "advice": plan.advice(),
        "trials": student.search.trials if student.search else 0,
        **_spent(spec, 3 * each * texts, texts / student.batch_size),  # back takes twice as much as forth
    }


def _apply(spec: Spec, texts: Sequence[str]) -> dict[str, Any] | None:
    """What labelling the corpus takes, where there is one; its texts are taken to be as long as the others."""
    if spec.data.corpus is None:
        return None
    rows = count_rows(source_of(spec, spec.data.corpus))
    facts = models.describe(spec.student.model, spec.student.revision, spec.base)
    return {"rows": rows, **_spent(spec, None if rows is None else rows * _forward(spec, facts, texts))}


def _forward(spec: Spec, facts: models.ModelFacts, texts: Sequence[str]) -> float:
    """Floating-point operations of the student on one of ``texts``, on average: two for each weight and token."""
    lengths = [min(spec.student.max_length, len(text) / CHARACTERS_PER_TOKEN) for text in texts]
    return 2 * (facts.parameters or 125e6) * sum(lengths) / max(1, len(lengths))


def _spent(spec: Spec, operations: float | None, steps: float = 0) -> dict[str, Any]:
    """Hours and USD of so much work on the student's workers, in so many ``steps``; None where it is not known."""
    resources = spec.student.resources
    rate = _flops(resources, CPU_STUDENT_TFLOPS) * resources.workers
    least = steps * STEP_SECONDS if resources.gpus else 0.0
    hours = None if operations is None else max(operations / rate, least) / 3600
    price = spec.benchmark.price_per_hour
    usd = None if hours is None or price is None else hours * price * resources.workers
    return {"hours": hours, "basis": "rough, from arithmetic", "usd": usd}


def _verdict(spec: Spec, facts: models.ModelFacts, row: Row | None = None) -> Verdict | None:
    """Of a teacher on GPUs that are known here; None of any other."""
    teacher = spec.teacher
    gpu = known(teacher.resources.accelerator) if teacher.resources.gpus else None
    if gpu is None or teacher.endpoint or teacher.engine != "vllm":
        return None
    options = engine_options(request.settings_of(teacher))
    gpus = int(options["tensor_parallel_size"])
    return judge(Asked(teacher.model, gpu, gpus, teacher.max_context, options), facts, row)


def _told(verdict: Verdict) -> tuple[dict[str, Any], list[str]]:
    return {**verdict.to_dict(), "notes": verdict.notes}, verdict.problems


def _on_gpus(teacher: Teacher, facts: models.ModelFacts, verdict: Verdict, work: Work, rows: int) -> float:
    """Seconds of one replica for a row."""
    gpu = known(teacher.resources.accelerator)
    assert gpu and verdict.fit and verdict.sequences
    active = facts.active_parameters or 7e9
    return row_seconds(verdict.fit, gpu, teacher.resources.gpus, active, work, verdict.sequences, max(1, rows))


def _start_hours(teacher: Teacher, facts: models.ModelFacts, verdict: Verdict | None) -> float:
    """From nothing to the first answer of an engine on GPUs; 0 where it is not known."""
    if not teacher.resources.gpus or teacher.endpoint or teacher.engine != "vllm":
        return 0.0
    if verdict and verdict.fit:
        return start_seconds(verdict.fit.weight_bytes * teacher.resources.gpus) / 3600
    return start_seconds(facts.weight_bytes) / 3600 if facts.weight_bytes else 0.0


def _watts(resources: TeacherResources) -> float:
    """Of one replica at full load; the machine around the GPUs is not counted."""
    if resources.gpus:
        gpu = known(resources.accelerator)
        return resources.gpus * (gpu.watts if gpu else UNKNOWN_WATTS)
    return WATTS_PER_CORE * (resources.cpus or machine.usable_cores())


def _flops(resources: TeacherResources | StudentResources, per_core: float | None = None) -> float:
    """Operations a second; on processors ``per_core`` (None: as a teacher has them), in 10^12."""
    if resources.gpus:
        gpu = known(resources.accelerator)
        return 1e12 * resources.gpus * (USEFUL * gpu.tflops if gpu else UNKNOWN_TFLOPS)
    if per_core is None:
        per_core = AMX_TEACHER_TFLOPS if "amx_bf16" in machine.cpu_flags() else CPU_TEACHER_TFLOPS
    slow = 1 if machine.has_bf16() else 4
    return 1e12 * per_core * (resources.cpus or machine.usable_cores()) / slow


def _memory(spec: Spec, facts: models.ModelFacts) -> tuple[dict[str, Any], list[str]]:
    """The memory that the teacher needs against what there is, and what to do where it does not fit."""
    resources = spec.teacher.resources
    if spec.teacher.endpoint:
        return {"arithmetic": "the server's own"}, []
    if verdict := _verdict(spec, facts):
        return _told(verdict)
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


def _teacher_lines(teacher: dict[str, Any]) -> list[str]:
    if teacher["engine"] == "recorded":
        return [f"teacher    recorded answers of {teacher['model']}: nothing is generated"]
    tokens = teacher["prompt_tokens"]
    options = ", ".join(f"{name}={value}" for name, value in teacher["engine_options"].items())
    lines = [
        f"teacher    {teacher['model']}{_absent(teacher)}",
        f"           {teacher['generate']} rows to label, {teacher['reuse']} answers already there",
        f"           {tokens['fixed']} shared prompt tokens, about {tokens['per_row']} a row "
        f"({tokens['counted']}), "
        f"{teacher['output_tokens_per_row']} generated{_asked_again(teacher)}",
        f"           vLLM: {options}",
        f"           memory: {teacher['memory']['arithmetic']}",
        f"           about {clock(teacher['hours'] * 3600)}{_with_replicas(teacher)} ({teacher['basis']})"
        f"{_after_start(teacher)}{_cost(teacher)}, "
        f"{teacher['kwh']:.2g} kWh" + (f", {teacher['gpu_hours']:.2g} GPU-hours" if teacher["gpu_hours"] else ""),
    ]
    return lines


def _after_start(teacher: dict[str, Any]) -> str:
    """How long the engine takes to start, which is often longer than the labelling; nothing where it is not known."""
    start = teacher.get("start_hours")
    return f", after about {clock(start * 3600)} in which the engine starts" if start else ""


def _with_replicas(teacher: dict[str, Any]) -> str:
    """How many replicas a time is of; nothing where there is one."""
    replicas = teacher["replicas"]
    least, most = replicas["at_work"], replicas["at_work_most"]
    if most == 1 == replicas["held"]:
        return ""
    said = f" with {least} replica{'s' if least > 1 else ''} at work"
    return said + (f", {clock(teacher['hours'] * 3600 * least / most)} with {most}" if most > least else "")


def _budget_line(budget: dict[str, float], several: bool) -> str:
    whole, left = budget["hours"] * 3600, budget["left_hours"] * 3600
    of_all = " of all teachers together" if several else ""
    rest = "" if left == whole else f", of which {clock(left)} are left"
    return f"budget     labelling stops after {clock(whole)}{of_all}{rest} (teacher.budget)"


def _asked_again(teacher: dict[str, Any]) -> str:
    """What rows cost whose labels part in more than one place."""
    if teacher["prompt_tokens"]["read_again"] == 0:
        return ""
    return (
        f"; {teacher['requests_per_row']} requests a row, one wherever the labels' names part, which read about "
        f"{teacher['prompt_tokens']['read_again']} tokens more"
    )


def hourly_usd(spec: Spec, fixed: bool = False) -> tuple[float | None, float | None, float]:
    """USD an hour with all replicas of the teacher at work (the least of them in a cluster of ``fixed`` size), all of
    the student's workers (each None without a price), and all further machines of the benchmark."""
    teacher = spec.teacher
    price = teacher.price_per_hour if teacher.engine == "vllm" else None
    student, workers = spec.benchmark.price_per_hour, spec.student.resources.workers
    further = sum(one.price_per_hour for one in spec.benchmark.hardware)
    return price and price * teacher.resources.replicas[0 if fixed else 1], student and student * workers, further


def estimate(plan: Plan) -> str:
    """The plan's times and costs in one line."""
    parts = []
    for name, part in (("teacher", plan.teacher), ("student", plan.student), ("apply", plan.apply)):
        for one in (part, *part.get("also", [])) if part else ():
            if one.get("hours") is not None:
                said = _with_replicas(one) if name == "teacher" else ""
                said += f" ({one['basis']}){_after_start(one)}{_cost(one)}"
                parts.append(f"{name} about {clock(one['hours'] * 3600)}{said}")
    return "; ".join(parts)


def plan_text(plan: Plan, show_prompt: bool = False) -> str:
    """The plan for a person, with the whole prompt of one row where that is wanted."""
    lines = ["stages     " + " > ".join(s["name"] + (" (kept)" if s["cached"] else "") for s in plan.stages)]
    lines.append("rows       {train} train, {test} test; {dropped} dropped".format(**plan.rows))
    for teacher in [plan.teacher, *plan.teacher.get("also", [])]:
        lines += _teacher_lines(teacher)
    lines += vllm_config.lines(plan.vllm)
    if budget := plan.teacher.get("budget"):
        lines.append(_budget_line(budget, several="also" in plan.teacher))
    student = plan.student
    tried = f", after {student['trials']} trials" if student["trials"] else ""
    epochs = "a head on the encoder as it is" if student["trainings"] == ["head"] else f"{student['epochs']} epochs"
    recipe = f"{epochs}, recipe {student['recipe']}{tried}"
    lines.append(f"student    {student['model']}{_absent(student)}, {recipe}")
    lines.append(f"           about {clock(student['hours'] * 3600)} ({student['basis']}){_cost(student)}")
    if (apply := plan.apply) is not None:
        counted = "an unknown number of" if apply["rows"] is None else f"about {apply['rows']:,}"
        spent = "" if apply["hours"] is None else f", {clock(apply['hours'] * 3600)} ({apply['basis']}){_cost(apply)}"
        lines.append(f"apply      {counted} texts of the corpus{spent}")
    lines += [f"note       {note}" for note in plan.notes]
    lines += [f"problem    {problem}" for problem in plan.problems]
    if show_prompt:
        for turn in plan.teacher.get("prompt", []):
            lines += ["", f"[{turn['role']}]", turn["content"]]
    return "\n".join(lines)


def _absent(part: dict[str, Any]) -> str:
    return "" if part["present"] else " (not on this machine: will be fetched)"


def _cost(part: dict[str, Any]) -> str:
    return f", USD {part['usd']:.2f}" if part["usd"] is not None else ""
