"""A teacher and a student for a machine and so many texts: what ``tutelage init --data`` writes into its first spec.

The same arithmetic as a plan's (:mod:`runner.planning.hardware`, :mod:`runner.planning.rates`), before there is a spec.
What is chosen can all be changed; each choice comes with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import models
from runner.planning.hardware.memory import FEW_SEQUENCES
from runner.planning.hardware.teacher_fit import Asked, Row, judge
from runner.planning.hardware.throughput import ANSWER_TOKENS, CHARACTERS_PER_TOKEN
from runner.planning.inspection import Texts
from runner.planning.languages import ENGLISH, UNKNOWN, is_english
from runner.planning.memory import USABLE
from runner.planning.rates import AMX_TEACHER_TFLOPS, CPU_STUDENT_TFLOPS, CPU_TEACHER_TFLOPS
from runner.student.training_plan import LARGE_LEAST_EPOCHS, LARGE_MOST_EPOCHS, LARGE_STEPS
from runner.system import machine
from runner.system.accelerators import Accelerator, of_product
from runner.system.nvml import Gpu
from runner.teacher.engines.vllm_arguments import EngineSettings, engine_options

ON_GPUS = (
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "TheBloke/Mixtral-8x7B-Instruct-v0.1-AWQ",
    "Qwen/Qwen2.5-7B-Instruct",
    "catalog:qwen2.5-coder-1.5b-instruct",
)
"""Teachers, the better ones first."""
ON_PROCESSORS = ("catalog:qwen2.5-coder-1.5b-instruct", "catalog:qwen2.5-coder-0.5b-instruct")
LARGE_GPU_BYTES = 22e9
"""Of a GPU of an unknown kind, from which on a teacher of 7 B in bf16 fits."""

STUDENT, FAST_STUDENT = "catalog:all-mpnet-base-v2", "catalog:all-minilm-l6-v2"
MULTILINGUAL_ON_GPUS, MULTILINGUAL = "FacebookAI/xlm-roberta-base", "intfloat/multilingual-e5-small"

MAX_CONTEXT, LONGER_CONTEXT, PROMPT_TOKENS = 4096, 8192, 700
"""The default of ``teacher.max_context``, the next size, and what instructions, examples and an answer take of it."""
DENSE_CHARACTERS_PER_TOKEN = 2.5
"""Of texts with many numbers or rare words: whether a long one fits is judged by these."""
MAX_LENGTH, LONGEST_LENGTH = 256, 512
"""The default of ``student.max_length``, and the most tokens that the students of this module read."""

MOST_TEXTS = 20_000
"""A student learns little from more."""
MOST_LABEL_HOURS, MOST_TRAIN_HOURS = 8.0, 3.0
"""A night for the teacher on processors; the student's training, beyond which a smaller one is proposed."""
FEWEST_TEXTS = 1000
"""Under so many in a night a smaller teacher is proposed."""
BATCH_TEXTS = 16
"""The default of ``student.batch_size``."""


@dataclass(frozen=True)
class Machine:
    """What a teacher and a student may use; ``memory`` in bytes, 0 where it is not known."""

    gpus: tuple[Gpu, ...]
    cores: int
    memory: int
    flags: frozenset[str]

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        return cls(
            tuple(machine.gpus()), machine.usable_cores(), machine.memory_bytes(), frozenset(machine.cpu_flags())
        )

    def operations_per_second(self, per_core: float) -> float:
        """On its processor, as :func:`runner.planning.rates.operations_per_second`; ``per_core`` in 10^12."""
        slow = 4 if self.flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"}) else 1
        return 1e12 * per_core * self.cores / slow

    @property
    def teacher_operations(self) -> float:
        """A second, of a teacher on its processor."""
        return self.operations_per_second(AMX_TEACHER_TFLOPS if "amx_bf16" in self.flags else CPU_TEACHER_TFLOPS)


@dataclass(frozen=True)
class Proposal:
    """Fields of ``teacher`` and ``student`` besides the defaults, how many texts to label (None: all), and why."""

    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    limit: int | None
    why: Mapping[str, str] = field(default_factory=dict)
    """Reasons for ``teacher``, ``student`` and ``limit``, and what is to be known about ``languages``."""


def propose(texts: Texts, at: Machine) -> Proposal:
    """What fits the machine and the texts."""
    reading = _reading(texts)
    context = reading.get("max_context", MAX_CONTEXT)
    on_gpus = _teacher_on_gpus(at, context, texts)
    teacher, why_teacher, hours_each = on_gpus or _teacher_on_processors(at, context, texts)
    limit, why_limit = _limit(texts.texts, hours_each)
    learned = limit or texts.texts
    student, why_student = _student(texts, learned, at, bool(on_gpus))
    why = {"teacher": why_teacher, "student": why_student}
    if why_limit:
        why["limit"] = why_limit
    if not is_english(texts.languages):
        named = [language for language in texts.languages if language not in (ENGLISH, UNKNOWN)]
        why["languages"] = (
            f"not all texts are English ({', '.join(named[:3])}, as far as frequent words and scripts tell)"
        )
    return Proposal(teacher | reading, student, limit, why)


def _reading(texts: Texts) -> dict[str, Any]:
    """What a teacher that is to read all texts needs besides the defaults."""
    room = (MAX_CONTEXT - PROMPT_TOKENS) * DENSE_CHARACTERS_PER_TOKEN
    if texts.longest <= room:
        return {}
    longer = {"max_context": LONGER_CONTEXT} if texts.p95 > room else {}
    return longer | {"truncate": True}


def _row_tokens(texts: Texts) -> int:
    return round(texts.mean / CHARACTERS_PER_TOKEN) + 10


def _teacher_on_gpus(at: Machine, context: int, texts: Texts) -> tuple[dict[str, Any], str, None] | None:
    """The best teacher that the machine's GPUs hold; None without GPUs."""
    if not at.gpus:
        return None
    kind = of_product(at.gpus[0].name)
    cot = {"prompt": "cot", "votes": 3}
    if kind is None:
        large = at.gpus[0].memory >= LARGE_GPU_BYTES
        model = ON_GPUS[-2] if large else ON_GPUS[-1]
        why = f"nothing is known here of this machine's GPU ({at.gpus[0].name}) but its memory"
        return {"model": model, **(cot if large else {}), "resources": {"gpus": 1}}, why, None
    row = Row(PROMPT_TOKENS, min(context, _row_tokens(texts) + ANSWER_TOKENS))
    for model in ON_GPUS:
        for count in (1, 2, 4, 8):
            if count <= len(at.gpus) and _holds(model, kind, count, context, row):
                votes = cot if model != ON_GPUS[-1] else {}
                resources = {"accelerator": kind.name, "gpus": count}
                return {"model": model, **votes, "resources": resources}, _on(kind, count), None
    return None  # GPUs too small for any of them: the processor is there as well


def _on(kind: Accelerator, count: int) -> str:
    return f"the largest of the teachers known here that {count} x {kind.name} {'hold' if count > 1 else 'holds'} well"


def _holds(model: str, kind: Accelerator, count: int, context: int, row: Row) -> bool:
    """Whether the GPUs hold a teacher, and enough rows at once to be busy."""
    options = engine_options(EngineSettings(context, count, 0))
    verdict = judge(Asked(model, kind, count, context, options), models.describe(model), row)
    return not verdict.problems and (verdict.sequences or 0) >= FEW_SEQUENCES


def _teacher_on_processors(at: Machine, context: int, texts: Texts) -> tuple[dict[str, Any], str, float]:
    """The largest teacher that the memory holds and that labels enough texts in a night; and hours for each text."""
    for model in ON_PROCESSORS:
        facts = models.describe(model)
        need = (facts.weight_bytes or 0) + (facts.kv_bytes_per_token or 0) * context
        hours = 2 * (facts.active_parameters or 0) * _row_tokens(texts) / at.teacher_operations / 3600
        fits = not at.memory or need <= USABLE * at.memory
        if fits and min(texts.texts, FEWEST_TEXTS) * hours <= MOST_LABEL_HOURS:
            break
    gpu = "its GPUs are too small" if at.gpus else "no GPU"
    why = f"{gpu}, {at.cores} cores: about {float(f'{1 / hours:.2g}'):,.0f} texts an hour, estimated"
    return {"model": model}, why if fits else f"{why}; its memory is tight", hours


def _limit(texts: int, hours_each: float | None) -> tuple[int | None, str]:
    """How many of the texts are labelled: no more than a student learns from, nor than a night has room for."""
    in_a_night = MOST_TEXTS if hours_each is None else max(FEWEST_TEXTS, int(MOST_LABEL_HOURS / hours_each))
    if texts <= min(MOST_TEXTS, in_a_night):
        return None, ""
    if in_a_night < MOST_TEXTS:
        step = 10 ** max(0, len(str(in_a_night)) - 2)
        return in_a_night // step * step, f"about as many as the teacher labels in {MOST_LABEL_HOURS:g} hours"
    return MOST_TEXTS, "a student learns little from more"


def _student(texts: Texts, learned: int, at: Machine, on_gpus: bool) -> tuple[dict[str, Any], str]:
    """An encoder for the language, as large as the machine trains in hours."""
    chosen: dict[str, Any] = {}
    if on_gpus:
        kind = of_product(at.gpus[0].name)
        chosen["resources"] = {"accelerator": kind.name, "gpus": 1} if kind else {"gpus": 1}
    tokens = texts.p95 / CHARACTERS_PER_TOKEN
    if tokens > MAX_LENGTH:
        chosen["max_length"] = LONGEST_LENGTH
    if not is_english(texts.languages):
        return {"model": MULTILINGUAL_ON_GPUS if on_gpus else MULTILINGUAL, **chosen}, "it reads a hundred languages"
    if on_gpus:
        return {"model": STUDENT, **chosen}, "the size of RoBERTa-base"
    read = min(chosen.get("max_length", MAX_LENGTH), texts.mean / CHARACTERS_PER_TOKEN)
    epochs = min(LARGE_MOST_EPOCHS, max(LARGE_LEAST_EPOCHS, round(LARGE_STEPS * BATCH_TEXTS / learned)))
    operations = 6 * (models.describe(STUDENT).parameters or 0) * read * learned * epochs
    hours = operations / at.operations_per_second(CPU_STUDENT_TFLOPS) / 3600
    if hours > MOST_TRAIN_HOURS:
        why = f"small, as the default student would train about {hours:.0f} hours on this machine"
        return {"model": FAST_STUDENT, **chosen}, why
    return {"model": STUDENT, **chosen}, "the size of RoBERTa-base"
