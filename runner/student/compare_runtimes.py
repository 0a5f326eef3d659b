"""The student in each runtime that it is exported for, measured against the original where the student runs.

Knows no torch until it is at work.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.student.trained import LoadedStudent, StudentRef
from runner.tasks.kinds import TASKS
from runner.tasks.protocol import TaskKind, Value

ROUNDS = 3


def compare_runtimes(
    plain: StudentRef,
    forms: list[str],
    out: str,
    seen: list[str],
    judges: tuple[list[str], list[str]],
    test: tuple[list[str], list[str]],
    timed: list[str],
) -> list[dict[str, Any]]:
    """Export all forms where the student runs, and measure every runtime on the same texts, in alternating rounds.

    ``seen`` are the texts that int8 is fitted to; ``judges`` are texts with the teacher's values, ``test`` with the
    experts'.
    """
    task = TASKS[plain.kind]
    with tempfile.TemporaryDirectory() as scratch:
        from runner.student.exporting import export_and_open  # in the worker only: the driver needs no torch

        opened, sizes = export_and_open(task.learner(), plain, forms, out, seen, Path(scratch))
        judged, tested = (_agreement(opened, task, *rows) for rows in (judges, test))
        rates = _rates(opened, timed)
        return [
            {
                "runtime": name,
                "size_mb": sizes[name],
                "precision": student.precision,
                task.scoring.PRIMARY: tested[name]["truth"],
                "agreement": tested[name]["agreement"],
                "judged": {
                    "rows": len(judges[0]),
                    "agreement": judged[name]["agreement"],
                    "teacher_agreement": judged[name]["truth"],
                },
                "not_finite": judged[name]["not_finite"] + tested[name]["not_finite"],
                "recomputed": judged[name]["recomputed"] + tested[name]["recomputed"],
                "texts_per_second": rates[name],
            }
            for name, student in opened.items()
        ]


def _agreement(
    opened: Mapping[str, LoadedStudent], task: TaskKind, texts: list[str], truth: list[Value]
) -> dict[str, dict[str, Any]]:
    """The primary figure of each runtime, and how often it gives the original's value where the original gives any.

    None where there are no texts.
    """
    if not texts:
        return {name: {"truth": None, "agreement": None, "not_finite": 0, "recomputed": 0} for name in opened}
    result, original = {}, _values(task, opened["torch"], texts)
    known = [row for row, value in enumerate(original) if value is not None]
    for name, student in opened.items():
        before = student.recomputed
        given = _values(task, student, texts)
        result[name] = {
            "truth": task.scoring.primary(truth, given),
            "agreement": _share([given[row] for row in known], [original[row] for row in known]),
            "not_finite": given.count(None),
            "recomputed": student.recomputed - before,
        }
    return result


def _values(task: TaskKind, student: LoadedStudent, texts: list[str]) -> list[Value | None]:
    return task.predictions.values(student.outputs, student.predict(texts), student.decision)


def _rates(opened: Mapping[str, LoadedStudent], texts: list[str]) -> dict[str, float]:
    """Texts a second, the median of alternating rounds."""
    rates: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(ROUNDS):
        for name, student in opened.items():
            start = time.perf_counter()
            student.predict(texts)
            rates[name].append(len(texts) / (time.perf_counter() - start))
    return {name: statistics.median(measured) for name, measured in rates.items()}


def _share(values: Sequence[Any], others: Sequence[Any]) -> float:
    return sum(value == other for value, other in zip(values, others, strict=True)) / len(values) if values else 1.0
