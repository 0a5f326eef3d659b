"""Rows from files (globs, any fsspec URL) and from Hub data sets: how a source becomes rows of text.

Every row comes with the place where it stands, for messages. Data is only ever read as data. ``validate`` and ``run``
read with this code, so that what one accepts the other reads.
"""

from __future__ import annotations

import glob
import hashlib
import heapq
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

from runner.data import tables
from runner.data.class_labels import names_in_parquet
from runner.data.file_kinds import BUFFER, READABLE, decoded_lines, stored_as, unpacked, without_packing
from runner.data.json_rows import json_rows, jsonl_rows
from runner.data.tables import ColumnError, Row, Wanted
from runner.data.workbook import xlsx_rows
from runner.rundir.filesystem import file_system
from runner.system.errors import DataError, first_line

__all__ = [
    "ColumnError",
    "Row",
    "Source",
    "class_names",
    "count_rows",
    "files_of",
    "read_rows",
    "row_id",
    "without_rows",
]


@dataclass(frozen=True)
class Source:
    """Where rows come from. ``path`` is a file, a glob or a URL, or the Hub name with format ``hub``.

    ``limit`` texts are chosen by the ids of the column ``by``; None reads all rows.
    """

    path: str
    format: str = "auto"
    split: str = "train"
    revision: str | None = None
    limit: int | None = None
    encoding: str | None = None
    delimiter: str | None = None
    by: str = "text"

    def known(self) -> dict[str, Any]:
        """What it is known by: without the fields that are as they always were, so that old parts are found again."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        new = {one.name: one.default for one in fields(self) if one.name in ("encoding", "delimiter", "by")}
        if self.limit is not None:
            found["limit"] = {"texts": self.limit}  # once it was rows, from the start
        else:
            found.pop("by")
        return {name: value for name, value in found.items() if name not in new or value != new[name]}


def row_id(text: str) -> str:
    """The stable id of a text: equal texts, equal ids, on every machine."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def read_rows(
    source: Source,
    columns: Sequence[str],
    structured: Sequence[str] = (),
    skipped: Callable[[str], None] | None = None,
    lists: bool = False,
) -> Iterator[Row]:
    """The rows of all files of a source, in the order of file names; files without rows are told to ``skipped``.

    ``structured`` columns may hold objects of JSON or structs, with ``lists`` lists as well, which become JSON.

    :raises DataError: when a file is missing, broken, in another encoding, lacks one of ``columns``, has it twice, or
        a cell of it has no text.
    """
    wanted = Wanted(tuple(dict.fromkeys(columns)), frozenset(structured), lists)
    if source.limit is None:
        yield from _all_rows(source, wanted, skipped)
        return
    last = _last_id(source, source.limit)
    both = Wanted(tuple(dict.fromkeys([*wanted.columns, source.by])), wanted.structured, lists)
    for row in _all_rows(source, both, skipped):
        text = row.values[source.by]
        if text.strip() and row_id(text) <= last:
            yield Row(row.place, {column: row.values[column] for column in wanted.columns})


def without_rows(files: Sequence[str]) -> str:
    """What is said of files that were skipped because they have no rows."""
    names = ", ".join(file.rsplit("/", 1)[-1] for file in files[:5]) + (", ..." if len(files) > 5 else "")
    have = "has no row and counts" if len(files) == 1 else "have no row and count"
    return f"{len(files)} of its files {have} for nothing: {names}"


def _last_id(source: Source, limit: int) -> str:
    """The largest of the ``limit`` smallest ids of the source's texts.

    So the choice follows neither the order of rows nor how often a text is there, and it is nearly the same when the
    file grows: a new text takes the place of another one only where its id is smaller.
    """
    chosen: set[int] = set()
    largest: list[int] = []  # negative: a heap gives its smallest
    for row in _all_rows(source, Wanted((source.by,)), None):
        number = int(row_id(row.values[source.by]), 16)
        if number in chosen or not row.values[source.by].strip():
            continue
        if len(largest) < limit:
            heapq.heappush(largest, -number)
        elif number < -largest[0]:
            chosen.remove(-heapq.heapreplace(largest, -number))
        else:
            continue
        chosen.add(number)
    return f"{-largest[0]:020x}" if largest else ""


def count_rows(source: Source) -> int | None:
    """About how many rows a source has; None where only reading all of it would tell (packed, remote, Hub).

    Parquet files say it; in text files it is the lines, which is too many where fields hold line ends.
    """
    if source.format == "hub":
        return None
    total = 0
    for file in files_of(source):
        if (form := _format(file, source.format)) == "parquet":
            total += _parquet_count(file)
        elif form in ("json", "xlsx") or without_packing(file)[1] or not file.startswith("file://"):
            return None
        else:
            with _opened(file) as handle:
                lines = sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(2**20), b""))
            total += max(0, lines - (form in ("csv", "tsv")))
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

    try:
        with _opened(file) as handle:
            return names_in_parquet(pq.read_schema(handle).metadata)
    except (pa.ArrowException, OSError):
        return {}  # reading the rows says what is wrong


def _parquet_count(file: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _opened(file) as handle:
            if not handle.read(1):
                return 0
            handle.seek(0)
            return int(pq.read_metadata(handle).num_rows)
    except (pa.ArrowException, OSError) as error:
        name = file.rsplit("/", 1)[-1]
        raise DataError("data.parquet-broken", f"{name}: broken parquet: {str(error).splitlines()[0]}") from error


def files_of(source: Source) -> list[str]:
    """The files that a path or glob means, sorted, as URLs. :raises DataError: when there are none."""
    try:
        found, folder = _found(source.path)
    except (OSError, ValueError) as error:
        raise DataError("data.not-readable", f"{source.path}: cannot be read: {first_line(error)}") from error
    if folder:
        raise DataError(
            "data.is-folder",
            f"{source.path}: is a folder; say which files of it, such as {source.path.rstrip('/')}/*.csv",
        )
    if not found:
        raise DataError("data.not-found", f"{source.path}: no such file, and no file matches")
    return found


def _found(path: str) -> tuple[list[str], bool]:
    """The files as URLs, and whether it is a folder. Only what is no file is a pattern: names may have brackets."""
    if (local := _local(path)) is not None:
        local = os.path.abspath(local)
        files = [local] if os.path.isfile(local) else sorted(glob.glob(local, recursive=True))
        folder = files == [local] and os.path.isdir(local)
        files = [file for file in files if os.path.isfile(file) or os.path.isdir(file)]  # a pipe would never end
        return [] if folder else [f"file://{file}" for file in files], folder
    fs, path = file_system(path)
    files = [path] if fs.isfile(path) else sorted(fs.glob(path)) if glob.has_magic(path) else []
    return [fs.unstrip_protocol(file) for file in files], not files and fs.isdir(path)


def _local(file: str) -> str | None:
    """The path of a file on this machine; None for other URLs."""
    path = file.removeprefix("file://")
    return None if "://" in path else path


def _opened(file: str) -> BinaryIO:
    if (local := _local(file)) is not None:
        return open(local, "rb", buffering=BUFFER)
    fs, path = file_system(file)
    return fs.open(path, "rb")  # type: ignore[no-any-return]


def _all_rows(source: Source, wanted: Wanted, skipped: Callable[[str], None] | None) -> Iterator[Row]:
    for file in [source.path] if source.format == "hub" else files_of(source):
        row = None
        for row in _hub_rows(source, wanted) if source.format == "hub" else _file_rows(file, source, wanted):
            yield row
        if row is None and skipped:
            skipped(file)


def _file_rows(file: str, source: Source, wanted: Wanted) -> Iterator[Row]:
    name, kind, row = file.rsplit("/", 1)[-1], _format(file, source.format), None
    try:
        with _opened(file) as handle:
            for row in _rows(handle, name, kind, source, wanted):
                yield row
    except PermissionError as error:
        raise DataError("data.no-permission", f"{name}: may not be read: its permissions forbid it") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        after = f" after {row.place}" if row else ""
        raise DataError(
            "data.not-readable", f"{name}: cannot be read{after}: {str(error) or type(error).__name__}"
        ) from error


def _rows(handle: BinaryIO, name: str, kind: str, source: Source, wanted: Wanted) -> Iterator[Row]:
    if kind in ("parquet", "xlsx") and not handle.read(1):
        return iter(())  # as a text file of zero bytes
    handle.seek(0)
    if kind == "parquet":
        return tables.parquet_rows(handle, name, wanted)
    if kind == "xlsx":
        return xlsx_rows(handle, name, wanted)
    lines = decoded_lines(*unpacked(handle, name), name, source.encoding)
    if kind == "jsonl":
        return jsonl_rows(lines, name, wanted)
    if kind == "json":
        return json_rows(lines, name, wanted)
    by_tabs = kind == "tsv" or without_packing(name)[0].lower().endswith(".tsv")
    return tables.csv_rows(lines, name, wanted, source.delimiter, "\t" if by_tabs else ",")


def _format(file: str, wanted: str) -> str:
    if (kind := stored_as(file, wanted)) is not None:
        return kind
    raise DataError(
        "data.format-unknown",
        f"{file}: cannot tell the format from the name: let it end in {READABLE}, or say its format "
        "(format in the spec, --format)",
    )


def _hub_rows(source: Source, wanted: Wanted) -> Iterator[Row]:
    import datasets

    try:
        # With the prefix a folder of that name on this machine is not taken for it.
        data = datasets.load_dataset(
            f"hf://datasets/{source.path}", split=source.split, revision=source.revision
        ).with_format("arrow")
        schema = data.features.arrow_schema
    except Exception as error:  # the library raises dozens of kinds
        raise DataError(
            "data.hub-unavailable",
            f"data set {source.path} (split {source.split}) cannot be had from the Hub: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}; "
            "check the name and the network, or download it once and give its parquet file as path",
        ) from error
    tables.check_schema(schema, source.path, wanted)
    chosen = data.select_columns(list(wanted.columns))
    classes = names_in_parquet(schema.metadata)
    yield from tables.arrow_rows(chosen.iter(tables.PARQUET_ROWS), source.path, wanted, classes)
