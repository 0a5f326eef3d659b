"""One batch of rows in an actor's hands: what was asked before, what is answered, what is stored.

Rows that are answered are stored now and then while the others are under way, so that a stop costs seconds of work and
not a batch of it. Each file is written in one step, and named by the batch's rows and by how many answers they had: a
batch that is done again, by another actor, finds them one after the other and goes on behind the last.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from runner.rundir.folder import Folder, fingerprint
from runner.teacher.protocol import Conversation
from runner.teacher.shortlist import NUMBERS

STORE_SECONDS = 30.0
"""How long finished rows wait to be stored while others of their batch are under way."""

_RECORD: list[tuple[str, pa.DataType]] = [
    ("vote", pa.int32()),
    ("attempt", pa.int32()),
    ("text", pa.large_string()),
    ("label_probabilities", pa.list_(pa.float64())),
    ("unasked", pa.float64()),
    ("prompt_tokens", pa.int64()),
    ("output_tokens", pa.int64()),
]
ANSWERS = pa.schema(
    [("id", pa.string()), ("kind", pa.string()), *_RECORD, ("seconds", pa.float64()), ("shortlist", NUMBERS)]
)
"""One line for each raw reply. ``kind`` is ``row`` or ``content-free``; ``vote`` counts from 0; ``attempt`` is 1
where the teacher was asked again; ``text`` is what it wrote (prompt ``cot``); ``label_probabilities`` are the
engine's own, uncalibrated, in the order of the task's answers (prompt ``direct``), and ``unasked`` is the most by which
each may be off, because the answers that share so much of the probability were not told apart; ``seconds`` is the
reply's share of the engine's time, and ``shortlist`` the numbers of the choices that the teacher was shown, null where
it was shown all."""


def is_finite(answer: Mapping[str, Any]) -> bool:
    """Whether a stored answer's probabilities, if it has any, are numbers: earlier versions stored NaN too."""
    return all(map(math.isfinite, answer["label_probabilities"] or ()))


class Clock:
    """Shares the engine's time out among batches that overlap, so that the shares add up to the time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._since = 0.0

    def begin(self) -> None:
        """A batch goes in."""
        with self._lock:
            if not self._open:
                self._since = time.perf_counter()
            self._open += 1

    def lap(self) -> float:
        """Answers came out: the seconds since others did, or since the engine began to work."""
        with self._lock:
            now = time.perf_counter()
            taken, self._since = now - self._since, now
            return taken

    def end(self) -> None:
        """A batch came out."""
        with self._lock:
            self._open -= 1


class Batch:
    """The ``rows`` of one call, lines of :data:`runner.teacher.worker.QUESTIONS`; their answers go to ``answers``."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], answers: Folder, clock: Clock) -> None:
        self._rows, self._answers, self._clock = rows, answers, clock
        self._kinds = {row["id"]: row["kind"] for row in rows}
        self._about = {row["id"]: {name: row[name] for name in ("id", "kind", "shortlist")} for row in rows}
        self._waiting: dict[str, Conversation] = {}
        self._stored: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
        self._name = self._next_name()
        while self._answers.exists(self._name):
            for line in self._answers.read_table(self._name).to_pylist():
                self._stored[line["id"]].append(line)
            self._name = self._next_name()
        self._last = time.monotonic()

    def earlier(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What was answered about a row before, in this batch too: an actor may have died over it."""
        return [*(row["earlier"] or ()), *filter(is_finite, self._stored[row["id"]])]

    def counts(self, id_: str) -> bool:
        """Whether somebody wants a label of it: of calibration texts nobody does."""
        return bool(self._kinds[id_] == "row")

    def finished(self, id_: str, talk: Conversation) -> None:
        """Nothing more is asked about a row; what waits is stored if it has waited long."""
        self._waiting[id_] = talk
        if time.monotonic() - self._last >= STORE_SECONDS:
            self._store()

    def close(self, talks: Mapping[str, Conversation]) -> None:
        """Store what ``talks`` have that is not stored yet; of rows that failed too, whatever was answered."""
        self._waiting |= talks
        self._store()

    def tokens(self, id_: str) -> dict[str, int]:
        """``prompt_tokens`` and ``output_tokens`` of all that was asked about a row for this batch."""
        return {name: sum(one[name] for one in self._stored[id_]) for name in ("prompt_tokens", "output_tokens")}

    def _store(self) -> None:
        lines = [self._about[id_] | record for id_, talk in self._waiting.items() for record in talk.records]
        if lines:
            share = self._clock.lap() / len(lines)
            table = pa.Table.from_pylist([line | {"seconds": share} for line in lines], schema=ANSWERS)
            self._answers.write_table(self._name, table)
        for line in lines:
            self._stored[line["id"]].append(line)
        for talk in self._waiting.values():
            talk.records = []
        self._waiting, self._name, self._last = {}, self._next_name(), time.monotonic()

    def _next_name(self) -> str:
        told = [[row["id"], len(row["earlier"] or ()) + len(self._stored[row["id"]])] for row in self._rows]
        return f"{fingerprint(told)}.parquet"


def by_row(answers: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The replies about each row."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for answer in answers.to_pylist():
        rows.setdefault(answer["id"], []).append(answer)
    return rows
