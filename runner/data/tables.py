"""Rows of one file in each format: the wanted columns as text, each row with the place where it stands.

All formats have the same rules: a wanted column stands there once, every cell has a text (:mod:`runner.data.cells`),
and what does not fit is an error with its line. Knows no globs and no specs.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from runner.data.cells import Number, arrow_without_text, kind_of, text_of
from runner.data.class_labels import names_in_parquet, with_names
from runner.data.file_kinds import LONGEST_BYTES, something_else
from runner.system.errors import DataError, did_you_mean

PARQUET_ROWS = 1024
"""Rows that are taken out of a parquet file at once: they may be whole documents."""

WORKBOOK_BYTES = 2**30
"""Of a workbook, unpacked: it is read with all its texts in memory."""

csv.field_size_limit(LONGEST_BYTES)

_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n?\Z')


@dataclass(frozen=True)
class Wanted:
    """The columns that are read, and those of them in which objects may stand."""

    columns: tuple[str, ...]
    structured: frozenset[str] = frozenset()

    def texts(self, place: str, cells: Iterable[Any]) -> dict[str, str]:
        """The cells of one row, in the order of the columns, as text. :raises DataError: when one has none."""
        found = {}
        for column, cell in zip(self.columns, cells, strict=True):
            try:
                found[column] = text_of(cell, column in self.structured)
            except ValueError as error:
                raise DataError(f"{place}: column {column!r} holds {error}") from None
        return found


@dataclass(frozen=True)
class Row:
    """The wanted columns of one row as text, and where it stands (``train.csv:17``)."""

    place: str
    values: dict[str, str]


class ColumnError(DataError):
    """Wanted columns are missing at ``place``; ``missing`` has advice for each, such as the nearest name.

    Made of its message alone, as every error is that may come from a worker.
    """

    place: str = ""
    missing: dict[str, str] = {}  # noqa: RUF012 (of an error of none)

    @classmethod
    def of(cls, place: str, missing: dict[str, str]) -> ColumnError:
        """The error for ``missing`` at ``place``."""
        error = cls(f"{place}: " + "; ".join(f"no column {column!r}{said}" for column, said in missing.items()))
        error.place, error.missing = place, missing
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
        raise ColumnError.of(place, said)
    if twice := next((column for column in columns if len(at[column]) > 1), None):
        raise DataError(f"{place}: the column {twice!r} is there {_times(len(at[twice]))}: rename one of them")
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
                raise DataError(f"{place}: the row has {len(record)} fields, the header has {len(header)}")
            yield Row(place, {column: record[at] for column, at in zip(wanted.columns, where, strict=True)})
    except csv.Error as error:
        # An open quote is noticed at the end of the file; what has to be mended is where its row starts.
        raise DataError(f"{name}:{previous + 1}: broken csv in the row that starts here: {error}") from error


def _other_delimiter(header: Sequence[str], used: str) -> str:
    """What to do where the header of a csv file came out as one column; empty where it did not."""
    mark = next((mark for mark in ";\t|," if mark != used and len(header) == 1 and mark in header[0]), None)
    shown = '"\\t"' if mark == "\t" else f'"{mark}"'
    return f" (its header is parted by {mark!r}: say so with delimiter: {shown}, or write commas)" if mark else ""


class _Twice(dict[str, Any]):
    """An object of JSON in which a key stands twice, of which Python would keep the last."""

    keys_twice: frozenset[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = _Twice(found)
    names = [name for name, _ in pairs]
    twice.keys_twice = frozenset(name for name in names if names.count(name) > 1)
    return twice


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=Number)


def _record(place: str, record: Any, wanted: Wanted) -> Row:
    """A row of an object of JSON."""
    if not isinstance(record, dict):
        raise DataError(
            f"{place}: expected a JSON object with the columns {', '.join(wanted.columns)}, found {_called(record)}"
        )
    if isinstance(record, _Twice) and (twice := [one for one in wanted.columns if one in record.keys_twice]):
        raise DataError(f"{place}: the key {twice[0]!r} is there twice: rename one of them")
    if any(column not in record for column in wanted.columns):
        positions(place, list(record), wanted.columns)
    return Row(place, wanted.texts(place, [record[column] for column in wanted.columns]))


def _called(value: Any) -> str:
    if value is None:
        return "null"
    return "a text" if isinstance(value, str) else "a number" if isinstance(value, int | float) else kind_of(value)


def jsonl_rows(lines: Iterator[str], name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of a file with a JSON object on each line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            record = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: broken JSON: {_said(error)}{_array(line)}") from error
        yield _record(place, record, wanted)


def _said(error: Exception) -> str:
    """Without the line of a decoder that saw one line alone."""
    return f"{error.msg} (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else str(error)


def _array(line: str) -> str:
    return "; a JSON array is read from a .json file (format: json)" if line.lstrip().startswith("[") else ""


def json_rows(lines: Iterator[str], name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of a JSON array of objects, or of objects one after the other, over as many lines as they take."""
    text = _JsonText(lines, name)
    array = text.taken("[")
    number = 0
    while not text.at_end():
        if array and text.taken("]"):
            break
        if array and number and not text.taken(","):
            text.fail("a comma or ] is missing after this object")
        number += 1
        place = text.place(f" (row {number})")
        yield _record(place, text.value(), wanted)
    else:
        if array:
            text.fail("the array does not end: ] is missing")
    if not text.at_end():
        text.fail("there is more behind the end of the array")


class _JsonText:
    """Text that comes line by line, and JSON values that are taken off its beginning."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        self._lines, self._name = lines, name
        self._text, self._at, self._line = "", 0, 1

    def _more(self) -> bool:
        """Take at least as much text again as there is: a long value is not begun anew with each line."""
        rest = self._text[self._at :]
        wanted, parts, size = max(len(rest), 1), [rest], 0
        while size < wanted and (line := next(self._lines, "")):
            parts.append(line)
            size += len(line)
        self._text, self._at = "".join(parts), 0
        return size > 0

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def at_end(self) -> bool:
        """Whether only blanks are left."""
        while True:
            match = _BLANKS.match(self._text, self._at)
            self._advance(match.end() if match else self._at)
            if self._at < len(self._text):
                return False
            if not self._more():
                return True

    def taken(self, mark: str) -> bool:
        """Whether ``mark`` comes next; it is gone then."""
        found = not self.at_end() and self._text.startswith(mark, self._at)
        if found:
            self._at += len(mark)
        return found

    def place(self, row: str) -> str:
        """Where the next value starts."""
        self.at_end()
        return f"{self._name}:{self._line}{row}"

    def value(self) -> Any:
        """The next value."""
        if self.at_end():
            self.fail("a value is missing")
        while True:
            try:
                found, end = _JSON.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > LONGEST_BYTES or not self._more():
                    where = self._text.count("\n", self._at, error.pos) if isinstance(error, _Broken) else 0
                    self.fail(error.msg if isinstance(error, _Broken) else str(error), where)
            else:
                self._advance(end)
                return found

    def fail(self, words: str, further: int = 0) -> NoReturn:
        """:raises DataError: with the line."""
        raise DataError(f"{self._name}:{self._line + further}: broken JSON: {words}")


_Broken = json.JSONDecodeError
_BLANKS = re.compile(r"[ \t\r\n]*")


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
            raise DataError(f"{name}: this is {known}") from error
        raise DataError(f"{name}: broken parquet: {str(error).splitlines()[0]}") from error


def check_schema(schema: Any, name: str, wanted: Wanted) -> None:
    """:raises DataError: when a wanted column is missing, is there twice, or has no text."""
    where = positions(name, schema.names, wanted.columns)
    for column, at in zip(wanted.columns, where, strict=True):
        if holds := arrow_without_text(schema.field(at).type, column in wanted.structured):
            raise DataError(f"{name}: column {column!r} holds {holds}, which are no text: cast it to string first")


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


def xlsx_rows(handle: BinaryIO, name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of the first sheet of a workbook; its first row that is not empty is the header."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{name}: reading workbooks needs openpyxl: pip install 'tutelage[xlsx]' (where this runs and on all "
            "nodes), or save the sheet as CSV in UTF-8"
        ) from None
    _check_workbook(handle, name)
    try:
        shown, written = (openpyxl.load_workbook(handle, read_only=True, data_only=only) for only in (True, False))
        sheets = [book.worksheets[0] for book in (shown, written)]
    except (KeyError, ValueError, IndexError, OSError, zipfile.BadZipFile, SyntaxError) as error:
        raise DataError(f"{name}: broken workbook: {error}") from error
    for sheet in sheets:
        sheet.reset_dimensions()  # some programs write wrong ones
    yield from _sheet_rows(_sheet_cells(sheets, name), name, wanted)


def _sheet_cells(sheets: Sequence[Any], name: str) -> Iterator[Any]:
    """Rows of cells, of both readings of a sheet; they are parsed one by one."""
    try:
        yield from zip(*(sheet.iter_rows() for sheet in sheets), strict=True)
    except (KeyError, ValueError, IndexError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{name}: broken workbook: {error}") from error


def _check_workbook(handle: BinaryIO, name: str) -> None:
    head = handle.read(4096)
    handle.seek(0)
    if not head.startswith(b"PK"):
        said = something_else(head, name) or "no workbook: let its name end in what it is, such as .csv"
        raise DataError(f"{name}: this is {said}")
    try:
        size = sum(entry.file_size for entry in zipfile.ZipFile(handle).infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name}: broken workbook: {error}") from error
    if size > WORKBOOK_BYTES:
        raise DataError(
            f"{name}: {size / 2**30:.1f} GiB when unpacked, and a workbook is read into memory as a whole: save the "
            "sheet as CSV in UTF-8"
        )
    handle.seek(0)


def _sheet_rows(pairs: Iterable[tuple[Any, Any]], name: str, wanted: Wanted) -> Iterator[Row]:
    where: list[int] | None = None
    for number, (cells, formulas) in enumerate(pairs, start=1):
        place = f"{name}:row {number}"
        if all(cell.value is None for cell in (*cells, *formulas)):
            continue
        if where is None:
            header = ["" if cell.value is None else str(cell.value) for cell in cells]
            where = positions(name, header, wanted.columns)
            continue
        values = []
        for column, at in zip(wanted.columns, where, strict=True):
            cell, formula = (row[at] if at < len(row) else None for row in (cells, formulas))
            if cell is not None and cell.data_type == "e":
                raise DataError(f"{place}: column {column!r} holds the error {cell.value}: mend the workbook")
            if formula is not None and formula.data_type == "f" and (cell is None or cell.value is None):
                raise DataError(
                    f"{place}: column {column!r} holds a formula whose result is not stored: open the workbook in a "
                    "spreadsheet program and save it"
                )
            values.append(None if cell is None else cell.value)
        yield Row(place, wanted.texts(place, values))
