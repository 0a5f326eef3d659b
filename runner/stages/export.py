"""export: the student for other runtimes, each held against the original before it may be chosen.

With ``student.runtime: auto`` the fastest of those is taken that loses at most :data:`MOST_LOST` of accuracy on the
test rows and says what the original says on nearly all of them; everything after this stage uses it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cluster import Resources
from runner.spec import Spec
from runner.stage import Context
from runner.store import Folder

if TYPE_CHECKING:
    from runner.student import Student

NAME = "export"
NEEDS = ("load", "train")

MOST_LOST = 0.003
"""Accuracy on the test rows that a runtime may lose against the original, as a share."""
LEAST_AGREEMENT = 0.98
"""Of the test rows: so many must get the original's label, or something went wrong that happens to even out."""
TIMED_TEXTS, ROUNDS = 512, 3
SEEN_TEXTS = 64
BUILD = 4
"""Changes when another export comes of the same student."""


@dataclass(frozen=True)
class Trained:
    """A student where it lies: ``folder``/``name``, and what its ``runtime`` reads in the folder ``exports``."""

    folder: str
    name: str
    max_length: int | None
    precision: str
    runtime: str = "torch"
    exports: str | None = None

    def open(self) -> Student:
        """The student, loaded in this process. :raises ModelError: when there is none that can be loaded."""
        from runner.student import Student  # in the worker only: the driver needs no torch

        with tempfile.TemporaryDirectory() as scratch:
            folder = Folder(self.folder).fetch(self.name, Path(scratch) / "model")
            exports = Folder(self.exports).fetch("exports", Path(scratch) / "exports") if self.exports else None
            student = Student.load(folder, self.max_length, self.precision, self.runtime, exports)
        if student.reload:
            student.reload = self._classifier  # by then the folder above is gone
        return student

    def _classifier(self) -> Any:
        from runner.student import load_classifier

        with tempfile.TemporaryDirectory() as scratch:
            return load_classifier(Folder(self.folder).fetch(self.name, Path(scratch) / "model"))


def wanted(spec: Spec) -> bool:
    """Whether the spec asks for anything but the safetensors that are written anyway."""
    return bool(forms(spec))


def forms(spec: Spec) -> list[str]:
    """What is exported, in the order of the spec."""
    return [form for form in spec.student.export if form != "safetensors"]


def trained(spec: Spec, inputs: Any) -> Trained:
    """The run's student in the runtime that was chosen; ``inputs`` are a stage's folders by name."""
    student = spec.student
    plain = Trained(inputs["train"].url, "student", student.max_length, student.precision)
    if (exported := inputs.get(NAME)) is None:
        return plain
    return replace(plain, runtime=exported.read_json("export.json")["runtime"], exports=exported.url)


def not_chosen(spec: Spec, inputs: Any) -> list[Trained]:
    """The run's student in the other runtimes that it was exported for."""
    chosen = trained(spec, inputs)
    if chosen.exports is None or spec.student.resources.gpus:
        return []
    return [replace(chosen, runtime=name) for name in ("torch", *forms(spec)) if name != chosen.runtime]


def key(spec: Spec) -> dict[str, Any]:
    """What is exported, and how the runtime is chosen."""
    return {"export": forms(spec), "runtime": asked(spec), "precision": spec.student.precision, "build": BUILD}


def asked(spec: Spec) -> str:
    """The runtime to take. Exports are for processors: a GPU has torch, however fast the processor beside it is."""
    return "torch" if spec.student.resources.gpus else spec.student.runtime


def run(context: Context) -> dict[str, Any]:
    """Export, check, time, choose. :raises UserError: when a package is missing."""
    spec = context.spec
    train, test = (context.inputs["load"].read_table(f"{split}.parquet") for split in ("train", "test"))
    plain = Trained(context.inputs["train"].url, "student", spec.student.max_length, spec.student.precision)
    found = context.cluster.call(
        check,
        Resources.of(spec.student.resources),
        plain=plain,
        forms=forms(spec),
        out=context.here.url,
        seen=train.column("text").to_pylist()[:SEEN_TEXTS],
        texts=test.column("text").to_pylist(),
        truth=test.column("label").to_pylist(),
    )
    chosen = choose(found, asked(spec))
    result = {"runtime": chosen, "asked": asked(spec), "runtimes": found}
    context.here.write_json("export.json", result)
    for one in found:
        context.progress.say(
            f"{one['runtime']}: {one['texts_per_second']:.0f} texts/s, accuracy {one['accuracy']:.4f}, "
            f"the original's label on {one['agreement']:.2%}" + ("; chosen" if one["runtime"] == chosen else ""),
            NAME,
        )
    return result


def choose(found: Sequence[dict[str, Any]], wanted: str) -> str:
    """The runtime that is wanted; with ``auto`` the fastest whose loss is within bounds."""
    if wanted != "auto":
        return wanted
    original = next(one for one in found if one["runtime"] == "torch")
    sound = [
        one
        for one in found
        if original["accuracy"] - one["accuracy"] <= MOST_LOST + 1e-9 and one["agreement"] >= LEAST_AGREEMENT
    ]
    return str(max(sound, key=lambda one: one["texts_per_second"])["runtime"])


def check(
    plain: Trained, forms: list[str], out: str, seen: list[str], texts: list[str], truth: list[str]
) -> list[dict[str, Any]]:
    """Export all forms where the student runs, and measure every runtime on the same rows, in alternating rounds.

    ``seen`` is train texts: what int8 is fitted to must not be what it is measured on.
    """
    from runner import runtimes, student

    with tempfile.TemporaryDirectory() as scratch:
        exports = Path(scratch) / "exports"
        folder = Folder(plain.folder).fetch(plain.name, Path(scratch) / "model")
        model = student.load_classifier(folder).eval()
        opened = {"torch": student.Student.load(folder, plain.max_length, plain.precision)}
        inputs = opened["torch"].inputs(seen)
        sizes = {form: runtimes.export(model, form, exports, inputs).stat().st_size / 1e6 for form in forms}  # type: ignore[arg-type]
        sizes["torch"] = (folder / "model.safetensors").stat().st_size / 1e6
        Folder(out).upload(exports, "exports")
        for name in forms:
            opened[name] = student.Student.load(folder, plain.max_length, plain.precision, name, exports)
        return [
            {"runtime": name, "size_mb": sizes[name], "precision": opened[name].precision, **figures}
            for name, figures in _measured(opened, texts, truth).items()
        ]


def _measured(opened: dict[str, Student], texts: list[str], truth: list[str]) -> dict[str, dict[str, Any]]:
    labels = {name: [one.labels[k] for k in one.predict(texts).argmax(axis=1)] for name, one in opened.items()}
    rates: dict[str, list[float]] = {name: [] for name in opened}
    timed = texts[:TIMED_TEXTS]
    for _ in range(ROUNDS):
        for name, one in opened.items():
            start = time.perf_counter()
            one.predict(timed)
            rates[name].append(len(timed) / (time.perf_counter() - start))
    return {
        name: {
            "accuracy": _share(labels[name], truth),
            "agreement": _share(labels[name], labels["torch"]),
            "texts_per_second": statistics.median(rates[name]),
        }
        for name in opened
    }


def _share(one: Sequence[str], other: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
