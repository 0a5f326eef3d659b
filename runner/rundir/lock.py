"""One run at a time in a run folder.

On a disk of this machine the system holds the lock (``flock``), and frees it with the process. In object stores and
on shares (NFS, SMB, FUSE: what a dead machine has locked there may stay locked) it is a file that its owner renews:
whoever finds one watches it, and takes it over only if it stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from runner.rundir import mounts
from runner.rundir.folder import Folder, explained
from runner.system import signals, supervise
from runner.system.errors import BusyError, UserError

LOCK = ".lock"
STALE_LOCK_SECONDS = 60.0
PATIENCE = 3
"""A patient run waits so many times ``STALE_LOCK_SECONDS`` for another: a machine that dies may work on a while."""
REREAD_SECONDS = (0.05, 0.1, 0.2, 0.4)
"""Between reads of a lock file that is empty or broken: its owner may be writing it at this moment."""

Say = Callable[[str], None]


@contextlib.contextmanager
def locked(folder: Folder, say: Say = lambda _: None, patient: bool = False) -> Iterator[None]:
    """Hold the run folder for one run; ``say`` is told why it takes a while.

    ``patient``: wait for another run to end, as a second attempt does for the first that is still dying.

    :raises BusyError: when another run is using it. A killed run holds nothing: the system releases
        a local lock, and a lock file is stale when nobody has renewed it for a minute, which is waited for.
    """
    end = time.monotonic() + (PATIENCE * STALE_LOCK_SECONDS if patient else 0.0)
    local = folder.local
    by_system = local is not None and not mounts.is_shared(local)
    with _by_the_system(local, say, end) if local is not None and by_system else _by_a_file(folder, say, end):
        yield


@contextlib.contextmanager
def _by_the_system(folder: Path, say: Say, end: float) -> Iterator[None]:
    with explained(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 (held open on purpose)
    with handle:
        _take_from_the_system(handle, folder, say, end)
        handle.truncate(0)
        handle.write(_owner())
        handle.flush()
        yield
        handle.truncate(0)


def _take_from_the_system(handle: IO[str], folder: Path, say: Say, end: float) -> None:
    import fcntl

    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip()
        except OSError as error:
            raise UserError(
                "run.locks-unsupported",
                f"{folder}: its file system cannot lock files ({error.strerror}), so that two runs could write here at "
                "once; put the runs elsewhere (--runs-dir)",
            ) from error
        if time.monotonic() >= end:
            raise _busy(str(folder), owner)
        if not told:
            say(_waits(str(folder), owner, end))
            told = True
        time.sleep(STALE_LOCK_SECONDS / 60)


@contextlib.contextmanager
def _by_a_file(folder: Folder, say: Say, end: float) -> Iterator[None]:
    if left := _left_over(folder, say, end):
        let_go(folder, left["id"])
    lock = _RenewedLock(folder)
    lock.take()
    supervise.note(locked=folder.url, lock=lock.id)
    try:
        yield
    finally:
        lock.release()
        supervise.note(lock=None)
    lock.check()


class _RenewedLock:
    """A lock file that its owner renews. An owner that could not renew it for a while has lost it, and is stopped."""

    def __init__(self, folder: Folder) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._lost: BusyError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._renew_regularly, daemon=True)

    def take(self) -> None:
        """:raises BusyError: when another takes it in the same moment."""
        self._renew(new=True)
        # Not every object store has an exclusive create: there the last writer wins, and the others see it and leave.
        time.sleep(0.2)
        held = _held(self._folder)
        if held is None or held["id"] != self.id:
            raise _busy(self._folder.url, held["owner"] if held else "")
        self._thread.start()

    def release(self) -> None:
        """Remove it, if it is still this run's."""
        self._closing.set()
        self._thread.join()
        let_go(self._folder, self.id)

    def check(self) -> None:
        """:raises BusyError: when another run holds the folder."""
        if self._lost is not None:
            raise self._lost

    def _renew(self, new: bool = False) -> None:
        content = json.dumps({"id": self.id, "owner": _owner(), "beat": time.time()}).encode()
        fs, root = self._folder._fs()
        with explained(self._folder.path(LOCK)), contextlib.suppress(FileExistsError):
            fs.makedirs(root, exist_ok=True)
            if self._folder.local is None:
                fs.pipe_file(posixpath.join(root, LOCK), content, mode="create" if new else "overwrite")
                return
            # fsspec's own "create" looks first and writes then; and a file that stays the same one is what the other
            # machines of a share see at once.
            with open(posixpath.join(root, LOCK), "xb" if new else "wb") as file:
                file.write(content)

    def _renew_regularly(self) -> None:
        while not self._closing.wait(STALE_LOCK_SECONDS / 4):
            with contextlib.suppress(OSError, UserError):  # one beat lost must not let the lock go stale
                held = _held(self._folder)
                if held is not None and held["id"] != self.id:
                    self._lost = BusyError(
                        "run.lock-lost",
                        f"{self._folder.url}: this run could not renew its lock (the machine slept or stalled, or "
                        f"the network was down), and another took the folder over ({held['owner']}); this one stops. "
                        "What was finished is kept, the other goes on from there",
                    )
                    signals.interrupt(self._lost)
                    return
                self._renew()


def let_go(folder: Folder, id_: str) -> None:
    """Remove the lock file of a folder, if it is the one of that id."""
    with contextlib.suppress(OSError):
        held = _held(folder)
        if held is not None and held["id"] == id_:
            folder.remove(LOCK)


def _held(folder: Folder) -> dict[str, Any] | None:
    """The content of a folder's lock file; None where there is none. A broken one is held by somebody unknown."""
    for pause in (*REREAD_SECONDS, 0.0):
        try:
            lock = json.loads(folder.read(LOCK))
            if isinstance(lock, dict) and {"id", "owner"} <= lock.keys():
                return lock
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        except PermissionError as error:
            raise UserError(
                "run.lock-unreadable",
                f"{folder.path(LOCK)}: may not be read, so it is unknown whether another run is using the folder",
            ) from error
        except OSError as error:
            if error.errno != errno.ESTALE:  # on NFS: the file was another one when it was opened
                raise
        time.sleep(pause)
    return {"id": "", "owner": "somebody"}


def _left_over(folder: Folder, say: Say, end: float) -> dict[str, Any] | None:
    """The lock of a killed run, once it has been watched for long enough; None: there is none, or no longer.

    The clocks of two machines may differ by more than a lock's age, so that it is watched, not dated.

    :raises BusyError: when it is kept fresh, and ``end`` is over.
    """
    held = _held(folder)
    if held is None:
        return None
    say(f"{folder.url} is locked by {held['owner']}: waiting up to {STALE_LOCK_SECONDS:.0f} s to see if it still runs")
    since, told = time.monotonic(), False
    while time.monotonic() < since + STALE_LOCK_SECONDS:
        time.sleep(STALE_LOCK_SECONDS / 60)
        now = _held(folder)
        if now is None:
            return None
        if now == held:
            continue
        if time.monotonic() >= end:
            raise _busy(folder.url, now["owner"])
        if not told:
            say(_waits(folder.url, now["owner"], end))
        held, since, told = now, time.monotonic(), True
    return held


def _owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _waits(url: str, owner: str, end: float) -> str:
    left = max(0.0, end - time.monotonic())
    return f"{url}: another run{_named(owner)} is using this folder: waiting up to {left:.0f} s for it to end"


def _busy(url: str, owner: str) -> BusyError:
    return BusyError(
        "run.in-use",
        f"{url}: another run is using this folder{_named(owner)}; wait for it, stop it, or choose another place",
    )


def _named(owner: str) -> str:
    return f" ({owner})" if owner else ""
