"""The spec against the files it names: are they there, with these columns, rows and values?

Reads them as the run does (``runner/data/reading.py``), so that what passes here is read there. Looks at files on this
machine only: what lies behind a URL or on the Hub is met when it is loaded.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.data.file_kinds import stored_as
from runner.data.preview import not_a_file, preview_rows, shown_path
from runner.data.reading import ColumnError, Source, files_of
from runner.economics import carbon
from runner.planning.recorded_columns import check_recorded_columns
from runner.spec.load import draft
from runner.spec.model import LabelledSource, Spec, TextSource
from runner.spec.paths import is_packaged, resolve_path
from runner.spec.prices import prices_of
from runner.spec.strict_yaml import KeyPath, dotted
from runner.student.runtimes.optional import lacking
from runner.system.errors import DataError, Problem, SpecError
from runner.tasks.rules import rules_of

SHOWN = 5  # so many bad files, or bad rows of a file, are named; the rest is counted

_OF_VOTES = (
    "data.train",
    "data.test",
    "teacher.engine",
    "teacher.columns",
    "teacher.also",
    "evaluate.compare",
)
"""Fields without which the recorded votes cannot be looked at, besides those by which a cell is read."""

_HOW_IT_IS_READ = ("text", "label", "format", "encoding", "delimiter")


def check_spec(path: str | Path, overrides: Sequence[str] = (), elsewhere: bool = False) -> Spec:
    """Read the spec as ``load_spec`` does, and look at the files that it names, as ``check_files`` does.

    Raises SpecError with the problems of both: of a spec that is wrong, the files that it names rightly are read.
    """
    parsed = draft(str(path), overrides)
    spec = parsed.built()
    of_files: list[Problem] = []
    try:
        check_files(spec, elsewhere, parsed.leave)
    except SpecError as error:
        of_files = error.problems
    if parsed.problems or of_files:
        raise SpecError([*parsed.problems, *(problem for problem in of_files if problem not in parsed.problems)])
    return spec


def check_files(spec: Spec, elsewhere: bool = False, leave: Collection[str] = ()) -> None:
    """Look at every data file that ``spec`` names. Raises SpecError with every problem.

    Where the job runs ``elsewhere``, absolute paths and optional packages are that machine's, and are not looked at.
    Fields to ``leave`` alone, as ``data.train.path``, have a problem already.
    """
    problems: list[Problem] = []
    reads = tuple(f"task.{field}" for field in rules_of(vars(spec.task)).FIELDS)
    for at, source in spec.sources():
        if any(dotted((*at[:-1], name)) in leave for name in (at[-1], *_HOW_IT_IS_READ)):
            continue
        try:
            resolve_path(spec, source.path, at)  # a variable that is not set is a problem anywhere
            if is_packaged(spec, source.path) or not elsewhere:
                # Somebody else's answers may be anything: what is no value of the task counts as wrong.
                labelled = at[0] != "evaluate" and not any(field in leave for field in reads)
                problems += _check_source(spec, at, source, labelled)
        except SpecError as error:
            problems += error.problems
    problems += [] if "benchmark.prices" in leave else _check_prices(spec)
    if not elsewhere and not any(field.startswith((*_OF_VOTES, *reads)) for field in leave):
        problems += check_recorded_columns(spec)
    if not elsewhere:
        problems += _check_carbon(spec)
        problems += _check_exports(spec)
    if problems:
        raise SpecError(problems)


def _check_prices(spec: Spec) -> list[Problem]:
    """The price table that the spec names."""
    if spec.benchmark.prices is None:
        return []
    try:
        prices_of(spec)
    except SpecError as error:
        return error.problems
    return []


def _check_carbon(spec: Spec) -> Iterator[Problem]:
    """What an estimate of energy needs."""
    if spec.benchmark.carbon is None:
        return
    wanted, known = spec.benchmark.carbon.country, carbon.countries()
    if known is None:
        yield spec.places.problem(("benchmark", "carbon"), "benchmark.codecarbon-missing", carbon.MISSING)
    elif wanted is not None and wanted not in known:
        yield spec.places.problem(
            ("benchmark", "carbon", "country"), "benchmark.country-unknown", carbon.no_figures(wanted)
        )


def _check_exports(spec: Spec) -> Iterator[Problem]:
    """What is exported needs packages that are optional."""
    for index, form in enumerate(spec.student.export):
        if lack := lacking(form):
            yield spec.places.problem(("student", "export", index), "student.runtime-missing", lack)


def _check_source(spec: Spec, at: KeyPath, source: TextSource, labelled: bool) -> Iterator[Problem]:
    """All rows of a source, read as the run reads them."""
    kind = stored_as(source.path, source.format)
    where = resolve_path(spec, source.path).removeprefix("file://")
    if kind is None or kind == "hub" or "://" in where:
        return
    if (os.path.lexists(where) or not glob.has_magic(where)) and (wrong := not_a_file(where)):
        yield spec.places.problem(at, *wrong)
        return
    whole = Source(where, source.format, encoding=source.encoding, delimiter=source.delimiter, by=source.text)
    try:
        found = files_of(whole)
    except DataError:
        yield spec.places.problem(at, "data.not-found", f"no file matches {shown_path(where)!r}")
        return
    look = _Look(spec, at, source, labelled and source.limit is None)
    bad = rows = 0
    for file in found:
        problems = list(look.at(replace(whole, path=file)))
        bad, rows = bad + bool(problems), rows + look.rows
        if bad <= SHOWN:
            yield from problems
    if bad > SHOWN:
        yield spec.places.problem(at, "data.more-files", f"{bad - SHOWN} more files have problems like these")
    if bad:
        return
    if not rows:
        these = f"{shown_path(where)}: there is no row of data in " + (
            "this file" if len(found) == 1 else "these files"
        )
        yield spec.places.problem(at, "data.no-rows", these)
    elif labelled and source.limit is not None:
        yield from _Look(spec, at, source, labelled).at(replace(whole, limit=source.limit))


class _Look:
    """A look at the rows of one source, file by file; ``rows`` is how many the last file has."""

    def __init__(self, spec: Spec, at: KeyPath, source: TextSource, labelled: bool) -> None:
        self._spec, self._at, self._source = spec, at, source
        self._fields = list(_needed(spec, at, source))
        self._columns, self._structured = [column for _, column in self._fields], structured_columns(spec, at)
        self._beginning = at[:2] == ("data", "corpus")  # it may be as large as it likes
        self._experts = source if labelled and isinstance(source, LabelledSource) else None
        self._lists = rules_of(vars(spec.task)).LISTS
        self.rows = 0

    def at(self, source: Source) -> Iterator[Problem]:
        """What is wrong with the file or files of ``source``."""
        self.rows, wrong = 0, _Wrong(vars(self._spec.task))
        name, shown = source.path.rsplit("/", 1)[-1], shown_path(source.path.removeprefix("file://"))
        try:
            for row in preview_rows(source, self._columns, self._structured, self._beginning, self._lists):
                self.rows += 1
                text = row.values[self._source.text]
                if self._experts is not None and text.strip():
                    wrong.look(row.place.removeprefix(f"{name}:"), self._experts.cell(row.values), text)
        except ColumnError as error:
            where = shown + error.place.removeprefix(name)
            for field, column in self._fields:
                if column in error.missing:
                    message = f"{where} has no column {column!r}{error.missing[column]}"
                    yield self._spec.places.problem(field, error.code, message)
        except DataError as error:
            said = str(error)
            said = shown + said.removeprefix(name) if said.startswith(name) else said
            yield self._spec.places.problem(self._at, error.code, said)
        if wrong.count:
            message = f"{shown}: every row needs {rules_of(vars(self._spec.task)).EXPECTED}; {wrong}"
            yield self._spec.places.problem((*self._at[:-1], "label"), "data.label-unknown", message)


class _Wrong:
    """Cells that hold no value of the task: the first ones, and how many there are."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self._task, self._named, self.count = task, list[str](), 0

    def look(self, where: str, cell: str, text: str) -> None:
        """Count one cell, if it is wrong of its row's ``text``."""
        said = rules_of(self._task).wrong(self._task, cell, text)
        if said is None:
            return
        self.count += 1
        if self.count <= SHOWN:
            self._named.append(f"{'line ' if where[:1].isdigit() else ''}{where} has {said}")

    def __str__(self) -> str:
        more = f", and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return ", ".join(self._named) + more


def structured_columns(spec: Spec, at: KeyPath) -> list[str]:
    """The columns of a source in which objects may stand: recorded answers, as probabilities or as a teacher's JSON;
    and those of experts, where values are lists."""
    if at[0] == "evaluate":
        return [spec.evaluate.compare[str(at[2])].label]
    lists = rules_of(vars(spec.task)).LISTS
    if at[0] == "task":
        return [spec.task.pool.label] if spec.task.pool and lists else []
    if at[1] not in ("train", "test"):
        return []
    experts = spec.data.test.columns if lists and at[1] == "test" and spec.data.test else ()
    return [*experts, *(column for one in spec.teachers() for column in one.teacher.columns)]


def _needed(spec: Spec, at: KeyPath, source: TextSource) -> Iterator[tuple[KeyPath, str]]:
    """The columns that a file must have, each with the field that names it."""
    yield (*at[:-1], "text"), source.text
    if isinstance(source, LabelledSource):
        yield from (((*at[:-1], "label"), column) for column in source.columns)
    if at[0] == "task" and spec.task.pool and spec.task.pool.reason:
        yield (*at[:-1], "reason"), spec.task.pool.reason
    if at[1] == "corpus":
        for index, column in enumerate(spec.apply.keep):
            yield ("apply", "keep", index), column
    if at[1] not in ("train", "test"):
        return
    for index, column in enumerate(spec.teacher.columns):
        yield ("teacher", "columns", index), column
    for number, other in enumerate(spec.teacher.also):
        for index, column in enumerate(other.columns):
            yield ("teacher", "also", number, "columns", index), column
    for index, column in enumerate(spec.teacher.reasons if at[1] == "train" else ()):
        yield ("teacher", "reasons", index), column
