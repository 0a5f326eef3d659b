"""The run folder, on any file system that fsspec knows: stages by fingerprint, markers last, one run at a time.

::

    RUN/run.json                          the last run: spec, stages, versions
    RUN/<stage>/<fingerprint>/...         what a stage wrote
    RUN/<stage>/<fingerprint>/done.json   its marker, written last: without it the rest does not count
    RUN/answers/<teacher>/*.parquet       raw answers of the teacher, one file for each batch of rows
    RUN/checkpoints/<fingerprint>/...     of a training that has not finished
    RUN/events*.jsonl                     what happened when, run after run

Knows nothing of what the stages do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import posixpath
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from runner import signals, supervise
from runner.errors import BusyError, DataError, UserError, first_line
from runner.shown import without_secrets
from runner.storage import file_system

MARKER, LOCK = "done.json", ".lock"
STALE_LOCK_SECONDS = 60.0


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
        return Path(root) if isinstance(fs, LocalFileSystem) else None

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
        found = (posixpath.basename(str(path)) for path in fs.ls(root, detail=False))
        return sorted(name for name in found if name.endswith(suffix) and not name.startswith("."))

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
        with _explained(self.path(name)):
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
                f"{where}: damaged ({first_line(error)}); remove it if it lies in answers/, else the folder that it "
                "lies in, and run again: what it held is done again"
            ) from error

    def read_footer(self, name: str) -> pq.FileMetaData:
        """What a parquet file says of itself; its rows are not read."""
        fs, root = self._fs()
        with fs.open(posixpath.join(root, name), "rb") as handle:
            return pq.read_metadata(handle)

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
            posixpath.basename(str(one["name"])) for one in fs.ls(root, detail=True) if one["type"] == "directory"
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


@contextlib.contextmanager
def locked(folder: Folder, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the run folder for one run; ``say`` is told why it takes a while.

    :raises BusyError: when another run is at work in it. A killed run holds nothing: the system lets go
        of a local lock, and a remote one is stale when nobody has kept it fresh for a minute, which is waited for.
    """
    with _locked_local(folder.local) if folder.local is not None else _locked_remote(folder, say):
        yield


@contextlib.contextmanager
def _locked_local(folder: Path) -> Iterator[None]:
    import fcntl

    with _explained(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 (held open on purpose)
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise _busy(str(folder), handle.read().strip()) from None
        except OSError as error:
            raise UserError(
                f"{folder}: its file system cannot lock files ({error.strerror}), so that two runs could write here at "
                "once; keep the runs elsewhere (--runs-dir)"
            ) from error
        handle.truncate(0)
        handle.write(_owner())
        handle.flush()
        yield
        handle.truncate(0)


@contextlib.contextmanager
def _locked_remote(folder: Folder, say: Callable[[str], None]) -> Iterator[None]:
    _wait_for_stillness(folder, say)
    lock = _RemoteLock(folder)
    lock.take()
    supervise.note(locked=folder.url, lock=lock.id)
    try:
        yield
    finally:
        lock.release()
        supervise.note(lock=None)
    lock.check()


class _RemoteLock:
    """A file that its owner renews. Whoever could not renew it for a while has lost it, and is told to stop."""

    def __init__(self, folder: Folder) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._lost: BusyError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)

    def take(self) -> None:
        """:raises BusyError: when another takes it in the same moment."""
        self._beat("create")
        # Not every object store has an exclusive create: there the last writer wins, and the others see it and leave.
        time.sleep(0.2)
        held = _held(self._folder)
        if held is None or held["id"] != self.id:
            raise _busy(self._folder.url, held["owner"] if held else "")
        self._thread.start()

    def release(self) -> None:
        """Remove it, if it still is ours."""
        self._closing.set()
        self._thread.join()
        let_go(self._folder, self.id)

    def check(self) -> None:
        """:raises BusyError: when another run holds the folder."""
        if self._lost is not None:
            raise self._lost

    def _beat(self, mode: str = "overwrite") -> None:
        told = {"id": self.id, "owner": _owner(), "beat": time.time()}
        fs, root = self._folder._fs()
        with _explained(self._folder.path(LOCK)), contextlib.suppress(FileExistsError):
            fs.makedirs(root, exist_ok=True)
            fs.pipe_file(posixpath.join(root, LOCK), json.dumps(told).encode(), mode=mode)

    def _keep_beating(self) -> None:
        while not self._closing.wait(STALE_LOCK_SECONDS / 4):
            with contextlib.suppress(OSError, UserError):  # one beat lost must not let the lock go stale
                held = _held(self._folder)
                if held is not None and held["id"] != self.id:
                    self._lost = BusyError(
                        f"{self._folder.url}: this run could not keep its lock fresh (a machine that slept or stood "
                        f"still, a network that was away), and another took the folder over ({held['owner']}); this "
                        "one stops. What was finished is kept, the other goes on from there"
                    )
                    signals.interrupt(self._lost)
                    return
                self._beat()


def let_go(folder: Folder, id_: str) -> None:
    """Remove the lock of a remote folder, if it is the one of that id."""
    with contextlib.suppress(OSError):
        held = _held(folder)
        if held is not None and held["id"] == id_:
            folder.remove(LOCK)


def _held(folder: Folder) -> dict[str, Any] | None:
    """Who holds a remote folder; None: nobody does. What is no lock, or half of one, is held by somebody unknown."""
    try:
        found = json.loads(folder.read(LOCK))
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    return found if isinstance(found, dict) and {"id", "owner"} <= found.keys() else {"id": "", "owner": "somebody"}


def _wait_for_stillness(folder: Folder, say: Callable[[str], None]) -> None:
    """Until there is no lock. One that is there is either kept fresh, or the leftover of a killed run and removed.

    The clocks of two machines may differ by more than a lock's age, so that it is watched, not dated.
    :raises BusyError: when it is kept fresh.
    """
    first = _held(folder)
    if first is None:
        return
    say(f"{folder.url} is locked by {first['owner']}: waiting up to {STALE_LOCK_SECONDS:.0f} s to see if it still runs")
    end = time.monotonic() + STALE_LOCK_SECONDS
    while (held := _held(folder)) is not None:
        if held != first:
            raise _busy(folder.url, held["owner"])
        if time.monotonic() >= end:
            let_go(folder, first["id"])
            return
        time.sleep(STALE_LOCK_SECONDS / 60)


def _owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _busy(url: str, owner: str) -> BusyError:
    who = f" ({owner})" if owner else ""
    return BusyError(
        f"{url}: another run is at work in this folder{who}; wait for it, stop it, or choose another place"
    )


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
def _explained(where: str) -> Iterator[None]:
    """File system errors, which the user can mend, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{where}: the disk is full; free some space and run again: finished work is kept"
            ) from error
        why = error.strerror or str(error) or type(error).__name__
        raise UserError(
            f"{where}: may not be written ({why}); choose another --runs-dir (of `predict`: another -o)"
        ) from error
