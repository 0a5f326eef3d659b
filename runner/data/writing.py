"""Predictions in one file: which formats that may be, by its name, and how each is written."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.file_kinds import stored_as, without_packing
from runner.rundir.filesystem import file_system
from runner.system.errors import UserError

WRITABLE = ".csv, .tsv, .jsonl, .json or .parquet (.gz, .bz2, .zst or .xz may follow the text formats)"

_AN_ENDING = re.compile(r"\.(?!v\d)[a-z][a-z0-9]{1,6}", re.IGNORECASE)
"""Of a file, as far as can be told: ``labelled.2024``, ``labelled.v2`` and ``labelled.d`` are names of folders."""


def form_of(out: str) -> str | None:
    """How one file is written, by its ending (``csv``); None for a folder of parts.

    :raises UserError: when the ending is that of a file, and of none that can be written.
    """
    if out.endswith("/"):
        return None
    name = out.rpartition("/")[2]
    kind = stored_as(name)
    if kind is not None and kind != "xlsx":
        return kind
    endings = _AN_ENDING.findall(name)
    if endings and name.endswith(endings[-1]):
        advice = "a workbook is made of a .csv by any spreadsheet program; " if kind == "xlsx" else ""
        raise UserError(
            "predict.output-format",
            f"{out}: no {endings[-1]} file can be written; {advice}let it end in {WRITABLE}, or in / for a folder of "
            "parquet parts",
        )
    return None


def write_file(tables: Iterator[pa.Table], out: str, form: str) -> None:
    """All ``tables`` as one file: written beside it and renamed, so that half a file is never taken for all."""
    fs, path = file_system(out)
    half = f"{path}.half"
    with fs.open(half, "wb") as handle:
        if form == "parquet":
            _write_parquet(tables, handle)
        else:
            packed = _packed(handle, without_packing(path)[1])
            text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
            _TEXT[form](tables, text)
            text.flush()
            text.detach()
            if packed is not handle:
                packed.close()
    fs.mv(half, path)


def _packed(handle: BinaryIO, packing: str | None) -> Any:
    if packing is None:
        return handle
    if packing == "gzip":  # without name and time: equal rows, equal files
        return gzip.GzipFile("", "wb", fileobj=handle, mtime=0)
    if packing == "zstd":
        return pa.CompressedOutputStream(pa.PythonFile(_LeftOpen(handle), mode="w"), "zstd")
    if packing == "xz":
        import lzma

        return lzma.LZMAFile(handle, "wb")
    return bz2.BZ2File(handle, "wb")


class _LeftOpen(io.RawIOBase):
    """A file that is not closed with what writes into it: a remote one is stored as it is closed."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """All of it."""
        return self._handle.write(bytes(data))


def _write_parquet(tables: Iterator[pa.Table], handle: Any) -> None:
    writer: Any = None
    for table in tables:
        writer = writer or pq.ParquetWriter(handle, table.schema)
        writer.write_table(table)
    writer.close()


def _write_csv(tables: Iterator[pa.Table], handle: io.TextIOWrapper, delimiter: str = ",") -> None:
    writer = csv.writer(handle, delimiter=delimiter)
    for number, table in enumerate(tables):
        if not number:
            writer.writerow(table.column_names)
        writer.writerows(map(_flat, _cells(table)))


def _flat(row: Sequence[Any]) -> list[Any]:
    """A row whose lists are JSON: a cell holds a text."""
    return [json.dumps(cell, ensure_ascii=False) if isinstance(cell, list) else cell for cell in row]


def _write_tsv(tables: Iterator[pa.Table], handle: io.TextIOWrapper) -> None:
    _write_csv(tables, handle, "\t")


def _write_jsonl(tables: Iterator[pa.Table], handle: io.TextIOWrapper) -> None:
    for record in _records(tables):
        handle.write(record + "\n")


def _write_json(tables: Iterator[pa.Table], handle: io.TextIOWrapper) -> None:
    """An array, with a row on each line."""
    before = "[\n"
    for record in _records(tables):
        handle.write(before + record)
        before = ",\n"
    handle.write("\n]\n")


def _records(tables: Iterator[pa.Table]) -> Iterator[str]:
    for table in tables:
        for row in _cells(table):
            yield json.dumps(dict(zip(table.column_names, row, strict=True)), ensure_ascii=False)


_TEXT: dict[str, Callable[[Iterator[pa.Table], io.TextIOWrapper], None]] = {
    "csv": _write_csv,
    "tsv": _write_tsv,
    "jsonl": _write_jsonl,
    "json": _write_json,
}


def _cells(table: pa.Table) -> Iterator[Sequence[Any]]:
    """Rows with probabilities of four digits: the rest is noise, and twice the file."""
    columns = [
        [None if value is None else round(value, 4) for value in column.to_pylist()]
        if pa.types.is_floating(column.type)
        else column.to_pylist()
        for column in table.columns
    ]
    return zip(*columns, strict=True)
