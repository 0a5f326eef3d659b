"""Progress of long work: rows done, rate, time left.

A line that rewrites itself on a terminal, a plain line now and then elsewhere, a JSON line for machines,
or nothing. Writes to the stream that ``cli.py`` hands in; stages only count.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import IO, Literal

from runner.shown import for_terminal, without_secrets

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
    _dirty: bool = False

    def say(self, text: str, stage: str = "") -> None:
        """A whole line that stays."""
        self._end_line()
        if self.mode == "json":
            self._write(json.dumps({"event": "message", "stage": stage, "text": without_secrets(text)}) + "\n")
        elif self.mode != "quiet":
            self._write(for_terminal(f"{stage + ': ' if stage else ''}{text}") + "\n")

    def begin(self, what: str, total: int | None, unit: str = "rows") -> None:
        """Start counting. The clock of the rate starts with the first that is done: before it, engines start."""
        self._what, self._total, self._unit, self._done, self._before = what, total, unit, 0, 0
        self._start = self._shown = time.monotonic()

    def add(self, count: int = 1) -> None:
        """``count`` more are done."""
        self.at(self._done + count)

    def at(self, done: int) -> None:
        """``done`` are done, in all."""
        now = time.monotonic()
        if not self._done and done:
            self._before, self._start = done, now
        self._done = done
        if now - self._shown >= EVERY_SECONDS[self.mode]:
            self._shown = now
            self._show(now - self._start)

    def _show(self, elapsed: float) -> None:
        rate = (self._done - self._before) / elapsed if elapsed > 0 else 0.0
        left = (self._total - self._done) / rate if self._total is not None and rate else None
        if self.mode == "json":
            event = {"event": "progress", "stage": self._what, "done": self._done, "total": self._total}
            event |= {"unit": self._unit, "per_second": round(rate, 2), "seconds_left": left and round(left)}
            self._write(json.dumps(event) + "\n")
            return
        line = f"{self._what}: {self._done}{f'/{self._total}' if self._total is not None else ''} {self._unit}"
        line += f", {rate:.1f}/s" + (f", {clock(left)} left" if left is not None else "")
        if self.mode == "terminal":
            self._write(f"\r\x1b[K{line}")
            self._dirty = True
        else:
            self._write(line + "\n")

    def _end_line(self) -> None:
        if self._dirty:
            self._write("\r\x1b[K")
            self._dirty = False

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def clock(seconds: float) -> str:
    """``75`` as ``1:15``, an hour and more as ``1:02:05``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
