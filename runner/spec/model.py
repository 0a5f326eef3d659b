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
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from runner.spec.positions import Places
from runner.spec.reviewed import Reviewed
from runner.spec.sections.apply import Apply
from runner.spec.sections.audit import Audit, ReviewPlan
from runner.spec.sections.benchmark import Benchmark, Carbon, Hardware, Review
from runner.spec.sections.data import Data, LabelledSource, TextSource
from runner.spec.sections.evaluate import FIGURES, SCORES, Annotator, Evaluate, Published
from runner.spec.sections.student import Search, Student, StudentResources
from runner.spec.sections.task import Example, ExamplePool, Task
from runner.spec.sections.teacher import Another, Budget, Prompt, Teacher, TeacherResources, prompt_and_votes
from runner.spec.strict_yaml import KeyPath
from runner.tasks.shared import label_list

__all__ = [
    "FIGURES",
    "SCORES",
    "Annotator",
    "Another",
    "Apply",
    "Benchmark",
    "Budget",
    "Carbon",
    "Data",
    "Evaluate",
    "Example",
    "ExamplePool",
    "Hardware",
    "LabelledSource",
    "Prompt",
    "Published",
    "Review",
    "Search",
    "Spec",
    "Student",
    "StudentResources",
    "Task",
    "Teacher",
    "TeacherResources",
    "TextSource",
    "build",
    "prompt_and_votes",
]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One job, complete. ``source``, ``base`` and ``text``: the file, its folder, and what stands in it.

    ``reviewed`` is what people have decided in the run folder so far: stages take it for the job's as well.
    """

    version: int
    name: str
    task: Task
    data: Data
    teacher: Teacher
    audit: Audit
    review: ReviewPlan
    student: Student
    evaluate: Evaluate
    benchmark: Benchmark
    apply: Apply
    source: str
    base: Path
    text: str = field(repr=False)
    places: Places = field(repr=False, compare=False)
    reviewed: Reviewed = field(repr=False)

    def teachers(self) -> list[Spec]:
        """This spec once for each teacher, with that one alone."""
        first = replace(self.teacher, also=())
        return [replace(self, teacher=teacher) for teacher in (first, *map(first.with_overrides, self.teacher.also))]

    def sources(self) -> Iterator[tuple[KeyPath, TextSource]]:
        """Every set of texts that the spec reads, each with the field that names its place."""
        yield ("data", "train", "path"), self.data.train
        if self.data.test:
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
        if self.audit.model:
            yield ("audit", "model"), self.audit.model, self.audit.revision
        if self.task.pool:
            yield ("task", "examples", "model"), self.task.pool.model, None

    def to_dict(self) -> dict[str, Any]:
        """The whole spec with defaults, as plain data that JSON can hold and that reads back as a spec."""
        outside = ("source", "base", "text", "places", "reviewed")
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in outside}
        label_list.written(plain["task"])
        return plain


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
