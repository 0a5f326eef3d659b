"""The run folder, on any file system that fsspec knows: stages by fingerprint, markers last.

::

    RUN/run.json                          the last run: spec, stages, versions
    RUN/<stage>/<fingerprint>/...         what a stage wrote
    RUN/<stage>/<fingerprint>/done.json   its marker, written last: without it the rest does not count
    RUN/answers/<teacher>/*.parquet       raw answers of the teacher, one file for each batch of rows
    RUN/checkpoints/<fingerprint>/...     of a training that has not finished
    RUN/events*.jsonl                     what happened when, run after run

Knows nothing of what the stages do. That one run at a time works in it, ``runner/rundir/lock.py`` sees to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import posixpath
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.rundir.filesystem import file_system, is_local
from runner.system.errors import DataError, UserError, first_line
from runner.system.sanitize import without_secrets

MARKER = "done.json"


def fingerprint(value: object) -> str:
    """A short name for a JSON-able value: equal values, equal names."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Folder:
    """A folder on some file system; paths given to its methods are relative to it."""

    url: str

    def _fs(self) -> tuple[Any, str]:
        # A listing that was true a minute ago is not enough: workers elsewhere write here too.
        return file_system(self.url, use_listings_cache=False)

    @property
    def local(self) -> Path | None:
        """The folder as a local path, or None where it is remote."""
        fs, root = self._fs()
        return Path(root) if is_local(fs) else None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return posixpath.basename(self.url)

    def child(self, *names: str) -> Folder:
        """A folder below this one."""
        return Folder(posixpath.join(self.url, *names))

    def path(self, name: str) -> str:
        """The full URL of a file in this folder."""
        return posixpath.join(self.url, name)

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        fs, root = self._fs()
        return bool(fs.exists(posixpath.join(root, name)))

    def names(self, suffix: str = "") -> list[str]:
        """The names of the files in this folder that end with ``suffix``, sorted."""
        fs, root = self._fs()
        if not fs.exists(root):
            return []
        names = (posixpath.basename(str(path)) for path in fs.ls(root, detail=False))
        return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        fs, root = self._fs()
        data: bytes = fs.cat_file(posixpath.join(root, name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file or nothing: a reader never sees a part of it.

        :raises UserError: when the disk is full or may not be written to; the old file, if any, stays.
        """
        fs, root = self._fs()
        target = posixpath.join(root, name)
        with explained(self.path(name)):
            fs.makedirs(posixpath.dirname(target), exist_ok=True)
            if self.local is None:
                fs.pipe_file(target, data)  # object stores put whole objects
            else:
                _write_local(Path(target), data)

    def read_json(self, name: str) -> Any:
        """The value in a JSON file."""
        return json.loads(self.read(name))

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, atomically."""
        self.write(name, json.dumps(value, indent=2, ensure_ascii=False).encode())

    def read_table(self, name: str) -> pa.Table:
        """The table in a parquet file. :raises DataError: when it is damaged, which no stop of a run leaves behind."""
        raw = self.read(name)
        try:
            return pq.read_table(pa.BufferReader(raw))
        except (OSError, pa.ArrowException) as error:
            where = without_secrets(posixpath.join(self.url, name))
            raise DataError(
                "run.file-damaged",
                f"{where}: damaged ({first_line(error)}); remove it if it lies in answers/, else the folder that it "
                "lies in, and run again: what it held is done again",
            ) from error

    def read_footer(self, name: str) -> pq.FileMetaData:
        """What a parquet file says of itself; its rows are not read."""
        fs, root = self._fs()
        with fs.open(posixpath.join(root, name), "rb") as handle:
            return pq.read_metadata(handle)

    def read_schema(self, name: str) -> pa.Schema:
        """The columns of a parquet file; its rows are not read."""
        return self.read_footer(name).schema.to_arrow_schema()

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a parquet file, atomically."""
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        self.write(name, buffer.getvalue().to_pybytes())

    def state(self, *names: str) -> str:
        """A short name for these files as they are now; other content has another one. Reads none of them."""
        fs, root = self._fs()
        return fingerprint([[name, str(fs.ukey(posixpath.join(root, name)))] for name in names])

    def upload(self, source: Path, name: str) -> None:
        """Copy a local folder into this one, under ``name``."""
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            self.write(posixpath.join(name, file.relative_to(source).as_posix()), file.read_bytes())

    def fetch(self, name: str, target: Path) -> Path:
        """A local copy of a folder below this one (the folder itself where it is local)."""
        if self.local is not None:
            return self.local / name
        fs, root = self._fs()
        fs.get(posixpath.join(root, name) + "/", str(target) + "/", recursive=True)
        return target

    def folders(self) -> list[str]:
        """The names of the folders in this one, sorted."""
        fs, root = self._fs()
        if not fs.exists(root):
            return []
        return sorted(
            posixpath.basename(str(entry["name"])) for entry in fs.ls(root, detail=True) if entry["type"] == "directory"
        )

    def remove(self, name: str) -> None:
        """Remove one file."""
        fs, root = self._fs()
        fs.rm(posixpath.join(root, name))

    def clear(self) -> None:
        """Remove the folder and all that is in it."""
        fs, root = self._fs()
        if fs.exists(root):
            fs.rm(root, recursive=True)

    @property
    def done(self) -> dict[str, Any] | None:
        """What the marker says, or None where the stage has not finished here."""
        if not self.exists(MARKER):
            return None
        marker: dict[str, Any] = self.read_json(MARKER)
        return marker

    def finish(self, marker: dict[str, Any]) -> None:
        """Write the marker: from now on this folder counts."""
        self.write_json(MARKER, marker)


def _write_local(target: Path, data: bytes) -> None:
    """Temporary sibling, fsync, rename: after a crash there is the old file or the new one."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """File system errors, which the user can mend, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                "run.disk-full", f"{where}: the disk is full; free some space and run again: finished work is kept"
            ) from error
        why = error.strerror or str(error) or type(error).__name__
        raise UserError(
            "run.not-writable",
            f"{where}: may not be written ({why}); choose another --runs-dir (of `predict`: another -o)",
        ) from error
