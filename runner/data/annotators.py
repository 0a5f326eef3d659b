"""What somebody else said of the test texts: an API, another model or a person, from a file.

Joined by text (case and blanks do not make it another one) and held against the experts on the rows that
both have; a file without a single test text is refused, for nothing could be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runner.data.reading import read_rows
from runner.data.sources import normalised, source_key, source_of
from runner.spec import Spec
from runner.spec.model import Annotator
from runner.system.errors import DataError
from runner.tasks.rules import rules_of
from runner.tasks.shared.value import Value

READING = 1
"""Of cells, as values: a change reads the files anew."""


@dataclass(frozen=True)
class Said:
    """One annotator's values for the test rows that it has, by row id; None: an answer that says none.

    ``conflicting`` texts stand in the file with more than one value, and are left out.
    """

    values: dict[str, Value | None]
    conflicting: int


def read_all(spec: Spec, test: Iterable[dict[str, Any]]) -> dict[str, Said]:
    """Every annotator of ``evaluate.compare``, joined to the ``test`` rows (``id``, ``text``).

    :raises DataError: when a file has none of the test texts, or no answer that says a value of the task.
    """
    rows = [(row["id"], normalised(row["text"])) for row in test]
    return {name: _read(spec, name, other, rows) for name, other in spec.evaluate.compare.items()}


def key(spec: Spec) -> dict[str, Any]:
    """What a comparison depends on: each file's content and columns, and how a cell is read."""
    files = {name: source_key(spec, other.source) for name, other in spec.evaluate.compare.items()}
    return {"reading": READING, "files": files} if files else {}


def _read(spec: Spec, name: str, other: Annotator, rows: list[tuple[str, str]]) -> Said:
    at = f"evaluate.compare.{name}"
    task = vars(spec.task)
    rules = rules_of(task)
    found: dict[str, Value | None] = {}
    conflicting: set[str] = set()
    looked = rules.columns(task, [other.label])
    count = 0
    for row in read_rows(source_of(spec, other.source), [other.text, other.label], [other.label], lists=rules.LISTS):
        count += 1
        text, given = normalised(row.values[other.text]), row.values[other.label]
        if not given.strip():  # a text that the annotator has not come to is no mistake
            continue
        try:
            looked.look([given])
        except ValueError as error:
            raise DataError("data.answer-unreadable", f"{row.place}: {error}; correct the file") from error
        value = rules.said(task, given, row.values[other.text])
        if found.setdefault(text, value) != value:
            conflicting.add(text)
    common = {identity: found[text] for identity, text in rows if text in found and text not in conflicting}
    if not common:
        raise DataError(
            "data.comparison-no-match",
            f"{at}: none of its {count} texts is among the {len(rows)} test texts, so that nothing can be compared; "
            f"give the labels of the texts in data.test, and check the column (text: {other.text})",
        )
    if all(value is None for value in common.values()):
        raise DataError(
            "data.comparison-no-label",
            f"{at}: not one answer in column {other.label!r} names a label of the task: "
            f"{looked.held()}; check the column",
        )
    return Said(common, sum(text in conflicting for _, text in rows))
