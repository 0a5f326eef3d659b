"""Files of the tools: written whole or not at all, read with the place of each record."""

from __future__ import annotations

import csv
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from runner.data.file_kinds import decoded_lines, unpacked
from runner.data.json_rows import json_values
from runner.data.tables import Wanted, csv_rows
from runner.rundir.folder import explained
from runner.system.errors import DataError, UserError, first_line

DELIMITERS = ",;\t"
"""Of csv files: which one a program writes depends on the language that it speaks."""


def write(target: Path, data: str | bytes) -> Path:
    """Write a file, whole or not at all. :raises UserError: when the disk is full or may not be written to."""
    half = target.with_name(f".{target.name}.{uuid.uuid4().hex}.half")
    with explained(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            half.write_bytes(data if isinstance(data, bytes) else data.encode())
            os.replace(half, target)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
    return target


def new(target: Path, ending: str) -> Path:
    """``target``, if it can be written to: nothing that reviewers may have filled in is written over.

    :raises UserError: when it is there already, or does not end in ``ending``.
    """
    if target.suffix.lower() != ending:
        what = f"ends in {ending}" if ending else "is a folder: let its name have no ending"
        raise UserError("review.export-ending", f"{target}: what is exported to this tool {what}; change the name")
    if target.exists():
        raise UserError(
            "review.export-exists",
            f"{target}: is there already, and answers in it would be lost; choose another name, or remove it",
        )
    return target


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a text file with their ends. :raises DataError: when it cannot be read, or is no text in UTF-8."""
    try:
        with open(path, "rb") as handle:
            head, stream = unpacked(handle, path.name)
            yield decoded_lines(head, stream, path.name, None)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("data.not-readable", f"{path}: cannot be read ({first_line(error)}); check the file") from error


def json_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a JSON file with their places: an array of them, or one after the other (JSON Lines).

    :raises DataError: when the file is broken or breaks off, or holds something else.
    """
    with _lines(path) as lines:
        for number, (line, value) in enumerate(json_values(lines, path.name), start=1):
            place = line if path.suffix == ".jsonl" else f"{line} (row {number})"  # an array may stand on one line
            if not isinstance(value, dict):
                raise DataError(
                    "review.export-unknown",
                    f"{place}: expected an object, found {str(value)[:40]!r}; give the tool's own export",
                )
            yield place, value


def mapping(value: Any) -> Mapping[str, Any]:
    """An object of a file; an empty one where something else stands."""
    return value if isinstance(value, Mapping) else {}


def array(value: Any) -> Sequence[Any]:
    """An array of a file; an empty one where something else stands."""
    return value if isinstance(value, list) else ()


def csv_header(path: Path) -> tuple[list[str], str]:
    """The columns of a csv file, and its delimiter: the one that gives most columns."""
    with _lines(path) as lines:
        first = list(islice(lines, 2))
    header = first[-1] if first and first[0].startswith(("sep=", '"sep=')) else "".join(first[:1])
    columns = {mark: next(csv.reader([header], delimiter=mark), []) for mark in DELIMITERS}
    mark = max(DELIMITERS, key=lambda mark: len(columns[mark]))
    return columns[mark], mark


def csv_records(path: Path, needed: Sequence[str], more: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The rows of a csv file with their places: the columns ``needed``, and those of ``more`` that are there.

    :raises DataError: when a column is missing or there twice, or the file is broken or breaks off.
    """
    header, mark = csv_header(path)
    wanted = Wanted((*needed, *(column for column in more if column in header)))
    with _lines(path) as lines:
        for row in csv_rows(lines, path.name, wanted, None, mark):
            yield row.place, row.values
