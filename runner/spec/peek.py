"""A first look into one data file on this machine: its columns, whether it has rows, its labels.

Reads the first 64 KiB, except for the labels. Every failure is a DataError that speaks of the file's
content only; the caller knows the file's name. Knows nothing of specs.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from runner.errors import DataError

HEAD_BYTES = 64 << 10
LABEL_BYTES = 50 << 20


class Peek(NamedTuple):
    """``columns`` is None where the beginning of the file does not tell."""

    columns: list[str] | None
    has_rows: bool


def peek(path: str, kind: str) -> Peek:
    """The columns of the ``csv``, ``jsonl`` or ``parquet`` file at ``path``. Raises DataError."""
    if kind == "parquet":
        return _peek_parquet(path)
    raw = _read(path, HEAD_BYTES + 1)
    cut = len(raw) > HEAD_BYTES
    text = _decode(raw[:HEAD_BYTES], cut)
    return _peek_csv(text) if kind == "csv" else _peek_jsonl(text, cut)


def labels(path: str, kind: str, column: str) -> Iterator[tuple[int, Any]]:
    """Each row's value of ``column`` with the line that it starts in; nothing for a file over 50 MB.

    Raises DataError.
    """
    raw = _read(path, LABEL_BYTES + 1)
    if len(raw) > LABEL_BYTES:
        return
    text = _decode(raw, cut=False)
    if kind == "csv":
        rows = _csv_rows(text)
        _, header = next(rows, (0, []))
        place = header.index(column) if column in header else len(header)
        for line, row in rows:
            yield line, row[place] if place < len(row) else ""
    else:
        for line, item in _json_rows(text):
            yield line, item.get(column)


def _read(path: str, limit: int) -> bytes:
    try:
        with gzip.open(path, "rb") if path.lower().endswith(".gz") else open(path, "rb") as stream:
            return stream.read(limit)
    except PermissionError:
        raise DataError("may not be read: its permissions forbid it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {str(error)[:200]}") from None


def _decode(raw: bytes, cut: bool) -> str:
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=not cut)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"line {line}: the byte 0x{error.object[error.start]:02x} is not UTF-8: save the file as UTF-8"
        ) from None


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lets the csv module read cells of any size; the limit is the process's, so it is put back."""
    before = csv.field_size_limit(LABEL_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line that it starts in."""
    reader = csv.reader(io.StringIO(text, newline=""))
    while True:
        line = reader.line_num + 1
        try:
            with _long_cells():
                row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"line {line}: this is not CSV: {error}") from None
        if row is None:
            return
        if row:
            yield line, row


def _peek_csv(text: str) -> Peek:
    rows = _csv_rows(text)
    _, header = next(rows, (0, []))
    twice = sorted({name for name in header if header.count(name) > 1}) if len(header) < 1000 else []
    if twice:
        raise DataError(f"the header has the column {twice[0]!r} twice")
    return Peek(header, next(rows, None) is not None)


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its line. Lines end at LF only: JSON text may hold the other separators."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"line {number}: every line must be JSON, and this is not") from None
        if not isinstance(item, dict):
            raise DataError(f'line {number}: expected an object such as {{"text": "..."}}')
        yield number, item


def _peek_jsonl(text: str, cut: bool) -> Peek:
    if cut:
        whole, newline, _ = text.rpartition("\n")
        if not newline:  # one line longer than the part that was read
            return Peek(None, True)
        text = whole
    columns: dict[str, None] = {}
    empty = True
    for _, item in _json_rows(text):
        empty = False
        columns |= dict.fromkeys(item)
    return Peek(None, True) if cut and empty else Peek(list(columns), not empty)


def _peek_parquet(path: str) -> Peek:
    # Only for parquet: importing it takes longer than checking a spec.
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            return Peek(list(file.schema_arrow.names), file.metadata.num_rows > 0)
    except PermissionError:
        raise DataError("may not be read: its permissions forbid it") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"this is not a Parquet file: {str(error).splitlines()[0][:200]}") from None
