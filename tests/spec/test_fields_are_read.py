"""A field that nobody reads is a promise that nobody keeps.

Traced is which *paths* of a spec are read, and not whether some attribute of that name is: two specs with the null
engine go through the check of their files, the keys and demands of all stages, and load, none of which needs Ray.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest

from runner.planning.files import check_files
from runner.spec import Spec
from runner.spec.describe import field_table
from runner.spec.model import FIGURES, TextSource
from runner.stages import pipeline

ROOT = Path(__file__).resolve().parents[2]

NOT_READING = {"_plain", "replace", "_replace", "with_overrides", "asdict"}
"""Functions that copy a spec or write it out as a whole: they read every field, and use none."""

READ_ELSEWHERE: dict[str, tuple[str, str]] = {
    "review.audit": ("runner/review/sample.py", "spec.review.audit"),
    "review.audit.half_width": ("runner/review/progress.py", "self.spec.review.audit.half_width"),
    "review.audit.rows": ("runner/review/sample.py", "plan.rows"),
    "review.audit.seed": ("runner/review/sample.py", "plan.seed"),
    "apply.abstain_below": ("runner/stages/apply.py", "apply.abstain_below"),
    "apply.part_rows": ("runner/stages/apply.py", "apply.part_rows"),
    "audit.model": ("runner/stages/audit.py", "spec.audit.model"),
    "audit.revision": ("runner/stages/audit.py", "spec.audit.revision"),
    "audit.seed": ("runner/stages/audit.py", "spec.audit.seed"),
    "benchmark.batch_sizes": ("runner/stages/benchmark.py", "bench.batch_sizes"),
    "benchmark.carbon": ("runner/stages/benchmark.py", "context.spec.benchmark.carbon"),
    "benchmark.carbon.country": ("runner/stages/benchmark.py", "carbon.country"),
    "benchmark.carbon.grams_per_kwh": ("runner/stages/benchmark.py", "carbon.grams_per_kwh"),
    "benchmark.hardware.*.price_per_hour": ("runner/stages/benchmark.py", "one.price_per_hour"),
    "benchmark.labelling_usd": ("runner/stages/benchmark.py", "bench.labelling_usd"),
    "benchmark.price_per_hour": ("runner/stages/benchmark.py", "bench.price_per_hour"),
    "benchmark.review": ("runner/stages/benchmark.py", "spec.benchmark.review"),
    "benchmark.review.hours": ("runner/stages/benchmark.py", "review.hours"),
    "benchmark.review.usd_per_hour": ("runner/stages/benchmark.py", "review.usd_per_hour"),
    "benchmark.rows": ("runner/stages/benchmark.py", "bench.rows"),
    "benchmark.texts": ("runner/stages/benchmark.py", "bench.texts"),
    "evaluate.published": ("runner/report/summary.py", '.get("published")'),
    "evaluate.published.*.accuracy": ("runner/report/summary.py", "figures[figure]"),
    "evaluate.published.*.beside": ("runner/report/summary.py", 'figures.get("beside")'),
    "evaluate.published.*.latency_ms": ("runner/report/summary.py", "figures[figure]"),
    "evaluate.published.*.macro_f1": ("runner/report/summary.py", "figures[figure]"),
    "evaluate.published.*.note": ("runner/report/summary.py", 'figures.get("note")'),
    "evaluate.published.*.source": ("runner/report/summary.py", 'figures.get("source")'),
    "evaluate.published.*.texts_per_second": ("runner/report/summary.py", "figures[figure]"),
    "task.labels.from": ("runner/tasks/shared/label_list.py", 'task["labels"]["from"]'),
    "task.labels.label": ("runner/tasks/shared/label_list.py", 'source["label"]'),
    "task.labels.description": ("runner/tasks/shared/label_list.py", 'source["description"]'),
    "task.labels.encoding": ("runner/tasks/shared/label_list.py", 'encoding=source["encoding"]'),
    "task.labels.delimiter": ("runner/tasks/shared/label_list.py", 'delimiter=source["delimiter"]'),
    "task.labels.*.name": ("runner/tasks/shared/label_list.py", 'label["name"]'),
    "task.labels.*.description": ("runner/tasks/shared/label_list.py", 'label["description"]'),
    "student.accumulate": ("runner/student/fit.py", "student.accumulate"),
    "student.batch_size": ("runner/student/gradient_traffic.py", "student.batch_size"),
    "student.epochs": ("runner/student/training_plan.py", "self.student.epochs"),
    "student.learning_rate": ("runner/student/fit.py", "student.learning_rate"),
    "student.max_disagreement": ("runner/stages/export.py", "student.max_disagreement"),
    "student.max_length": ("runner/stages/train.py", "student.max_length"),
    "student.precision": ("runner/stages/export.py", "student.precision"),
    "student.runtime": ("runner/stages/export.py", "student.runtime"),
    "student.search": ("runner/stages/train.py", "student.search"),
    "student.search.trials": ("runner/student/training_plan.py", "self.student.search.trials"),
    "student.seed": ("runner/stages/train.py", "student.seed"),
    "student.validation": ("runner/stages/train.py", "student.validation"),
    "teacher.allow_external": ("runner/teacher/generate.py", "teacher.allow_external"),
    "teacher.also.*.endpoint": ("runner/spec/sections/teacher.py", "other.endpoint"),
    "teacher.also.*.model": ("runner/spec/sections/teacher.py", "other.model"),
    "teacher.also.*.prompt": ("runner/spec/sections/teacher.py", "other.prompt"),
    "teacher.also.*.revision": ("runner/spec/sections/teacher.py", "other.revision"),
    "teacher.also.*.votes": ("runner/spec/sections/teacher.py", "other.votes"),
    "teacher.batch_size": ("runner/teacher/generate.py", "teacher.batch_size"),
    "teacher.concurrency": ("runner/teacher/generate.py", "teacher.concurrency"),
    "teacher.early_stop": ("runner/stages/label.py", "spec.teacher.early_stop"),
    "teacher.max_failure_rate": ("runner/stages/label.py", "spec.teacher.max_failure_rate"),
    "teacher.max_tokens": ("runner/teacher/request.py", "teacher.max_tokens"),
    "teacher.model": ("runner/teacher/content_free.py", "teacher.model"),
    "teacher.resources.accelerator": ("runner/teacher/occupancy.py", "teacher.resources.accelerator"),
    "teacher.resources.cpus": ("runner/kubernetes/groups.py", "teacher.resources.cpus"),
    "teacher.revision": ("runner/teacher/content_free.py", "teacher.revision"),
    "teacher.start_minutes": ("runner/teacher/request.py", "teacher.start_minutes"),
    "teacher.structured": ("runner/teacher/request.py", "teacher.structured"),
    "teacher.temperature": ("runner/teacher/request.py", "teacher.temperature"),
    "teacher.top_k": ("runner/teacher/request.py", "teacher.top_k"),
    "teacher.top_p": ("runner/teacher/request.py", "teacher.top_p"),
    "teacher.votes": ("runner/stages/label.py", "spec.teacher.votes"),
}
"""What only stages read that need Ray, or the report: each with the file, and the expression that reads it there."""


def copies(frame: FrameType | None) -> bool:
    """Whether a function that only copies is at work: itself, or in a comprehension of its own."""
    while frame is not None and frame.f_code.co_name in ("<dictcomp>", "<listcomp>", "<genexpr>"):
        frame = frame.f_back
    if frame is None:
        return False
    code = frame.f_code
    return code.co_name in NOT_READING or code.co_filename.endswith(("dataclasses.py", "<string>"))


class Trace:
    """The paths that are read of a spec and of copies of it: by the object where it is known, else by its class."""

    def __init__(self, spec: Spec) -> None:
        self.read: set[str] = set()
        self._objects: dict[int, str] = {}
        self._classes: dict[type, str] = {}
        self._kept: list[Any] = []  # so that no other object gets the id of one of these
        self._know(spec, "")

    def _know(self, value: Any, path: str) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            self._objects[id(value)] = path
            # A source that was made on the way is neither train nor test.
            self._classes.setdefault(type(value), "" if isinstance(value, TextSource) else path)
            self._kept.append(value)
            for field in fields(value):
                if field.name not in ("source", "base", "text", "places", "reviewed") or path:
                    self._know(object.__getattribute__(value, field.name), f"{path}.{field.name}".strip("."))
        elif isinstance(value, tuple | dict):
            for item in value.values() if isinstance(value, dict) else value:
                self._know(item, f"{path}.*")

    @contextmanager
    def on(self) -> Iterator[None]:
        """Note what is read inside."""

        def patched(cls: type) -> Any:
            names = {field.name for field in fields(cls)}  # type: ignore[arg-type]

            def read(instance: Any, name: str) -> Any:
                if name in names and not copies(sys._getframe(1)):
                    path = self._objects.get(id(instance), self._classes.get(cls, ""))
                    self.read.add(f"{path}.{name}".strip("."))
                return object.__getattribute__(instance, name)

            return mock.patch.object(cls, "__getattribute__", read, create=True)

        patches = [patched(cls) for cls in self._classes]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


EVERYTHING = (
    "data.corpus={path: corpus.csv}",
    "teacher.also=[{model: other}]",
    "student.search={trials: 2}",
    "evaluate.compare={api: {path: test.csv}}",
    "evaluate.published={paper: {accuracy: 0.5}}",
    "benchmark.hardware=[{name: small, price_per_hour: 1}]",
    "benchmark.review={hours: 1, usd_per_hour: 1}",
    "benchmark.carbon={grams_per_kwh: 1}",
)
POOL = "task.examples={from: pool.csv, k: 1, reason: anna}"
NOOP = ("teacher.engine=noop", "teacher.columns=[]")


@pytest.fixture
def traced(job: Any) -> set[str]:
    job.csv("corpus.csv", [("A text.",)], ("text",))
    job.csv("pool.csv", [("Another.", "neutral", "because")], ("text", "label", "anna"))
    found: set[str] = set()
    for examples in ((), (POOL,)):
        spec = job.spec(*NOOP, *EVERYTHING, *examples)
        trace = Trace(spec)
        with trace.on():
            check_files(spec, elsewhere=True)
            steps = pipeline.steps(spec, job.run)
            for step in steps:
                list(step.stage.demands(spec))
            context = job.context("load", spec)
            pipeline.run_step(next(step for step in steps if step.stage.NAME == "load"), context)
        found |= {path.replace("from_", "from") for path in trace.read}
    return found


def all_paths() -> set[str]:
    return {row.split("`")[1] for row in field_table().splitlines()[2:]}


def test_every_field_is_read(traced: set[str]) -> None:
    missing = all_paths() - traced - set(READ_ELSEWHERE)
    assert not missing, "nobody reads these on a run; say in READ_ELSEWHERE who does"


def test_what_is_read_elsewhere_is_read_there_and_not_on_the_run(traced: set[str]) -> None:
    assert sorted(set(READ_ELSEWHERE) & traced) == []
    for path, (file, expression) in READ_ELSEWHERE.items():
        name = path.rsplit(".", 1)[-1]
        assert (expression == "figures[figure]" and name in FIGURES) or re.search(rf"\b{name}\b", expression), path
        assert re.search(rf"(?<!\w){re.escape(expression)}(?!\w)", (ROOT / file).read_text(encoding="utf-8")), path


def test_the_table_in_the_docs_is_the_schemas() -> None:
    page = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
    assert field_table().strip() in page


def test_a_field_that_only_copies_read_is_not_traced(job: Any) -> None:
    spec = job.spec()
    trace = Trace(spec)
    with trace.on():
        spec.to_dict(), spec.teachers(), spec == job.spec()
    assert "student.epochs" not in trace.read and "teacher.seed" not in trace.read
    with trace.on():
        assert spec.teachers()[0].teacher.seed == 0
    assert "teacher.seed" in trace.read and "student.seed" not in trace.read
