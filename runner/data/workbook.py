"""Rows of the first sheet of a workbook of Excel."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from runner.data.file_kinds import something_else
from runner.data.tables import Row, Wanted, positions
from runner.system.errors import DataError

WORKBOOK_BYTES = 2**30
"""Of a workbook, unpacked: it is read with all its texts in memory."""


def xlsx_rows(handle: BinaryIO, name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of the first sheet of a workbook; its first row that is not empty is the header."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            "data.openpyxl-missing",
            f"{name}: reading workbooks needs openpyxl: pip install 'tutelage[xlsx]' (where this runs and on all "
            "nodes), or save the sheet as CSV in UTF-8",
        ) from None
    check_workbook(handle, name)
    try:
        shown, written = (openpyxl.load_workbook(handle, read_only=True, data_only=only) for only in (True, False))
        sheets = [book.worksheets[0] for book in (shown, written)]
    except (KeyError, ValueError, IndexError, OSError, zipfile.BadZipFile, SyntaxError) as error:
        raise DataError("data.workbook-broken", f"{name}: broken workbook: {error}") from error
    for sheet in sheets:
        sheet.reset_dimensions()  # some programs write wrong ones
    yield from _sheet_rows(_sheet_cells(sheets, name), name, wanted)


def _sheet_cells(sheets: Sequence[Any], name: str) -> Iterator[Any]:
    """Rows of cells, of both readings of a sheet; they are parsed one by one."""
    try:
        yield from zip(*(sheet.iter_rows() for sheet in sheets), strict=True)
    except (KeyError, ValueError, IndexError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("data.workbook-broken", f"{name}: broken workbook: {error}") from error


def check_workbook(handle: BinaryIO, name: str) -> None:
    """:raises DataError: when it is no workbook, a broken one, or one that unpacks to more than can be read."""
    head = handle.read(4096)
    handle.seek(0)
    if not head.startswith(b"PK"):
        said = something_else(head, name) or "no workbook: let its name end in what it is, such as .csv"
        raise DataError("data.format-unreadable", f"{name}: this is {said}")
    try:
        size = sum(entry.file_size for entry in zipfile.ZipFile(handle).infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError("data.workbook-broken", f"{name}: broken workbook: {error}") from error
    if size > WORKBOOK_BYTES:
        raise DataError(
            "data.workbook-too-large",
            f"{name}: {size / 2**30:.1f} GiB when unpacked, and a workbook is read into memory as a whole: save the "
            "sheet as CSV in UTF-8",
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
                raise DataError(
                    "data.cell-error", f"{place}: column {column!r} holds the error {cell.value}: mend the workbook"
                )
            if formula is not None and formula.data_type == "f" and (cell is None or cell.value is None):
                raise DataError(
                    "data.formula-unstored",
                    f"{place}: column {column!r} holds a formula whose result is not stored: open the workbook in a "
                    "spreadsheet program and save it",
                )
            values.append(None if cell is None else cell.value)
        yield Row(place, wanted.texts(place, values))
