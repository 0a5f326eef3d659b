"""A trained student where it lies: which model, in which runtime, for whoever predicts with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.system.errors import UserError
from runner.system.sanitize import without_secrets
from runner.tasks.kinds import DEFAULT_KIND, TASKS, task_of

TRAIN, EXPORT = "train", "export"
"""The stage that trains the student, and the one that chooses another runtime than torch where the spec asks for
exports."""


class LoadedStudent(Protocol):
    """What those who know no torch see of a :class:`runner.student.predict.Student`."""

    outputs: list[str]
    decision: Any
    device: Any
    precision: str
    runtime: str
    recomputed: int
    in_flight: Any

    @property
    def halved(self) -> int: ...

    @property
    def tokens_per_batch(self) -> int: ...

    def predict(
        self, texts: Sequence[str], batch_rows: int | None = None, done: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]: ...

    def batches(
        self, texts: Sequence[str], batch_rows: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]: ...

    def recorded(self) -> AbstractContextManager[list[tuple[int, int]]]: ...

    def rows_per_batch(self, texts: Sequence[str]) -> int: ...

    def gpu_memory_mb(self) -> float | None: ...


@dataclass(frozen=True)
class StudentRef:
    """A student where it lies: ``folder``/``name``, and what its ``runtime`` reads in the folder ``exports``.

    ``kind`` is the task's, by its name in :data:`runner.tasks.kinds.TASKS`.
    """

    folder: str
    name: str
    max_length: int | None
    precision: str
    runtime: str = "torch"
    exports: str | None = None
    kind: str = DEFAULT_KIND

    def identity(self) -> dict[str, Any]:
        """The fields, for fingerprints; without ``kind`` where it is the first, which earlier versions did not name."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if name != "kind" or value != DEFAULT_KIND}

    def open(self) -> LoadedStudent:
        """The student, loaded in this process. :raises ModelError: when there is none that can be loaded."""
        from runner.student.predict import Student  # in the worker only: the driver needs no torch

        learner = TASKS[self.kind].learner()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Folder(self.folder).fetch(self.name, Path(scratch) / "model")
            exports = Folder(self.exports).fetch("exports", Path(scratch) / "exports") if self.exports else None
            student = Student.load(learner, folder, self.max_length, self.precision, self.runtime, exports)
        if student.reload:
            student.reload = self._model  # by then the folder above is gone
        return student

    def _model(self) -> Any:
        with tempfile.TemporaryDirectory() as scratch:
            return TASKS[self.kind].learner().trained(Folder(self.folder).fetch(self.name, Path(scratch) / "model"))


def exported_forms(spec: Spec) -> list[str]:
    """What is exported, in the order of the spec."""
    return [form for form in spec.student.export if form != "safetensors"]


def original_student(spec: Spec, inputs: Any) -> StudentRef:
    """The run's student as it was trained; ``inputs`` are a stage's folders by name."""
    student = spec.student
    return StudentRef(inputs["train"].url, "student", student.max_length, student.precision, kind=task_of(spec).NAME)


def chosen_student(spec: Spec, inputs: Any) -> StudentRef:
    """The run's student in the runtime that was chosen; ``inputs`` are a stage's folders by name."""
    plain = original_student(spec, inputs)
    if (exported := inputs.get(EXPORT)) is None:
        return plain
    return replace(plain, runtime=exported.read_json("export.json")["runtime"], exports=exported.url)


def student_of_run(run: Folder, record: Mapping[str, Any]) -> StudentRef:
    """The student of a finished run, in the runtime that was chosen; ``record`` is its ``run.json``.

    :raises UserError: when its folder is no longer there.
    """
    settings, prints = record["spec"]["student"], {stage["name"]: stage["fingerprint"] for stage in record["stages"]}
    trained = run.child(TRAIN, prints.get(TRAIN, ""))
    if not trained.exists("student/config.json"):
        where = f"{TRAIN}/{prints.get(TRAIN, '')}"
        raise UserError(
            "run.student-missing",
            f"{without_secrets(run.url)}: the run's student is gone ({where}); run its spec again",
        )
    kind = record["spec"].get("task", {}).get("type", DEFAULT_KIND)
    plain = StudentRef(trained.url, "student", settings["max_length"], settings["precision"], kind=kind)
    exported = run.child(EXPORT, prints.get(EXPORT, ""))
    if EXPORT not in prints or not exported.exists("export.json"):
        return plain
    return replace(plain, runtime=exported.read_json("export.json")["runtime"], exports=exported.url)


def other_runtimes(spec: Spec, inputs: Any) -> list[StudentRef]:
    """The run's student in the other runtimes that it was exported for."""
    chosen = chosen_student(spec, inputs)
    if chosen.exports is None or spec.student.resources.gpus:
        return []
    return [replace(chosen, runtime=name) for name in ("torch", *exported_forms(spec)) if name != chosen.runtime]
