"""The labels of a task, however a spec gives them: by name, with a description each, or as a file.

Whatever the form, ``task.labels`` are names from here on, and ``task.descriptions`` stand beside them. So the same
labels have the same fingerprint, written out or in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.data.reading import Source, read_rows
from runner.system.errors import DataError
from runner.tasks.shared.labels import plain

AT = ("task", "labels")
"""The field."""
LONGEST_NAME, LONGEST_DESCRIPTION = 100, 1000
MOST, FEWEST = 1000, 2
SHOWN = 5
"""So many problems of a file are named; the rest is counted."""


def expand(task: dict[str, Any], located: Callable[[str], str]) -> list[tuple[str, str]]:
    """Bring the labels of ``task``, the filled section, into their one form.

    Of a file that is wrong there are no labels: its problems are returned, code and message, and the section stays as
    it was. ``located`` makes a path of the spec usable.
    """
    named: list[tuple[str, str]]
    if isinstance(task["labels"], dict):
        path = task["labels"]["from"]
        try:
            rows = _read(task["labels"], located(path))
        except DataError as error:
            return [(error.code, str(error))]
        if wrong := _wrong_of(path, rows):
            return wrong
        named = [(name, description) for _, name, description in rows]
    else:
        named = [_named(label) for label in task["labels"]]
        path = None
    task["labels"] = [name for name, _ in named]
    meanings = [description for _, description in named]
    task["descriptions"] = meanings if any(meanings) else []
    task["label_file"] = path
    return []


def written(task: dict[str, Any]) -> dict[str, Any]:
    """The section as a spec writes it: the reverse of :func:`expand`, with the labels of a file written out."""
    meanings, _ = task.pop("descriptions"), task.pop("label_file")
    if meanings:
        both = zip(task["labels"], meanings, strict=True)
        task["labels"] = [{"name": name, "description": description} for name, description in both]
    return task


def names(task: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a section in either form, that of a spec or of ``run.json``."""
    return tuple(_named(label)[0] for label in task["labels"])


def descriptions(task: Mapping[str, Any]) -> tuple[str, ...]:
    """What the labels mean, of a section in either form; nothing where none has a description."""
    found = tuple(task.get("descriptions") or (_named(label)[1] for label in task["labels"]))
    return found if any(found) else ()


def _named(label: Any) -> tuple[str, str]:
    return (label["name"], label["description"].strip()) if isinstance(label, dict) else (label, "")


def _read(source: dict[str, Any], path: str) -> list[tuple[str, str, str]]:
    """The place, name and description of each row. :raises DataError: when the file cannot be read."""
    if "://" in path:
        raise DataError("spec.labels-not-local", "labels are read where the spec is: name a file, not a URL")
    columns = [source["label"], *([source["description"]] if source["description"] else [])]
    rows = read_rows(Source(path, encoding=source["encoding"], delimiter=source["delimiter"]), columns)
    cells = [(row.place, *(row.values[column].strip() for column in columns), "") for row in rows]
    return [(place, name, description) for place, name, description, *_ in cells]


def _wrong_of(path: str, named: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """What is wrong with the rows of the file ``path``, the first of it."""
    wrong = list(_wrong(named))
    if not FEWEST <= len(named) <= MOST:
        message = f"{path}: expected {FEWEST} to {MOST:,} labels, found {len(named):,}"
        wrong.append(("spec.labels-count", message))
    if len(wrong) > SHOWN:
        code, message = wrong[SHOWN - 1]
        wrong = [*wrong[: SHOWN - 1], (code, f"{message} (and {len(wrong) - SHOWN:,} more)")]
    return wrong


def _wrong(rows: list[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """What is wrong with the rows of a file: the place, the name and the description of each."""
    seen: dict[str, str] = {}
    for place, name, description in rows:
        if not name:
            yield "spec.label-empty", f"{place}: this row names no label"
        elif len(name.splitlines()) > 1:
            yield "spec.label-lines", f"{place}: a label stands in one line, and this one has several"
        elif len(name) > LONGEST_NAME:
            yield (
                "spec.label-long",
                f"{place}: a label has at most {LONGEST_NAME} characters, and this one {len(name):,}",
            )
        elif (first := seen.setdefault(plain(name), place)) != place:
            yield (
                "spec.label-twice",
                f"{place}: {name!r} stands at {first} already, but for capitals and blanks at most",
            )
        if len(description) > LONGEST_DESCRIPTION:
            yield (
                "spec.description-long",
                f"{place}: a description has at most {LONGEST_DESCRIPTION:,} characters, and this one "
                f"{len(description):,}",
            )
