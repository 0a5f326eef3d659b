"""Columns of answers that somebody gave, as a spec names them: do they hold values of the task?

Reads them as the run does. What is wrong with a file or a column itself is said elsewhere (``files.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from runner.data.reading import read_rows
from runner.data.sources import source_of
from runner.spec.model import LabelledSource, Spec, TextSource
from runner.spec.paths import resolve_path
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import DataError, Problem, SpecError
from runner.tasks.rules import rules_of
from runner.tasks.shared.columns import ADVICE


def check_recorded_columns(spec: Spec) -> Iterator[Problem]:
    """Columns of recorded teachers and of others that hold no vote, or in which too many rows lack one."""
    recorded = [number for number, one in enumerate(spec.teachers()) if one.teacher.engine == "recorded"]
    for number in recorded:
        yield from _check_teacher(spec, number)
    for name, other in spec.evaluate.compare.items():
        yield from _check_other(spec, ("evaluate", "compare", name, "label"), other.source)


def _check_teacher(spec: Spec, number: int) -> Iterator[Problem]:
    one = spec.teachers()[number]
    at: KeyPath = ("teacher", "also", number - 1, "columns") if number else ("teacher", "columns")
    looked = rules_of(vars(spec.task)).columns(vars(spec.task), one.teacher.columns)
    # A text that stands in both is a test text; of texts that are the same the first counts.
    seen: set[str] = set()
    sources: tuple[TextSource, ...] = (*([spec.data.test] if spec.data.test else []), spec.data.train)
    for place, cells in chain.from_iterable(_cells(spec, source, looked.names, seen) for source in sources):
        try:
            looked.look(cells)
        except ValueError as error:
            yield spec.places.problem(at, "data.answer-unreadable", f"{place}: {error}")
            return
    if dead := looked.dead():
        for name in dead:
            column: KeyPath = (*at, list(looked.names).index(name))
            yield spec.places.problem(column, "teacher.no-votes", f"no cell is a vote: {looked.held([name])}")
    elif looked.too_many(one.teacher.max_failure_rate):
        allowed = f"teacher.max_failure_rate allows {100 * one.teacher.max_failure_rate:g} %"
        yield spec.places.problem(
            at,
            "teacher.too-few-votes",
            f"{looked.words()}; {allowed}: {ADVICE}, or raise it to learn from the other rows",
        )


def _check_other(spec: Spec, at: KeyPath, source: LabelledSource) -> Iterator[Problem]:
    looked = rules_of(vars(spec.task)).columns(vars(spec.task), source.columns)
    for place, (cell,) in _cells(spec, source, looked.names):
        try:
            if cell.strip():
                looked.look([cell])
        except ValueError as error:
            yield spec.places.problem(at, "data.answer-unreadable", f"{place}: {error}")
            return
    if looked.dead():
        yield spec.places.problem(
            at, "data.comparison-no-label", f"not one answer names a label of the task: {looked.held()}"
        )


def _cells(
    spec: Spec, source: TextSource, columns: Sequence[str], seen: set[str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Where each row with a text stands, with its cells; nothing for data that is not on this machine, or is broken."""
    if source.format == "hub":
        return
    lists = rules_of(vars(spec.task)).LISTS
    try:
        if "://" in resolve_path(spec, source.path).removeprefix("file://"):
            return
        for row in read_rows(source_of(spec, source), [source.text, *columns], columns, lists=lists):
            text = row.values[source.text]
            if not text.strip() or (seen is not None and text in seen):
                continue
            if seen is not None:
                seen.add(text)
            yield row.place, [row.values[column] for column in columns]
    except (DataError, SpecError):
        return  # files.py says so
