"""The spec as frozen dataclasses: what the rest of the runner reads.

They mirror ``schema.json``, which alone knows the defaults; a test holds the two together. Money is
in USD, lengths are in tokens unless a field's description says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from keyword import iskeyword
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from runner.spec.positions import Places
from runner.spec.strict_yaml import KeyPath

Prompt = Literal["direct", "cot"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text with its right label, shown to the teacher."""

    text: str
    label: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where texts come from. ``path`` is as written: ``resolve_path`` makes it usable."""

    path: str
    text: str
    format: Literal["auto", "csv", "tsv", "jsonl", "json", "parquet", "xlsx", "hub"]
    encoding: str | None
    delimiter: str | None
    split: str
    revision: str | None
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class LabelledSource(TextSource):
    """Where texts with expert labels come from."""

    label: str


def _labelled_file(one: ExamplePool | Annotator, path: str) -> LabelledSource:
    return LabelledSource(
        path=path,
        text=one.text,
        label=one.label,
        format="auto",
        encoding=one.encoding,
        delimiter=one.delimiter,
        split="train",
        revision=None,
        limit=None,
    )


@dataclass(frozen=True, kw_only=True)
class ExamplePool:
    """Labelled texts from which the examples are chosen; ``reason`` is a column, ``model`` the encoder."""

    from_: str
    encoding: str | None
    delimiter: str | None
    select: Literal["similar", "diverse"]
    k: int
    text: str
    label: str
    reason: str | None
    model: str

    @property
    def source(self) -> LabelledSource:
        """The pool as any other labelled source."""
        return _labelled_file(self, self.from_)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be decided about each text."""

    type: str
    labels: tuple[str, ...]
    instructions: str
    examples: tuple[Example, ...] | ExamplePool

    @property
    def pool(self) -> ExamplePool | None:
        """Where examples are chosen from; None where they are written in the spec."""
        return self.examples if isinstance(self.examples, ExamplePool) else None

    @property
    def written(self) -> tuple[Example, ...]:
        """The examples that are written in the spec."""
        return () if isinstance(self.examples, ExamplePool) else self.examples


@dataclass(frozen=True, kw_only=True)
class Data:
    """The texts to learn from, those to be judged on, and those that the student is for."""

    train: TextSource
    test: LabelledSource
    corpus: TextSource | None


@dataclass(frozen=True, kw_only=True)
class TeacherResources:
    """What each replica of the teacher runs on; ``replicas`` is (least, most)."""

    accelerator: str | None
    gpus: int
    cpus: int | None
    replicas: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a run may spend on labelling, with all its teachers and in all its commands."""

    usd: float | None
    hours: float | None


@dataclass(frozen=True, kw_only=True)
class Another:
    """A further teacher; None: as the first one."""

    model: str
    revision: str | None
    endpoint: str | None
    prompt: Prompt | None
    votes: int | None
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The model that labels."""

    engine: Literal["vllm", "recorded", "noop"]
    model: str
    revision: str | None
    also: tuple[Another, ...]
    endpoint: str | None
    allow_external: bool
    concurrency: int
    columns: tuple[str, ...]
    reasons: tuple[str, ...]
    prompt: Prompt
    votes: int
    temperature: float
    top_k: int
    top_p: float
    max_tokens: int
    structured: bool
    early_stop: bool
    template: str | None
    calibration: Literal["content-free", "batch", "none"]
    batch_size: int
    truncate: bool
    start_minutes: float
    engine_options: dict[str, Any]
    budget: Budget
    max_failure_rate: float
    seed: int
    max_context: int
    resources: TeacherResources
    price_per_hour: float | None

    def but(self, other: Another) -> Teacher:
        """This teacher with what ``other`` has otherwise."""
        prompt, votes = prompt_and_votes((self.prompt, self.votes), (other.prompt, other.votes))
        return replace(
            self,
            model=other.model,
            revision=other.revision,
            endpoint=other.endpoint,
            prompt=prompt,
            votes=votes,
            columns=other.columns,
            reasons=(),
        )


def prompt_and_votes(first: tuple[Prompt, int], other: tuple[Prompt | None, int | None]) -> tuple[Prompt, int]:
    """How a further teacher is asked: what it leaves out is as with the first; votes only with the same prompt."""
    prompt = other[0] or first[0]
    return prompt, other[1] or (first[1] if prompt == first[0] else 1)


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


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Where the labels stand that somebody else gave to the test texts."""

    path: str
    encoding: str | None
    delimiter: str | None
    text: str
    label: str

    @property
    def source(self) -> LabelledSource:
        """The file as any other labelled source."""
        return _labelled_file(self, self.path)


SCORES = ("accuracy", "macro_f1")
"""What others publish of how good a system is: each is over a number of texts."""

FIGURES = (*SCORES, "texts_per_second", "latency_ms")
"""What others publish of a system that a run measures as well."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What others published of one system, and whose figures of this run stand beside them."""

    beside: str | None
    accuracy: float | None
    macro_f1: float | None
    texts_per_second: float | None
    latency_ms: float | None
    note: str | None
    source: str | None


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How the test results are worked out, who else is compared on the same rows, and what others published."""

    resamples: int
    seed: int
    compare: dict[str, Annotator]
    published: dict[str, Published]


@dataclass(frozen=True, kw_only=True)
class Review:
    """The time that people spend on checking labels."""

    hours: float
    usd_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Carbon:
    """How CO2 follows from energy: by a country's electricity or by grams for each kWh; with neither, energy alone."""

    country: str | None
    grams_per_kwh: float | None


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A further machine on which the student is timed."""

    name: str
    price_per_hour: float
    accelerator: str | None
    gpus: int
    cpus: int | None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """How speed and cost are measured. ``prices`` is as written: ``prices_of`` reads it."""

    price_per_hour: float | None
    texts: int
    batch_sizes: tuple[int, ...]
    rows: int
    hardware: tuple[Hardware, ...]
    labelling_usd: float | None
    review: Review | None
    prices: str | None
    carbon: Carbon | None


@dataclass(frozen=True, kw_only=True)
class Apply:
    """How the corpus is labelled, and what is written of it."""

    abstain_below: float
    keep: tuple[str, ...]
    part_rows: int


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One job, complete. ``source``, ``base`` and ``text``: the file, its folder, and what stands in it."""

    version: int
    name: str
    task: Task
    data: Data
    teacher: Teacher
    student: Student
    evaluate: Evaluate
    benchmark: Benchmark
    apply: Apply
    source: str
    base: Path
    text: str = field(repr=False)
    places: Places = field(repr=False, compare=False)

    def teachers(self) -> list[Spec]:
        """This spec once for each teacher, with that one alone."""
        first = replace(self.teacher, also=())
        return [replace(self, teacher=teacher) for teacher in (first, *map(first.but, self.teacher.also))]

    def sources(self) -> Iterator[tuple[KeyPath, TextSource]]:
        """Every set of texts that the spec reads, each with the field that names its place."""
        yield ("data", "train", "path"), self.data.train
        yield ("data", "test", "path"), self.data.test
        if self.data.corpus:
            yield ("data", "corpus", "path"), self.data.corpus
        if self.task.pool:
            yield ("task", "examples", "from"), self.task.pool.source
        for name, other in self.evaluate.compare.items():
            yield ("evaluate", "compare", name, "path"), other.source

    def models(self) -> Iterator[tuple[KeyPath, str, str | None]]:
        """Every model that the job loads: the field that names it, its name, its revision."""
        if self.teacher.engine == "vllm":
            yield ("teacher", "model"), self.teacher.model, self.teacher.revision
            for index, other in enumerate(self.teacher.also):
                yield ("teacher", "also", index, "model"), other.model, other.revision
        yield ("student", "model"), self.student.model, self.student.revision
        if self.task.pool:
            yield ("task", "examples", "model"), self.task.pool.model, None

    def to_dict(self) -> dict[str, Any]:
        """The whole spec with defaults, as plain data that JSON can hold and that reads back as a spec."""
        outside = ("source", "base", "text", "places")
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in outside}


T = TypeVar("T")


def build(cls: type[T], data: Mapping[str, Any], **more: Any) -> T:
    """Make ``cls`` from plain ``data`` that is complete and right; ``more`` are fields that are not in it."""
    hints = get_type_hints(cls)
    named = {f"{name}_" if iskeyword(name) else name: value for name, value in data.items()}
    return cls(**{name: _typed(hints[name], value) for name, value in named.items()}, **more)


def _typed(hint: Any, value: Any) -> Any:
    if get_origin(hint) is UnionType and isinstance(value, dict | list):
        hint = next(kind for kind in get_args(hint) if is_dataclass(kind) == isinstance(value, dict))
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    if get_origin(hint) is tuple:
        return tuple(_typed(get_args(hint)[0], item) for item in value)
    if get_origin(hint) is dict:
        return {name: _typed(get_args(hint)[1], item) for name, item in value.items()}
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name.rstrip("_"): _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
