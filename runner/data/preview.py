"""A look at the rows of a file before a run: what the run itself would read, and why a path is no file.

A thin face of :mod:`runner.data.reading`, so that whatever passes here is read there.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from itertools import islice

from runner.data.reading import ColumnError, Row, Source, read_rows

BEGINNING_BYTES, BEGINNING_ROWS = 64 << 20, 1000
"""Of a file that is larger and of which the ``beginning`` is enough, so many rows are read."""

_NO_COLUMN = "\0"
"""The name of no column: asking for it makes the reader say which there are."""


def preview_rows(
    source: Source,
    columns: Sequence[str],
    structured: Sequence[str] = (),
    beginning: bool = False,
    lists: bool = False,
) -> Iterator[Row]:
    """The rows of a local file as :func:`~runner.data.reading.read_rows` reads them: all of them, or its ``beginning``.

    :raises DataError: as ``read_rows``.
    """
    large = beginning and os.path.getsize(source.path.removeprefix("file://")) > BEGINNING_BYTES
    return islice(read_rows(source, columns, structured, lists=lists), BEGINNING_ROWS if large else None)


def column_names(source: Source) -> tuple[str, ...]:
    """The columns of a source as its header, its schema or its first object has them, in order; none where it is empty.

    :raises DataError: as ``read_rows``.
    """
    try:
        next(read_rows(source, [_NO_COLUMN]), None)
    except ColumnError as error:
        return error.known
    return ()


def not_a_file(path: str) -> tuple[str, str] | None:
    """Why ``path`` is no file that can be read, as code and message; None when it is one."""
    shown = shown_path(path)
    try:
        if os.path.isfile(path):
            return None
        if os.path.isdir(path):
            return "data.is-folder", f"{shown!r} is a folder: name its files, such as {os.path.join(shown, '*.csv')!r}"
        if os.path.exists(path):
            return "data.not-a-file", f"{shown!r} is not a plain file"
        if os.path.islink(path):
            return "data.link-broken", f"{shown!r} is a link that leads nowhere: to {os.readlink(path)!r}"
        names = os.listdir(os.path.dirname(path))
    except (OSError, ValueError):
        return "data.not-found", f"there is no file {shown!r}"
    close = difflib.get_close_matches(os.path.basename(path), names[:10_000], n=1)
    hint = f" (did you mean {os.path.join(os.path.dirname(shown), close[0])!r}?)" if close else ""
    return "data.not-found", f"there is no file {shown!r}{hint}"


def shown_path(path: str) -> str:
    """The path as short as it can be said: relative to where the user stands, if it lies below."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
