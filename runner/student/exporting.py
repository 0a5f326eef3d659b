"""A student exported for other runtimes, and opened in each of them. Knows torch."""

from __future__ import annotations

from pathlib import Path

from runner.rundir.folder import Folder
from runner.student.predict import Student
from runner.student.runtimes.exported import export
from runner.student.trained import StudentRef
from runner.tasks.protocol import Learner


def export_and_open(
    learner: Learner, plain: StudentRef, forms: list[str], out: str, seen: list[str], scratch: Path
) -> tuple[dict[str, Student], dict[str, float]]:
    """The student in each runtime, and the size in MB of what the runtime reads; exports are uploaded to ``out``."""
    exports = scratch / "exports"
    folder = Folder(plain.folder).fetch(plain.name, scratch / "model")
    model = learner.trained(folder).eval()
    opened = {"torch": Student.load(learner, folder, plain.max_length, plain.precision)}
    inputs = opened["torch"].inputs(seen)
    sizes = {form: export(model, form, exports, inputs).stat().st_size / 1e6 for form in forms}  # type: ignore[arg-type]
    sizes["torch"] = (folder / "model.safetensors").stat().st_size / 1e6
    Folder(out).upload(exports, "exports")
    for name in forms:
        opened[name] = Student.load(learner, folder, plain.max_length, plain.precision, name, exports)
    return opened, sizes
