"""``teacher.budget``: how long the teachers of a run may label, and how long they have.

One budget for all teachers of a run, who come one after the other, and for all commands that label in its folder: what
was spent is written down beside each teacher's answers, as it is spent. Only the driver looks at a clock. It tells
workers, whose clocks may be off, by a file that their time is over.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

from runner.rundir.folder import Folder
from runner.spec.model import Teacher
from runner.system.errors import TutelageError

SPENT, OVER = "spent.json", ".over"
WRITE_SECONDS, WRITE_SECONDS_MOST = 2.0, 60.0
"""Between two times that what is spent is written down; so much of it is lost to a kill."""
RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Spent:
    """What labelling took: ``seconds`` by the clock with the start of the engine, and those of all replicas together.

    As many replicas count as there may be: fewer at times cost less.
    """

    seconds: float = 0.0
    replica_seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.replica_seconds + other.replica_seconds)


def spent(stores: Iterable[Folder]) -> Spent:
    """What the answers in these folders took, in all runs, each folder once."""
    found = (Spent(**one.read_json(SPENT)) for one in dict.fromkeys(stores) if one.exists(SPENT))
    return sum(found, Spent())


def seconds_left(teacher: Teacher, before: Spent, replicas: int | None = None) -> float:
    """How long one may go on labelling, by the clock; infinity without a budget, 0 where it is used up.

    ``replicas``: how many there will be at most; None: as many as the spec allows.
    """
    limits = [math.inf]
    if teacher.budget.hours is not None:
        limits.append(teacher.budget.hours * 3600 - before.seconds)
    if teacher.budget.usd is not None and teacher.price_per_hour:
        replica_seconds = teacher.budget.usd / teacher.price_per_hour * 3600 - before.replica_seconds
        limits.append(replica_seconds / (replicas or teacher.resources.replicas[1]))
    return max(0.0, min(limits))


class Spending:
    """Wrap it around the work of a teacher: writes down what it takes, and says when ``seconds`` are over.

    ``over`` is the name of the file in ``store`` that is there from then on, for as long as the work goes on.
    """

    def __init__(self, store: Folder, replicas: int, seconds: float) -> None:
        self._store, self._replicas, self._seconds = store, replicas, seconds
        self._before = spent([store])
        self._every = min(WRITE_SECONDS_MOST, max(WRITE_SECONDS, seconds / 1000))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="budget", daemon=True)
        self._begun = time.monotonic()
        self.over = f"{uuid.uuid4().hex}{OVER}"

    def __enter__(self) -> Spending:
        self._forget()  # what a killed run left
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._write()
        self._forget()

    def _watch(self) -> None:
        said = False
        while True:
            left = self._seconds - (time.monotonic() - self._begun)
            if left <= 0 and not said:
                with suppress(TutelageError, OSError):  # tried again; where answers cannot be stored, the run ends
                    self._store.write(self.over, b"")
                    said = True
            if self._done.wait(self._every if said else max(RETRY_SECONDS, min(left, self._every))):
                return
            with suppress(TutelageError, OSError):
                self._write()

    def _write(self) -> None:
        seconds = time.monotonic() - self._begun
        self._store.write_json(SPENT, asdict(self._before + Spent(seconds, seconds * self._replicas)))

    def _forget(self) -> None:
        for name in self._store.names(OVER):
            self._store.remove(name)
