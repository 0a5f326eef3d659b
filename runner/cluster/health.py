"""Whether the Ray that this process has started still lives, and whether its workers get as far as to begin.

A raylet or a control store that is gone ends the run with a line that says so, in the place of an error from deep
below or of a minute's wait; so do workers that die over and over while they start, of which Ray only starts others.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from runner.cluster import private_api
from runner.system import signals, supervise
from runner.system.errors import KEPT, EngineError

LOOK_SECONDS, CALM = 0.5, 10
"""From one look to the next; once workers have begun, only every so many go through all processes."""
LEAVE_SECONDS = 10.0
"""How long the main thread may take to heed: a call into Ray's core waits for a control store that is gone for ever."""
STARTS = 12
"""Workers that die while they start, one after the other, before the run gives up."""
NEEDED = {"raylet": "its raylet", "gcs_server": "its control store (GCS)"}


def died(what: str) -> str:
    """What to say of a Ray that is gone."""
    return (
        f"Ray died under the run: {what} is gone (the system kills it for want of memory, `ray stop` ends every Ray of "
        f"this machine); {KEPT}"
    )


class Watch:
    """Looks on from a thread, and interrupts the main one."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._logs = private_api.logs_dir(node)
        self._starting: set[int] = set()
        self._failed = self._looks = 0
        self._calm = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def dead(self) -> bool:
        """Whether that Ray is gone."""
        return self._gone() is not None

    def close(self) -> None:
        """What ends from here on ends as it should."""
        self._closing.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            error = self._gone() or self._never_begins()
            if error is not None and not self._closing.is_set():
                supervise.note(error=str(error))
                signals.interrupt(error)
                if not self._closing.wait(LEAVE_SECONDS):
                    supervise.give_up()
                return

    def _gone(self) -> EngineError | None:
        dead = [kind for kind in private_api.dead_processes(self._node) if kind in NEEDED]
        return EngineError("cluster.ray-died", died(NEEDED[dead[0]])) if dead else None

    def _never_begins(self) -> EngineError | None:
        self._looks += 1
        if self._calm and self._looks % CALM:
            return None
        starting, begun = _workers(private_api.raylet_pid(self._node))
        self._calm = bool(begun)
        if begun:
            self._failed = 0
        else:
            self._failed += len(self._starting - starting)
        self._starting = starting
        if self._failed < STARTS:
            return None
        return EngineError(
            "cluster.workers-cannot-start",
            f"Ray's workers die while they start ({self._failed} so far): {_last_words(self._logs)}",
        )


def _workers(raylet: int) -> tuple[set[int], set[int]]:
    """The workers of a raylet that are starting, and those that have begun: Ray gives these another title."""
    starting, begun = set(), set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            title = (place / "cmdline").read_text(errors="replace") if parent == raylet else ""
        except (OSError, ValueError, IndexError):
            continue
        if private_api.STARTING_TITLE in title:
            starting.add(int(place.name))
        elif title.startswith(private_api.BEGUN_TITLE):
            begun.add(int(place.name))
    return starting, begun


def _last_words(logs: Path) -> str:
    """The last line that a worker wrote."""
    # What dies before Ray's core has begun in it writes where the raylet does.
    newest = sorted(logs.glob("worker-*.err"), key=lambda log: log.stat().st_mtime, reverse=True)
    for path in (*newest, *logs.glob("raylet.err")):
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return f"{lines[-1].strip()[:300]} ({path})"
    return f"they left no word in {logs}"
