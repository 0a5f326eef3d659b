"""How a cell of the data becomes a list of labels, and what about a data set does not fit the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from runner.data.reading import Row
from runner.spec import Spec
from runner.spec.model import LabelledSource
from runner.system.errors import DataError
from runner.tasks.multi_label import recorded
from runner.tasks.shared.labels import listed

VALUE = pa.list_(pa.string())

MANY_WITHOUT = 0.5
"""With a larger share of test rows without a label than this a reader should ask whether all were looked at."""


def key(spec: Spec) -> dict[str, Any]:
    """The kind and the labels, in their order."""
    return {"kind": "multi-label", "labels": list(spec.task.labels)}


def value_of(spec: Spec, source: LabelledSource, row: Row, advice: str) -> list[str]:
    """An expert's labels. :raises DataError: with ``advice``, when the cell says none, or one that the task lacks."""
    try:
        return recorded.labels_of(source.cell(row.values), spec.task.labels)
    except ValueError as error:
        raise DataError("data.label-unknown", f"{row.place}: {error}; {advice}") from error


def recorded_answer(spec: Spec, row: Row, column: str, text: str) -> str:
    """A recorded answer as it stands there. :raises DataError: when it is numbers that are no probabilities."""
    cell = row.values[column]
    try:
        recorded.said(cell, spec.task.labels)
    except ValueError as error:
        message = f"{row.place}: column {column!r}: {error}; correct the file"
        raise DataError("data.answer-unreadable", message) from error
    return cell


def unfit(spec: Spec, test: Collection[Mapping[str, Any]]) -> list[str]:
    """Labels that no test row has, or all have, and whether most rows have none.

    :raises DataError: when all rows have the same labels.
    """
    if len({tuple(row["label"]) for row in test}) == 1:
        only = listed(next(iter(test))["label"]) or "no label"
        raise DataError(
            "data.one-class",
            f"data.test: all {len(test)} rows have the same labels ({only}); a test set needs rows that differ",
        )
    counts = Counter(label for row in test for label in row["label"])
    warnings = []
    if missing := [label for label in spec.task.labels if not counts[label]]:
        warnings.append(f"test has no row of {listed(missing)}: nothing can be said about it")
    if everywhere := [label for label in spec.task.labels if counts[label] == len(test)]:
        warnings.append(f"every test row has {listed(everywhere)}: nobody can say when it does not apply")
    without = sum(not row["label"] for row in test)
    if without > MANY_WITHOUT * len(test):
        warnings.append(
            f"{without:,} of {len(test):,} test rows have no label at all: see that people have looked at them, "
            "and leave rows out at which nobody has"
        )
    return warnings
