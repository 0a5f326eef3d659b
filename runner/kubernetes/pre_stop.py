"""What Kubernetes runs in the head's pod before it ends the pod: the run that is at work there is stopped.

Without it the driver hears nothing: `ray start`, the pod's first process, drains for up to half a minute and passes no
signal on, and the driver works until it is killed. Stopped by SIGINT it stores what it has, closes its events and lets
go of the run folder. Called as ``python -m runner.kubernetes.pre_stop``; it needs nothing but Python and Linux's
``/proc``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LONGEST_SECONDS = 20.0
"""That a run may take to end; the rest of the pod's grace is for Ray."""
LOOK_SECONDS = 0.2
PROC = Path("/proc")
TOKEN = b"RAY_AUTH_TOKEN"
PROGRAMS = ("tutelage", "runner")


def stop_runs(longest: float = LONGEST_SECONDS) -> bool:
    """Stop all runs of this pod, and wait for them to end; False where one has not, after ``longest`` seconds."""
    mine = _token(PROC / "self")
    parents = dict(_runs(mine))
    for process in parents:
        if parents[process] not in parents:  # a run passes the signal on to its own
            with suppress(OSError):
                os.kill(process, signal.SIGINT)
    end = time.monotonic() + longest
    while any(True for _ in _runs(mine)):
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _runs(token: bytes | None) -> Iterator[tuple[int, int]]:
    """Processes of ``tutelage run``, each with its parent, in the cluster that has this token: others may run here."""
    for place in PROC.glob("[0-9]*"):
        with suppress(OSError):
            if _is_run((place / "cmdline").read_bytes().split(b"\0")) and _token(place) == token:
                parent = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                yield int(place.name), int(parent)


def _is_run(words: list[bytes]) -> bool:
    """Whether a command line is that of a run: the program, perhaps behind its Python, and ``run``."""
    at = words.index(b"run") if b"run" in words else 0
    return at > 0 and os.path.basename(words[at - 1]).decode(errors="replace") in PROGRAMS


def _token(place: Path) -> bytes | None:
    variables = (place / "environ").read_bytes().split(b"\0")
    return next((variable for variable in variables if variable.partition(b"=")[0] == TOKEN), None)


if __name__ == "__main__":
    stop_runs()
