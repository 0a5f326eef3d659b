"""What workers tell while they are at work: how far the engine's start is, and rows as they are finished.

The worker tells notes, plain dicts; the driver puts them together for people and for the run's events. Knows no Ray.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runner.observe.progress import Progress, since

Tell = Callable[[dict[str, Any]], None]

TELL_SECONDS = 0.5
"""From one note about a batch to the next."""

STEPS = {
    "fetch": ("fetching the model", "model fetched"),
    "unpack": ("unpacking the model", "model unpacked"),
    "connect": ("connecting to the server", "the server answered"),
    "load": ("loading the model", "model loaded"),
    "warm-up": ("warming up", "warmed up"),
}
"""The steps of an engine's start, while they last and when they are over."""

SHORT = 0.1
"""Seconds of a step that people need not be told of."""


def silent(note: dict[str, Any]) -> None:
    """Tells nobody."""


class Start:
    """The steps of one engine's start, told as each begins (``seconds`` null) and ends.

    ``engine`` None: of all engines, before there is one.
    """

    def __init__(self, tell: Tell, engine: str | None = "") -> None:
        self._tell = tell
        self._step, self._since = "", 0.0
        self._engine = uuid.uuid4().hex if engine == "" else engine

    def begin(self, step: str) -> None:
        """A step begins, and so the one before it ends."""
        if step != self._step:
            self.end()
            self._step, self._since = step, time.perf_counter()
            self._tell({"engine": self._engine, "step": step, "seconds": None})

    def end(self) -> None:
        """The last step is over."""
        if self._step:
            self._tell({"engine": self._engine, "step": self._step, "seconds": since(self._since)})
        self._step = ""

    def fetching(self, sentence: str) -> None:
        """What ``models.ensure`` says of itself, which tells its steps apart."""
        self.begin("unpack" if sentence.startswith(("unpacking", "dequantising")) else "fetch")


class Finished:
    """Rows of one batch that are finished, told now and then."""

    def __init__(self, tell: Tell, batch: str) -> None:
        self._tell, self._batch = tell, batch
        self._rows, self._told = 0, time.monotonic()

    def add(self) -> None:
        """One more."""
        self._rows += 1
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._told = time.monotonic()
            self._tell({"batch": self._batch, "rows": self._rows})


class Live:
    """What the workers of a stage have told, in ``progress``: rows that are finished before their batch is.

    A batch is known by its first row. One that a worker died over is told anew by the next. ``warnings``: what the
    engines warned of, for the end of the stage.
    """

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage = progress, stage
        self._lock = threading.Lock()
        self._engines: dict[str, int] = {}
        self._open: dict[str, int] = {}
        self._arrived: set[str] = set()
        self._rows = self._most = 0
        self.warnings: list[str] = []

    def heard(self, notes: Iterable[Mapping[str, Any]]) -> None:
        """Take in what was told since the last time; time has passed in any case."""
        for note in notes:
            if "step" in note:
                self._stepped(note)
            elif "warning" in note:
                self._warned(note["warning"])
            elif note["batch"] not in self._arrived:
                self._open[note["batch"]] = note["rows"]
        self._show()

    def arrived(self, ids: Iterable[str], rows: int) -> None:
        """A whole batch is there: so many of its ``ids`` count as rows that are done."""
        with self._lock:
            self._rows += rows
            self._arrived.update(ids)
            self._open = {batch: rows for batch, rows in self._open.items() if batch not in self._arrived}
        self._show()

    def _warned(self, warning: str) -> None:
        """All replicas warn of the same."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _show(self) -> None:
        with self._lock:
            # What is done stays done for whoever looks, though a batch be asked again.
            self._most = max(self._most, self._rows + sum(self._open.values()))
        self._progress.at(self._most)

    def _stepped(self, note: Mapping[str, Any]) -> None:
        engine = note["engine"]
        replica = None if engine is None else self._engines.setdefault(engine, len(self._engines) + 1)
        step, seconds = note["step"], note["seconds"]
        begun, over = STEPS[step]
        words = ""
        if replica in (None, 1):
            self._progress.doing(self._stage, begun if seconds is None else "")
            words = f"{over} in {seconds:.1f} s" if seconds is not None and seconds >= SHORT else ""
        self._progress.tell("engine_step", self._stage, words, step=step, replica=replica, seconds=seconds)
