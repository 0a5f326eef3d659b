"""Rows of one file in each format: the wanted columns as text, each row with the place where it stands.

All formats have the same rules: a wanted column stands there once, every cell has a text (:mod:`runner.data.cells`),
and what does not fit is an error with its line. Knows no globs and no specs.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from runner.data.cells import arrow_without_text, text_of
from runner.data.class_labels import names_in_parquet, with_names
from runner.data.file_kinds import LONGEST_BYTES, something_else
from runner.system.errors import DataError, did_you_mean

PARQUET_ROWS = 1024
"""Rows that are taken out of a parquet file at once: they may be whole documents."""

csv.field_size_limit(LONGEST_BYTES)

_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n?\Z')


@dataclass(frozen=True)
class Wanted:
    """The columns that are read, and those of them in which objects may stand; with ``lists`` lists as well."""

    columns: tuple[str, ...]
    structured: frozenset[str] = frozenset()
    lists: bool = False

    def texts(self, place: str, cells: Iterable[Any]) -> dict[str, str]:
        """The cells of one row, in the order of the columns, as text. :raises DataError: when one has none."""
        found = {}
        for column, cell in zip(self.columns, cells, strict=True):
            try:
                found[column] = text_of(cell, column in self.structured, self.lists)
            except ValueError as error:
                raise DataError("data.cell-not-text", f"{place}: column {column!r} holds {error}") from None
        return found


@dataclass(frozen=True)
class Row:
    """The wanted columns of one row as text, and where it stands (``train.csv:17``)."""

    place: str
    values: dict[str, str]


class ColumnError(DataError):
    """Wanted columns are missing at ``place``; ``missing`` has advice for each, such as the nearest name.

    ``known`` are the columns that are there. Made of code and message alone, as every error is that may come from a
    worker.
    """

    place: str = ""
    missing: dict[str, str] = {}  # noqa: RUF012 (of an error of none)
    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, place: str, missing: dict[str, str], known: Iterable[str] = ()) -> ColumnError:
        """The error for ``missing`` at ``place``."""
        error = cls(
            "data.column-missing",
            f"{place}: " + "; ".join(f"no column {column!r}{said}" for column, said in missing.items()),
        )
        error.place, error.missing, error.known = place, missing, tuple(known)
        return error


def positions(place: str, header: Sequence[str], columns: Sequence[str], advice: str = "") -> list[int]:
    """Where the wanted columns stand.

    :raises DataError: with ``advice`` or the nearest names when one is missing, or when it is there twice.
    """
    at: dict[str, list[int]] = {}
    for index, name in enumerate(header):
        at.setdefault(name, []).append(index)
    if missing := [column for column in columns if column not in at]:
        known = ", ".join(map(str, header[:20])) + (", ..." if len(header) > 20 else "")
        said = {column: advice or did_you_mean(column, at) or f" (it has: {known[:400]})" for column in missing}
        raise ColumnError.of(place, said, header)
    if twice := next((column for column in columns if len(at[column]) > 1), None):
        raise DataError(
            "data.column-repeated",
            f"{place}: the column {twice!r} is there {_times(len(at[twice]))}: rename one of them",
        )
    return [at[column][0] for column in columns]


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def csv_rows(lines: Iterator[str], name: str, wanted: Wanted, delimiter: str | None, default: str) -> Iterator[Row]:
    """Rows of a csv file; a first line ``sep=;`` says its delimiter, as Excel writes it."""
    first = next(lines, "")
    declared = _SEPARATOR.match(first)
    before = 1 if declared else 0
    mark = delimiter or (declared[1] if declared else default)
    reader = csv.reader(lines if declared else itertools.chain([first], lines), delimiter=mark, strict=True)
    previous = before
    try:
        header = next(filter(None, reader), None)
        if not header:
            return
        where = positions(name, header, wanted.columns, _other_delimiter(header, mark))
        previous = before + reader.line_num
        for record in reader:
            place = f"{name}:{previous + 1}"
            previous = before + reader.line_num
            if not record:
                continue
            if len(record) != len(header):
                raise DataError(
                    "data.row-length", f"{place}: the row has {len(record)} fields, the header has {len(header)}"
                )
            yield Row(place, {column: record[at] for column, at in zip(wanted.columns, where, strict=True)})
    except csv.Error as error:
        # An open quote is noticed at the end of the file; what has to be mended is where its row starts.
        raise DataError(
            "data.csv-broken", f"{name}:{previous + 1}: broken csv in the row that starts here: {error}"
        ) from error


_DELIMITERS = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma"}


def _other_delimiter(header: Sequence[str], used: str) -> str:
    """What to do where the header of a csv file came out as one column; empty where it did not."""
    mark = next((mark for mark in _DELIMITERS if mark != used and len(header) == 1 and mark in header[0]), None)
    shown = '"\\t"' if mark == "\t" else f'"{mark}"'
    return f" (the header looks {_DELIMITERS[mark]}-separated: set delimiter: {shown}, or write commas)" if mark else ""


def parquet_rows(handle: BinaryIO, name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of a parquet file; a column without text is refused by its type, before a row is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(handle)
        check_schema(file.schema_arrow, name, wanted)
        batches = file.iter_batches(PARQUET_ROWS, columns=list(wanted.columns))
        yield from arrow_rows(batches, name, wanted, names_in_parquet(file.schema_arrow.metadata))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        handle.seek(0)
        known = something_else(head, name) if not (head := handle.read(4096)).startswith(b"PAR1") else ""
        if known:
            raise DataError("data.format-unreadable", f"{name}: this is {known}") from error
        raise DataError("data.parquet-broken", f"{name}: broken parquet: {str(error).splitlines()[0]}") from error


def check_schema(schema: Any, name: str, wanted: Wanted) -> None:
    """:raises DataError: when a wanted column is missing, is there twice, or has no text."""
    where = positions(name, schema.names, wanted.columns)
    for column, at in zip(wanted.columns, where, strict=True):
        if holds := arrow_without_text(schema.field(at).type, column in wanted.structured, wanted.lists):
            raise DataError(
                "data.column-not-text",
                f"{name}: column {column!r} holds {holds}, which are no text: cast it to string first",
            )


def arrow_rows(
    batches: Iterable[Any], name: str, wanted: Wanted, classes: Mapping[str, Sequence[str]]
) -> Iterator[Row]:
    """Rows of Arrow batches or tables that have the wanted columns; integers of ``classes`` by their names."""
    names = [classes.get(column) for column in wanted.columns]
    number = 0
    for batch in batches:
        columns = [_values(batch.column(batch.schema.get_field_index(column))) for column in wanted.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            place = f"{name}:row {number}"
            if any(names):
                cells = with_names(cells, names, place)
            yield Row(place, wanted.texts(place, cells))


def _values(column: Any) -> list[Any]:
    """A column as Python's values; narrow floats as they are written, not as wide ones that are near them."""
    import pyarrow.types as types

    if types.is_float16(column.type) or types.is_float32(column.type):
        array = column.to_numpy(zero_copy_only=False) if hasattr(column, "buffers") else column.to_numpy()
        both = zip(column.to_pylist(), array, strict=True)
        return [None if one is None else float(str(narrow)) for one, narrow in both]
    return list(column.to_pylist())
