"""Whatever starts Ray does its work in a process of its own, and the one that waits for it has the last word.

Ray's core ends the process that it is loaded into, without a word, when its raylet or its control store is gone; the
system's memory killer leaves no word either. So the command forks: the child works and notes here what it is at, and
the parent passes signals on, says what became of it, and leaves no process behind. (Where the
system cannot wait for signals, as macOS, all is one process.)
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.system import signals

LOOK_SECONDS = 0.5
STOP_SECONDS, CLOSE_SECONDS = 15.0, 2.5
"""From a signal, and from when it holds nothing any more, to the child's end; then it is killed."""
_SUBREAPER, _DEATH_SIGNAL = 36, 1
FAILED = 1

_notes: int | None = None
"""Where the child writes what it is at; None: nobody watches."""


def note(**facts: Any) -> None:
    """Tell the parent, if there is one: what it is at, and at last its ``code``; of each fact the last one holds."""
    if _notes is not None:
        with contextlib.suppress(OSError):
            os.write(_notes, json.dumps(facts | {"at": time.monotonic()}).encode() + b"\n")


def give_up() -> None:
    """End this process at once, from any thread, where a parent can say why: what was noted as ``error``."""
    if _notes is not None:
        os._exit(FAILED)


def supervised(work: Callable[[], int], gone: Callable[[dict[str, Any], int], int]) -> int:
    """Do ``work`` in a child and return its exit status; the child does not return from here.

    ``gone(facts, status)`` says what is to be said of a child that ended without a word, or of a stop by ``status`` (a
    negative signal) that took too long, and returns the exit status.
    """
    if not hasattr(signal, "sigtimedwait") or threading.active_count() > 1:
        return work()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    watched = {*signals.STOPPING, signal.SIGCHLD}
    # Whoever started us may ignore it, and then the system buries the child before its status is read.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    others = frozenset(_children(os.getpid()))  # a shell's process substitutions and background jobs: not ours to end
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    read, write = os.pipe()
    _prctl(_SUBREAPER, 1)
    child = os.fork()
    if not child:
        os.close(read)
        return _work(work, write, before)
    os.close(write)
    return _Watch(child, read, watched, others).until_gone(gone)


def _work(work: Callable[[], int], write: int, mask: set[signal.Signals] | set[int]) -> int:
    global _notes
    _notes = write
    os.set_blocking(write, False)
    parent = os.getppid()
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    with signals.listening():
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work()
        note(code=code)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        # All is said and let go of; to take a Python with Ray and torch apart takes seconds, and crashes at times.
        os._exit(code)


class _Watch:
    def __init__(self, child: int, notes: int, watched: set[signal.Signals], others: frozenset[int]) -> None:
        self._child, self._notes, self._watched, self._others = child, notes, watched, others
        self._facts: dict[str, Any] = {}
        self._unread = b""
        os.set_blocking(notes, False)

    def until_gone(self, gone: Callable[[dict[str, Any], int], int]) -> int:
        end, stopped, status = float("inf"), 0, None
        while status is None:
            heard = signal.sigtimedwait(self._watched, LOOK_SECONDS)
            if heard is not None and heard.si_signo != signal.SIGCHLD and self._listens(heard.si_signo):
                stopped = stopped or heard.si_signo
                end = min(end, time.monotonic() + STOP_SECONDS)
                self._pass_on(heard.si_signo)
            self._read()
            if "code" in self._facts or self._facts.get("free"):
                end = min(end, self._facts["at"] + CLOSE_SECONDS)
            if time.monotonic() > end:
                self._pass_on(signal.SIGKILL)
            status = self._ended()
        self._read()
        _end_all(self._others)
        if "code" in self._facts:
            return int(self._facts["code"])
        return gone(self._facts, -(stopped or self._facts.get("stop", 0)) or status)

    def _listens(self, number: int) -> bool:
        return signal.getsignal(number) is not signal.SIG_IGN

    def _pass_on(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)

    def _ended(self) -> int | None:
        """The child's status; what it has left behind, and ends meanwhile, is ours to bury."""
        while True:
            found, status = os.waitpid(-1, os.WNOHANG)
            if found == self._child:
                return os.waitstatus_to_exitcode(status)
            if not found:
                return None

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._notes, 65536):
                self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                self._facts |= json.loads(line)


def _end_all(others: frozenset[int]) -> None:
    """No process that the child has left may go on: they are ours now that it is gone, but for ``others``."""
    end = time.monotonic() + CLOSE_SECONDS
    number = signal.SIGTERM
    while left := _children(os.getpid(), others):
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if time.monotonic() > end:
            return
        if time.monotonic() > end - CLOSE_SECONDS + 1:
            number = signal.SIGKILL
        time.sleep(0.05)


def _children(pid: int, others: frozenset[int] = frozenset()) -> list[int]:
    """All that descend from a process, without zombies, ``others`` and theirs; none where the system does not tell."""
    parents: dict[int, tuple[int, str]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            parents[int(place.name)] = int(parent), state
    found, before = {pid}, 0
    while len(found) > before:
        before = len(found)
        found |= {one for one, (parent, _) in parents.items() if parent in found and one not in others}
    return [one for one in found - {pid} if parents[one][1] != "Z"]


def _prctl(option: int, value: int) -> None:
    """Linux alone has it; elsewhere what it asks for is done without."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
