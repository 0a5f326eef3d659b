"""How a cell of the data becomes a label, and what about a data set does not fit the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from runner.data.class_labels import number_of
from runner.data.reading import Row, class_names
from runner.data.sources import source_of
from runner.spec import Spec
from runner.spec.model import LabelledSource
from runner.system.errors import DataError
from runner.tasks.shared.labels import find, listed, unknown
from runner.tasks.single_label import recorded

VALUE = pa.string()


def key(spec: Spec) -> dict[str, Any]:
    """The labels, in their order."""
    return {"labels": list(spec.task.labels)}


def value_of(spec: Spec, source: LabelledSource, row: Row, advice: str) -> str:
    """An expert's label, as the task writes it. :raises DataError: with ``advice``, when the task has no such label."""
    given = source.cell(row.values)
    if (label := find(given, spec.task.labels)) is not None:
        return label
    number = number_of(given, source.columns[0], class_names(source_of(spec, source)))
    if number is not None:
        advice = f"the file writes {number}, which its metadata names {given[:60]!r}: use its names in task.labels"
    raise DataError("data.label-unknown", f"{row.place}: {unknown(given, spec.task.labels)}; {advice}")


def recorded_answer(spec: Spec, row: Row, column: str, text: str) -> str:
    """A recorded answer as it stands there. :raises DataError: when it is probabilities that are no distribution."""
    cell = row.values[column]
    try:
        recorded.distribution(cell, spec.task.labels)
    except ValueError as error:
        raise DataError(
            "data.answer-unreadable", f"{row.place}: column {column!r}: {error}; correct the file"
        ) from error
    return cell


def unfit(spec: Spec, test: Collection[Mapping[str, Any]]) -> list[str]:
    """Labels that no test row has. :raises DataError: when all rows have the same one."""
    counts = Counter(row["label"] for row in test)
    if len(counts) == 1:
        raise DataError(
            "data.one-class",
            f"data.test: all {len(test)} rows have the one label {next(iter(counts))!r}; "
            "a test set needs at least two classes",
        )
    missing = [label for label in spec.task.labels if not counts[label]]
    return [f"test has no row of {listed(missing)}: nothing can be said about it"] if missing else []
