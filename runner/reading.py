"""Rows from csv, jsonl and parquet files (globs, any fsspec URL) and from Hub data sets.

Every row comes with the place where it stands, for messages. Data is only ever read as data.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, BinaryIO

from fsspec.spec import AbstractBufferedFile

from runner.class_labels import names_in_features, names_in_parquet, with_names
from runner.errors import DataError, first_line, not_by_commas
from runner.storage import file_system

LONGEST_BYTES = 2**26
"""Of a line, and of a cell: what is longer (a file of zeros that was packed, a quote that nobody closed) is refused
before it fills the memory."""

PARQUET_ROWS = 1024
"""Rows that are taken out of a parquet file at once: they may be whole documents."""

csv.field_size_limit(LONGEST_BYTES)

_SURROGATES = re.compile("[\ud800-\udfff]")

ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class Source:
    """Where rows come from. ``path`` is a file, a glob or a URL, or the Hub name with format ``hub``."""

    path: str
    format: str = "auto"
    split: str = "train"
    revision: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Row:
    """The wanted columns of one row, and where it stands (``train.csv:17``)."""

    place: str
    values: dict[str, Any]


def read_rows(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of all files of a source, in the order of file names.

    :raises DataError: when a file is missing, empty, broken, not UTF-8, or lacks one of ``columns``.
    """
    rows = _hub_rows(source, columns) if source.format == "hub" else _file_rows(source, columns)
    yield from itertools.islice(rows, source.limit)


def count_rows(source: Source) -> int | None:
    """About how many rows a source has; None where only reading all of it would tell (compressed, remote, Hub).

    Parquet files say it; in text files it is the lines, which is too many where fields hold line ends.
    """
    if source.format == "hub":
        return None
    total = 0
    for file in files_of(source):
        fs, path = file_system(file)
        if (form := _format(file, source.format)) == "parquet":
            total += _parquet_count(fs, path)
        elif file.lower().endswith(".gz") or "file" not in fs.protocol:
            return None
        else:
            with fs.open(path, "rb") as handle:
                lines = sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(2**20), b""))
            total += max(0, lines - (form == "csv"))
    return total if source.limit is None else min(total, source.limit)


def class_names(source: Source) -> list[dict[str, list[str]]]:
    """The names of the classes that each parquet file writes as integers; on the Hub nobody knows before it is read."""
    if source.format == "hub":
        return [{"hub": [source.path]}]
    files = [file for file in files_of(source) if _format(file, source.format) == "parquet"]
    return [names for file in files if (names := _parquet_names(file))]


def _parquet_names(file: str) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fs, path = file_system(file)
    try:
        with fs.open(path, "rb") as handle:
            return names_in_parquet(pq.read_schema(handle).metadata)
    except (pa.ArrowException, OSError):
        return {}  # reading the rows says what is wrong


def _parquet_count(fs: Any, path: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fs.open(path, "rb") as handle:
            return int(pq.read_metadata(handle).num_rows)
    except (pa.ArrowException, OSError) as error:
        name = path.rsplit("/", 1)[-1]
        raise DataError(f"{name}: broken parquet: {str(error).splitlines()[0]}") from error


def files_of(source: Source) -> list[str]:
    """The files that a path or glob means, sorted, as URLs. :raises DataError: when there are none."""
    fs, path = file_system(source.path)
    try:
        # A file may have brackets in its own name: only what is no file is a pattern.
        found = [path] if fs.isfile(path) else sorted(fs.glob(path)) if any(c in path for c in "*?[") else []
        folder = not found and fs.isdir(path)
    except OSError as error:
        raise DataError(f"{source.path}: cannot be read: {first_line(error)}") from error
    if folder:
        raise DataError(f"{source.path}: is a folder; say which files of it, such as {source.path.rstrip('/')}/*.csv")
    if not found:
        raise DataError(f"{source.path}: no such file, and no file matches")
    return [fs.unstrip_protocol(file) for file in found]


def _file_rows(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    for file in files_of(source):
        reader = {"csv": _csv_rows, "jsonl": _jsonl_rows, "parquet": _parquet_rows}[_format(file, source.format)]
        name, row = file.rsplit("/", 1)[-1], None
        try:
            fs, path = file_system(file)
            with fs.open(path, "rb", compression="infer") as handle:
                for row in reader(handle, name, columns):
                    yield row
        except (OSError, EOFError, zlib.error) as error:
            after = f" after {row.place}" if row else ""
            raise DataError(f"{name}: cannot be read{after}: {str(error) or type(error).__name__}") from error


def _format(file: str, wanted: str) -> str:
    if wanted != "auto":
        return wanted
    bare = file.lower().removesuffix(".gz")
    for ending, name in ENDINGS.items():
        if bare.endswith(ending):
            return name
    raise DataError(
        f"{file}: cannot tell the format from the name: let it end in .csv, .jsonl or .parquet (.gz may follow), or "
        "set format in the spec: csv, jsonl or parquet"
    )


def _csv_rows(handle: BinaryIO, name: str, columns: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(_utf8_lines(handle, name), strict=True)
    previous = 0
    try:
        header = next(filter(None, reader), None)
        if not header:
            raise DataError(f"{name}: the file is empty; it needs a header line and at least one row")
        where = _positions(name, header, columns, not_by_commas(header))
        previous = reader.line_num
        for record in reader:
            place = f"{name}:{previous + 1}"
            previous = reader.line_num
            if not record:
                continue
            if len(record) != len(header):
                raise DataError(f"{place}: the row has {len(record)} fields, the header has {len(header)}")
            yield Row(place, {column: record[index] for column, index in where.items()})
    except csv.Error as error:
        # An open quote is noticed at the end of the file; what has to be mended is where its row starts.
        raise DataError(f"{name}:{previous + 1}: broken csv in the row that starts here: {error}") from error


def _jsonl_rows(handle: BinaryIO, name: str, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(_utf8_lines(handle, name), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}:{number}: broken JSON: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"{name}:{number}: expected a JSON object with the columns {', '.join(columns)}")
        _positions(f"{name}:{number}", list(record), columns)
        yield Row(f"{name}:{number}", {column: record[column] for column in columns})


def _parquet_rows(handle: BinaryIO, name: str, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(handle)
        _positions(name, file.schema_arrow.names, columns)
        names = names_in_parquet(file.schema_arrow.metadata)
        classes = {column: names[column] for column in columns if column in names}
        number = 0
        for batch in file.iter_batches(PARQUET_ROWS, columns=list(columns)):
            for record in batch.to_pylist():
                number += 1
                place = f"{name}:row {number}"
                yield Row(place, with_names(record, classes, place))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: broken parquet: {str(error).splitlines()[0]}") from error


def _hub_rows(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    import datasets

    try:
        data = datasets.load_dataset(source.path, split=source.split, revision=source.revision)
    except Exception as error:  # the library raises dozens of kinds
        raise DataError(
            f"data set {source.path} (split {source.split}) cannot be had from the Hub: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}; "
            "check the name and the network, or download it once and give its parquet file as path"
        ) from error
    _positions(source.path, data.column_names, columns)
    names = names_in_features(data.features)
    classes = {column: names[column] for column in columns if column in names}
    for number, record in enumerate(data.select_columns(list(columns)), start=1):
        place = f"{source.path}:row {number}"
        yield Row(place, with_names(dict(record), classes, place))


def _utf8_lines(handle: BinaryIO, name: str) -> Iterator[str]:
    """Decoded lines; a byte that is not UTF-8 is an error with its line, not a guess."""
    for number, line in enumerate(iter(partial(_buffered(handle).readline, LONGEST_BYTES + 1), b""), start=1):
        if len(line) > LONGEST_BYTES:
            raise DataError(
                f"{name}:{number}: a line of more than {LONGEST_BYTES // 2**20} MiB, which is no text to classify; "
                "see that this is the right file, and that it has line ends"
            )
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}); convert the file, "
                "for example with: iconv -f latin1 -t utf-8"
            ) from error
        yield text


def _buffered(handle: Any) -> BinaryIO:
    """The file with a ``readline`` that takes a limit: that of remote files takes none."""
    return io.BufferedReader(handle, 2**20) if isinstance(handle, AbstractBufferedFile) else handle


def _positions(name: str, header: Sequence[str], columns: Sequence[str], advice: str = "") -> dict[str, int]:
    """Where the wanted columns stand. :raises DataError: with ``advice`` or the nearest names, when one is missing."""
    for column in columns:
        if column not in header:
            near = get_close_matches(column, header, n=1)
            known = f" (did you mean {near[0]!r}?)" if near else f"; it has: {', '.join(map(str, header))[:200]}"
            raise DataError(f"{name}: no column {column!r}{advice or known}")
    return {column: list(header).index(column) for column in columns}


def text_of(value: object) -> str:
    """A cell as text that can be stored as UTF-8: lone surrogates become U+FFFD, null becomes empty.

    Lists, mappings and truth values, as JSON lines may hold them, are written as JSON writes them.
    """
    if isinstance(value, bool | list | tuple | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = "" if value is None else value if isinstance(value, str) else str(value)
    return _SURROGATES.sub("\ufffd", text)
