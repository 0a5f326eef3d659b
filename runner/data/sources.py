"""The spec's files as they are read: where each stands, what its content is, and which texts are the same."""

from __future__ import annotations

import hashlib
from typing import Any

from runner.data.reading import Source, files_of
from runner.rundir.filesystem import file_system
from runner.spec import Spec, resolve_path
from runner.spec.model import LabelledSource, TextSource
from runner.tasks.shared.labels import plain

WHOLE_FILE_BYTES = 2**30
"""Files up to this size are known by their content, larger ones by what the file system says of them."""


def source_of(spec: Spec, source: TextSource) -> Source:
    """A spec's source as the reader wants it."""
    path = source.path if source.format == "hub" else resolve_path(spec, source.path)
    return Source(
        path,
        source.format,
        source.split,
        source.revision,
        source.limit,
        source.encoding,
        source.delimiter,
        by=source.text,
    )


def source_key(spec: Spec, source: TextSource) -> dict[str, Any]:
    """All that decides which rows are read from ``source``: its columns, and its files' content."""
    # Limit once was rows, from the start.
    limit = None if source.limit is None else {"texts": source.limit}
    known: dict[str, Any] = {"text": source.text, "limit": limit, "format": source.format}
    known |= {name: value for name in ("encoding", "delimiter") if (value := getattr(source, name)) is not None}
    if isinstance(source, LabelledSource):
        known["label"] = source.label
    if source.format == "hub":
        return known | {"hub": source.path, "split": source.split, "revision": source.revision}
    return known | {"files": [_digest(file) for file in files_of(source_of(spec, source))]}


def _digest(file: str) -> str:
    fs, path = file_system(file)
    if fs.size(path) > WHOLE_FILE_BYTES:
        return str(fs.ukey(path))
    digest = hashlib.sha256()
    with fs.open(path, "rb") as handle:
        while chunk := handle.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def normalised(text: str) -> str:
    """A text as leaks are compared: capitals, blanks and composed characters do not make it another one."""
    return plain(text)
