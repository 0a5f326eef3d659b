"""The spec against the files it names: are they there, with these columns, rows and labels?

Looks at files on this machine only: what lies behind a URL or on the Hub is met when it is loaded.
"""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from runner.errors import DataError, Problem, SpecError, not_by_commas
from runner.labels import find, written
from runner.spec.fields import stored_as
from runner.spec.model import LabelledSource, Spec, TextSource
from runner.spec.peek import labels, peek
from runner.spec.places import did_you_mean
from runner.spec.rules import VARIABLE
from runner.spec.strict_yaml import KeyPath

SHOWN = 5  # so many bad files, or bad rows of a file, are named; the rest is counted


def resolve_path(spec: Spec, path: str, at: KeyPath | None = None) -> str:
    """A data path of ``spec`` made usable: its ``${TUTELAGE_...}`` filled in, relative to the spec's folder.

    URLs stay as they are; a name on the Hub is no path, so do not pass one. Raises SpecError when the
    variable is not set, at the field ``at`` (None: the first that names this path).
    """
    if match := VARIABLE.match(path):
        value = os.environ.get(match[1], "")
        rest = path[match.end() :].lstrip("/")
        if not value:
            holds = rest or "the data"
            message = f"the environment variable {match[1]} is not set: set it to the folder that holds {holds}"
            raise SpecError([spec.places.problem(at or _field_of(spec, path), message)])
        if "://" in value:
            return value.rstrip("/") + path[match.end() :]
        # The variable is the shell's, so a relative one starts where the shell stands.
        return str(Path(value).absolute() / rest)
    return path if "://" in path else str(spec.base / path)


def goes_along(path: str) -> bool:
    """Whether a data path stands relative to its spec, so that a job that is sent elsewhere takes the file along."""
    return not ("://" in path or os.path.isabs(path) or VARIABLE.match(path))


def check_files(spec: Spec, elsewhere: bool = False) -> None:
    """Look at every data file that ``spec`` names. Raises SpecError with every problem.

    Where the job runs ``elsewhere``, absolute paths and optional packages are that machine's, and are not looked at.
    """
    problems: list[Problem] = []
    for at, source in spec.sources():
        try:
            resolve_path(spec, source.path, at)  # a variable that is not set is a problem anywhere
            if goes_along(source.path) or not elsewhere:
                problems += _check_source(spec, at, source)
        except SpecError as error:
            problems += error.problems
    problems += _check_prices(spec)
    if not elsewhere:
        from runner.spec.votes import check_votes  # only now: it stands on this module

        problems += check_votes(spec)
    if not elsewhere:
        problems += _check_carbon(spec)
        problems += _check_exports(spec)
    if problems:
        raise SpecError(problems)


def _check_prices(spec: Spec) -> list[Problem]:
    """The price table that the spec names."""
    if spec.benchmark.prices is None:
        return []
    from runner.spec.prices import prices_of  # only now: few specs have a table of their own

    try:
        prices_of(spec)
    except SpecError as error:
        return error.problems
    return []


def _check_carbon(spec: Spec) -> Iterator[Problem]:
    """What an estimate of energy needs."""
    if spec.benchmark.carbon is None:
        return
    from runner import carbon

    wanted, known = spec.benchmark.carbon.country, carbon.countries()
    if known is None:
        yield spec.places.problem(("benchmark", "carbon"), carbon.MISSING)
    elif wanted is not None and wanted not in known:
        yield spec.places.problem(("benchmark", "carbon", "country"), carbon.no_figures(wanted))


def _check_exports(spec: Spec) -> Iterator[Problem]:
    """What is exported needs packages that are optional."""
    from runner.optional import lacking

    for index, form in enumerate(spec.student.export):
        if lack := lacking(form):
            yield spec.places.problem(("student", "export", index), lack)


def _field_of(spec: Spec, path: str) -> KeyPath:
    return next((at for at, source in spec.sources() if source.path == path), ("benchmark", "prices"))


def _check_source(spec: Spec, at: KeyPath, source: TextSource) -> Iterator[Problem]:
    kind = stored_as(source.path, source.format)
    if kind is None or kind == "hub":
        return
    where = resolve_path(spec, source.path).removeprefix("file://")
    if "://" in where:
        return
    found = [where]
    if glob.has_magic(where) and not os.path.lexists(where):
        found = sorted(glob.glob(where, recursive=True))
    if not found:
        yield spec.places.problem(at, f"no file matches {_shown(where)!r}")
    bad = 0
    for path in found:
        problems = list(_check_file(spec, at, source, path, kind))
        bad += bool(problems)
        if bad <= SHOWN:
            yield from problems
    if bad > SHOWN:
        yield spec.places.problem(at, f"{bad - SHOWN} more files have problems like these")


def _check_file(spec: Spec, at: KeyPath, source: TextSource, path: str, kind: str) -> Iterator[Problem]:
    if wrong := _not_a_file(path):
        yield spec.places.problem(at, wrong)
        return
    try:
        columns, has_rows = peek(path, kind)
    except DataError as error:
        yield spec.places.problem(at, f"{_shown(path)}: {error}")
        return
    if not has_rows:
        yield spec.places.problem(at, f"{_shown(path)}: there is no row of data in this file")
    if columns is None or not (columns or has_rows):
        return
    advice = not_by_commas(columns) if kind == "csv" else ""
    for field, column in _needed(spec, at, source):
        if column not in columns:
            listed = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
            hint = advice or did_you_mean(column, columns) or f" (it has: {listed})"
            yield spec.places.problem(field, f"{_shown(path)} has no column {column!r}{hint}")
    # Somebody else's labels may be anything: what is no label of the task counts as wrong.
    if isinstance(source, LabelledSource) and source.label in columns and kind != "parquet" and at[0] != "evaluate":
        yield from _check_labels(spec, at, source, path, kind)


def _needed(spec: Spec, at: KeyPath, source: TextSource) -> Iterator[tuple[KeyPath, str]]:
    """The columns that a file must have, each with the field that names it."""
    yield (*at[:-1], "text"), source.text
    if isinstance(source, LabelledSource):
        yield (*at[:-1], "label"), source.label
    if at[0] == "task" and spec.task.pool and spec.task.pool.reason:
        yield (*at[:-1], "reason"), spec.task.pool.reason
    if at[1] == "corpus":
        for index, column in enumerate(spec.apply.keep):
            yield ("apply", "keep", index), column
    if at[1] not in ("train", "test"):
        return
    for index, column in enumerate(spec.teacher.columns):
        yield ("teacher", "columns", index), column
    for index, column in enumerate(spec.teacher.reasons if at[1] == "train" else ()):
        yield ("teacher", "reasons", index), column


def _check_labels(spec: Spec, at: KeyPath, source: LabelledSource, path: str, kind: str) -> Iterator[Problem]:
    known = spec.task.labels
    try:
        wrong = [(line, value) for line, value in labels(path, kind, source.label) if not _is_label(value, known)]
    except DataError as error:
        yield spec.places.problem(at, f"{_shown(path)}: {error}")
        return
    if wrong:
        named = []
        for line, value in islice(wrong, SHOWN):
            text = (written(value) or "")[:60]
            named.append(f"line {line} has {repr(text) + did_you_mean(text, known) if text.strip() else 'none'}")
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        message = f"{_shown(path)}: every row needs one of task.labels; {', '.join(named)}{more}"
        yield spec.places.problem((*at[:-1], "label"), message)


def _is_label(value: object, known: tuple[str, ...]) -> bool:
    return find(value, known) is not None


def _not_a_file(path: str) -> str:
    """Why ``path`` is no file that can be read; empty when it is one."""
    shown = _shown(path)
    try:
        if os.path.isfile(path):
            return ""
        if os.path.isdir(path):
            return f"{shown!r} is a folder: name its files, such as {os.path.join(shown, '*.csv')!r}"
        if os.path.exists(path):
            return f"{shown!r} is not a plain file"
        if os.path.islink(path):
            return f"{shown!r} is a link that leads nowhere: to {os.readlink(path)!r}"
        names = os.listdir(os.path.dirname(path))
    except (OSError, ValueError):
        return f"there is no file {shown!r}"
    close = difflib.get_close_matches(os.path.basename(path), names[:10_000], n=1)
    hint = f" (did you mean {os.path.join(os.path.dirname(shown), close[0])!r}?)" if close else ""
    return f"there is no file {shown!r}{hint}"


def _shown(path: str) -> str:
    """The path as short as it can be said: relative to where the user stands, if it lies below."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
