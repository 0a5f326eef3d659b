"""Progress of long work: rows done, rate, time left, and what else happens.

A line that rewrites itself on a terminal, a plain line now and then elsewhere, a JSON line for machines,
or nothing. Writes to the stream that the command hands in, and while a run is at work to its ``events.jsonl``;
stages only count and tell. All methods may be called from any thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from runner import __version__
from runner.observe.events import PROGRESS_SECONDS, EventLog, event
from runner.observe.status_line import ERASE, StatusLine
from runner.rundir.folder import Folder
from runner.system import signals, supervise
from runner.system.errors import code_of
from runner.system.sanitize import for_terminal, without_secrets

Mode = Literal["terminal", "plain", "json", "quiet"]
EVERY_SECONDS = {"terminal": 0.2, "plain": 10.0, "json": 2.0, "quiet": float("inf")}


@dataclass
class Progress:
    """One line of work at a time. ``total`` None means that nobody knows how much there is."""

    stream: IO[str]
    mode: Mode
    _what: str = ""
    _total: int | None = None
    _unit: str = "rows"
    _done: int = 0
    _before: int = 0
    _start: float = field(default_factory=time.monotonic)
    _shown: float = 0.0
    _logged: float = 0.0
    _dirty: bool = False
    _doing: str = ""
    _doing_since: float = 0.0
    _log: EventLog | None = None
    _line: StatusLine = field(init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    """A training reports its progress from a thread of its own, and engines that start from others."""

    def __post_init__(self) -> None:
        self._line = StatusLine(self.stream)

    @contextmanager
    def recorded(self, run: Folder, command: str) -> Iterator[None]:
        """What happens from here on goes to the events of ``run`` too, whose lock the caller holds."""
        log = EventLog(run)
        with self._lock:
            self._log = log
        start = time.perf_counter()
        supervise.note(run=run.url, run_at=time.monotonic())
        self.tell("run_started", run=run.name, command=command, attempt=log.attempt, runner=__version__)
        try:
            yield
        except BaseException as error:
            left = signals.left(error)
            self.tell("run_failed", seconds=since(start), error=type(left).__name__, code=code_of(left))
            raise
        else:
            self.tell("run_finished", seconds=since(start))
        finally:
            with self._lock:
                self._log = None
                log.close()
                self._end_line()
            supervise.note(run=None)

    def tell(self, name: str, stage: str = "", words: str = "", **fields: Any) -> None:
        """An event of :data:`runner.observe.events.EVENTS`, for machines; ``words`` are all that people see of it.

        ``words`` may quote the data, and stay out of the run's events.
        """
        told = event(name, stage or None, fields)
        with self._lock:
            if self._log and name != "message":
                self._log.write(told)
            if self.mode == "json":
                self._write(json.dumps(told | ({"text": without_secrets(words)} if words else {})) + "\n")
            elif self.mode != "quiet" and words:
                self._end_line()
                self._write(for_terminal(f"{stage + ': ' if stage else ''}{words}") + "\n")

    def say(self, text: str, stage: str = "") -> None:
        """A whole line that stays, for people only."""
        self.tell("message", stage, text)

    def warn(self, warnings: Sequence[str], stage: str, before: int = 0) -> None:
        """A line for each; in the events stands its number alone, which finds it in the stage's marker.

        ``before`` is how many of the marker's warnings were said earlier.
        """
        for number, warning in enumerate(warnings, before + 1):
            self.tell("warning", stage, f"warning: {warning}", number=number)

    def begin(self, what: str, total: int | None, unit: str = "rows") -> None:
        """Start counting. The clock of the rate starts with the first that is done: before it, engines start."""
        with self._lock:
            self._what, self._total, self._unit, self._done, self._before = what, total, unit, 0, 0
            self._start = self._shown = self._logged = time.monotonic()
            self._doing = ""

    def doing(self, what: str, words: str) -> None:
        """What is at work before anything is done, such as an engine that loads: shown with the time it has taken.

        Without words it is over.
        """
        with self._lock:
            self._what, self._doing, self._doing_since = what, words, time.monotonic()
            if self.mode == "terminal":
                self._show()

    def add(self, count: int = 1) -> None:
        """``count`` more are done."""
        with self._lock:
            self.at(self._done + count)

    def at(self, done: int) -> None:
        """``done`` are done, in all."""
        with self._lock:
            self._at(done, time.monotonic())

    def _at(self, done: int, now: float) -> None:
        if not self._done and done:
            self._before, self._start = done, now
        if done:
            self._doing = ""
        self._done = done
        if self._log and now - self._logged >= PROGRESS_SECONDS:
            self._logged = now
            self._log.write(self._event())
        if now - self._shown >= EVERY_SECONDS[self.mode]:
            self._shown = now
            self._show()

    @property
    def rate(self) -> float:
        """How many a second, since the first was done; 0 until there is a second."""
        with self._lock:
            elapsed = time.monotonic() - self._start
            return (self._done - self._before) / elapsed if elapsed > 0 else 0.0

    @property
    def share(self) -> float:
        """Of the total that is done, from 0 to 1; 0 where nobody knows how much there is."""
        with self._lock:
            return min(1.0, self._done / self._total) if self._total else 0.0

    def _seconds_left(self, rate: float) -> float | None:
        return (self._total - self._done) / rate if self._total is not None and rate else None

    def _event(self) -> dict[str, Any]:
        rate = self.rate
        left = self._seconds_left(rate)
        fields: dict[str, Any] = {"done": self._done, "total": self._total, "unit": self._unit}
        fields |= {"per_second": float(f"{rate:.4g}") if rate else None, "seconds_left": left and round(left)}
        return event("progress", self._what, fields)

    def _show(self) -> None:
        if self.mode == "json":
            self._write(json.dumps(self._event()) + "\n")
            return
        if self.mode == "terminal":
            self._write(self._line.drawn(self._words(), None if self._doing or not self._total else self.share))
            self._dirty = True
        else:
            self._write(for_terminal(self._words()) + "\n")

    def _words(self) -> str:
        if self._doing:
            return f"{self._what}: {self._doing}, {clock(time.monotonic() - self._doing_since)}"
        rate = self.rate
        left = self._seconds_left(rate)
        line = f"{self._what}: {self._done}{f'/{self._total}' if self._total is not None else ''} {self._unit}"
        return line + (f", {per_time(rate)}" if rate else "") + (f", {clock(left)} left" if left is not None else "")

    def _end_line(self) -> None:
        if self._dirty:
            self._write(ERASE)
            self._dirty = False

    def _write(self, text: str) -> None:
        """What cannot be shown (a terminal that is gone, a reader that has left, a full disk) ends no run."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:
            self.mode = "quiet"


def since(start: float) -> float:
    """Seconds since a reading of ``time.perf_counter``, to the millisecond."""
    return round(time.perf_counter() - start, 3)


def per_time(rate: float) -> str:
    """``12.3/s``; what is slower, by the minute or the hour."""
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1:
            return f"{rate * seconds:.1f}/{unit}"
    return f"{rate * 3600:.1f}/h"


def clock(seconds: float) -> str:
    """``75`` as ``1:15``, an hour and more as ``1:02:05``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
