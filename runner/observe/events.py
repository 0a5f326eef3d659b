"""events.jsonl: what happens in a run as it happens, one JSON object a line, in the run folder.

docs/observability.md says what each event and field means; :data:`EVENTS` is the list that holds for ``--json`` on
stdout as well. No event has a text of the data, an error's words or a value of the environment: names, numbers and
fingerprints only. (Words for people stand on stdout alone, in ``text``.)

On a disk lines are appended to ``events.jsonl``. Object stores cannot append: there each run has an object of its own,
``events-00001.jsonl`` and so on, written anew from time to time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from runner.rundir.folder import Folder
from runner.system.errors import UserError, first_line

NAME = "events.jsonl"
PROGRESS_SECONDS = 10.0
"""From one line of progress to the next."""
UPLOAD_SECONDS = 10.0
UPLOAD_BYTES_PER_SECOND = 20_000
"""An object that grows is written less often, so that no more than this goes over the network for it."""

EVENTS: dict[str, tuple[str, ...]] = {
    "run_started": ("run", "command", "attempt", "runner"),
    "run_finished": ("seconds",),
    "run_failed": ("seconds", "error", "code"),
    "stage_started": ("fingerprint",),
    "stage_kept": ("fingerprint", "seconds", "numbers"),
    "stage_done": ("fingerprint", "seconds", "numbers"),
    "stage_failed": ("fingerprint", "seconds", "error", "code"),
    "engine_step": ("step", "replica", "seconds"),
    "progress": ("done", "total", "unit", "per_second", "seconds_left"),
    "warning": ("number",),
    "rows_failed": ("reasons",),
    "workers_restarted": ("count",),
    "training_resumed": ("done", "total"),
    "budget": ("usd", "hours", "seconds"),
    "budget_used_up": ("rows",),
    "spent": ("gpu_seconds", "usd"),
    "message": (),
}
"""The fields of each event, besides ``time``, ``event`` and ``stage``; ``message`` has words only, and so stands on
stdout only."""


def event(name: str, stage: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """One event as it is written; it has all of its fields, null where nobody knows."""
    if fields.keys() != set(EVENTS[name]):
        raise TypeError(f"{name} has the fields {EVENTS[name]}, not {tuple(fields)}")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"time": now, "event": name, "stage": stage, **fields}


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """What a stage's summary counts: its numbers, and none of its texts."""
    return {
        name: value
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def read_events(run: Folder) -> list[dict[str, Any]]:
    """All events of a run folder in their order; a line that a kill or a full disk cut off is left out."""
    events = []
    for name in _names(run):
        for line in run.read(name).splitlines():
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
    return [entry for entry in events if isinstance(entry, dict)]


def _names(run: Folder) -> list[str]:
    return [name for name in run.names(".jsonl") if re.fullmatch(r"events(-\d+)?\.jsonl", name)]


class EventLog:
    """The events of one run, into its folder, of which the caller holds the lock. Events never end a run: one that
    cannot be written is lost. What was there before stays.

    :raises UserError: when nothing may be written to the folder.
    """

    def __init__(self, run: Folder) -> None:
        try:
            self.attempt = 1 + sum(entry.get("event") == "run_started" for entry in read_events(run))
            self._lock = threading.Lock()
            self._sink: _Sink = _Appended(run.local / NAME) if run.local is not None else _Rewritten(run)
        except OSError as error:
            why = error.strerror or first_line(error)
            raise UserError(
                "run.events-not-writable", f"{run.path(NAME)}: events cannot be kept there ({why}); move it away"
            ) from error

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add a line; from any thread."""
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            self._sink.write(line)

    def close(self) -> None:
        """Nothing follows; what is not written yet is."""
        with self._lock:
            self._sink.close()


class _Sink(Protocol):
    def write(self, line: bytes) -> None: ...

    def close(self) -> None: ...


class _Appended:
    """A file on a disk. A line is one write, which a kill or a full disk may cut off: the next line begins anew."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def write(self, line: bytes) -> None:
        line = b"\n" + line if self._torn else line
        with contextlib.suppress(OSError):
            self._torn = os.write(self._file, line) < len(line)  # a disk that fills up takes a part of it

    def close(self) -> None:
        os.close(self._file)


class _Rewritten:
    """An object in a store, put there anew by a thread, so that nobody waits for the network."""

    def __init__(self, run: Folder) -> None:
        last = max((int(name[len("events-") : -len(".jsonl")]) for name in _names(run) if name != NAME), default=0)
        self._run, self._name = run, f"events-{last + 1:05}.jsonl"
        self._lines, self._put = b"", 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_putting, daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        self._lines += line

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._put_all()

    def _keep_putting(self) -> None:
        while not self._closing.wait(UPLOAD_SECONDS + len(self._lines) / UPLOAD_BYTES_PER_SECOND):
            self._put_all()

    def _put_all(self) -> None:
        lines = self._lines
        if len(lines) > self._put:
            with contextlib.suppress(Exception):  # a store has many ways to fail; the next time brings it
                self._run.write(self._name, lines)
                self._put = len(lines)
