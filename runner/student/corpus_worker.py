"""A corpus where it is read and predicted: a reader cuts files into parts, a student labels them. Knows no Ray."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from runner.data.reading import Row, Source, read_rows
from runner.rundir.folder import Folder
from runner.student import finite
from runner.student.batches import batch_figures
from runner.student.trained import StudentRef
from runner.system.sanitize import without_secrets
from runner.tasks.kinds import TASKS

SHOW_SECONDS = 1.0
"""Between two signs of life from a part that is being predicted: the driver reads those of all students."""

PART_CHARACTERS = 2**26
"""A part ends with the row that brings it to so many characters, however few rows it has."""

BLANK, UNSURE = "the text is blank", "the probability is under abstain_below"
"""Why a row abstains, besides :data:`runner.student.finite.NOT_FINITE`."""

COUNTS = b"tutelage.counts"
"""In a part's metadata: its rows by label, so that a part that is there need not be read again."""

PART = pa.schema(
    [
        ("file", pa.int32()),
        ("number", pa.int32()),
        ("name", pa.string()),
        ("rows", pa.int64()),
        ("table", pa.large_binary()),
        ("counts", pa.string()),
    ]
)
"""A part on its way: its texts as an Arrow stream, or the counts of one that is there already."""

DONE = pa.schema([*(PART.field(name) for name in ("file", "number", "name", "rows", "counts")), ("reused", pa.bool_())])
"""A sign of life: rows that are done, and with the last of a part its counts."""


@dataclass(frozen=True)
class Reader:
    """Reads one file after the other, wherever Ray runs it; yields :data:`PART` tables of one row."""

    text: str
    keep: tuple[str, ...]
    part_rows: int
    out: str
    there: dict[str, str]
    """The parts that were there when the job began, by digest: listed once, for a listing of many takes long."""

    def __call__(self, files: pa.Table) -> Iterator[pa.Table]:
        """``files`` has ``file``, its number, and ``source``, the fields of a :class:`Source` as JSON."""
        for file in files.to_pylist():
            source = Source(**json.loads(file["source"]))
            rows = read_rows(source, [self.text, *self.keep])
            number = first = 0
            while chunk := self._part(rows):
                data = _as_bytes(self._table(source, chunk, first))
                ending = f"{hashlib.sha256(data).hexdigest()[:16]}.parquet"
                part = {"file": file["file"], "number": number, "rows": len(chunk)}
                if name := self.there.get(ending):
                    part |= {"name": name, "table": None, "counts": self._counts(name)}
                else:
                    part |= {"name": f"part-{file['file']:05}-{number:07}-{ending}", "table": data, "counts": None}
                yield pa.Table.from_pylist([part], schema=PART)
                number, first = number + 1, first + len(chunk)

    def _part(self, rows: Iterator[Row]) -> list[Row]:
        """The next ``part_rows`` rows, or fewer where their texts are long: a part is in memory as a whole."""
        chunk: list[Row] = []
        characters = 0
        for row in islice(rows, self.part_rows):
            chunk.append(row)
            characters += sum(map(len, row.values.values()))
            if characters >= PART_CHARACTERS:
                break
        return chunk

    def _table(self, source: Source, chunk: list[Row], first: int) -> pa.Table:
        columns = {column: [row.values[column] for row in chunk] for column in (*self.keep, self.text)}
        texts = columns.pop(self.text) if self.text not in self.keep else columns[self.text]
        return pa.table(
            {column: pa.array(values, pa.large_string()) for column, values in columns.items()}
            | {
                "file": pa.array([without_secrets(source.path)] * len(chunk)).dictionary_encode(),
                "row": pa.array(range(first + 1, first + 1 + len(chunk)), pa.int64()),
                "text": pa.array(texts, pa.large_string()),
            }
        )

    def _counts(self, name: str) -> str:
        footer = Folder(self.out).read_footer(name)
        return str((footer.metadata or {}).get(COUNTS, b"{}").decode())


def _as_bytes(table: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return bytes(stream.getvalue())


class Predictor:
    """A student in a process of its own; takes parts, writes their predictions, says how far it is."""

    def __init__(self, model: StudentRef, abstain_below: float, out: str) -> None:
        self._model, self._abstain_below, self._out = model, abstain_below, Folder(out)

    @cached_property
    def _student(self) -> Any:
        """Loaded with the first part: an actor that fails while it is made tells Ray, but not the user, why."""
        return self._model.open()

    def __call__(self, parts: pa.Table) -> Iterator[pa.Table]:
        """``parts`` as :data:`PART`; yields :data:`DONE`."""
        for part in parts.to_pylist():
            if part["table"] is None:
                yield _done(part, part["rows"], part["counts"], reused=True)
            else:
                yield from self._predict(part, pa.ipc.open_stream(part["table"]).read_all())

    def _predict(self, part: dict[str, Any], table: pa.Table) -> Iterator[pa.Table]:
        texts = table["text"].to_pylist()
        places: dict[str, int] = {}
        place_of = np.array([places.setdefault(text, len(places)) for text in texts])  # equal texts are predicted once
        found = np.empty((len(places), len(self._student.outputs)), dtype=np.float32)
        shown, done, last = 0, 0, time.monotonic()
        before, halved = self._student.recomputed, self._student.halved
        with self._student.recorded() as ran:
            for rows, probabilities in self._student.batches(list(places)):
                found[rows] = probabilities
                done += len(rows)
                if time.monotonic() - last >= SHOW_SECONDS and done < len(places):
                    yield _done(part, done - shown, None, reused=False)
                    shown, last = done, time.monotonic()
        written, counts = self._labelled(table, texts, found[place_of])
        counts |= {"recomputed": self._student.recomputed - before, "precision": self._student.precision}
        if self._student.in_flight:
            counts |= {"halved": self._student.halved - halved, "tokens_per_batch": self._student.tokens_per_batch}
            counts["batches"] = batch_figures(ran)
        buffer = pa.BufferOutputStream()
        pq.write_table(written.replace_schema_metadata({COUNTS: json.dumps(counts)}), buffer)
        self._out.write(part["name"], buffer.getvalue().to_pybytes())
        yield _done(part, len(texts) - shown, json.dumps(counts), reused=False)

    def _labelled(
        self, table: pa.Table, texts: list[str], probabilities: NDArray[np.float32]
    ) -> tuple[pa.Table, dict[str, Any]]:
        """The part with the student's answers, and its rows by value."""
        task, outputs, decision = TASKS[self._model.kind], self._student.outputs, self._student.decision
        blank = np.array([not text.strip() for text in texts])
        values = task.predictions.values(outputs, probabilities, decision)
        refused = ~blank & np.array([value is None for value in values])
        silent = blank | refused
        unsure = ~silent & (task.predictions.certainty(probabilities, decision) < self._abstain_below)
        for name, column in task.predictions.columns(outputs, probabilities, silent, decision).items():
            table = table.append_column(name, column)
        table = table.append_column("abstain", pa.array(silent | unsure))
        said = (task.targets.parts(value) for no, value in zip(silent, values, strict=True) if not no)
        counts = Counter(chain.from_iterable(said))
        reasons = {BLANK: blank, finite.NOT_FINITE: refused, UNSURE: unsure}
        return table, {
            "labels": dict(counts),
            "abstained": int((silent | unsure).sum()),
            "reasons": {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()},
        }


def _done(part: dict[str, Any], rows: int, counts: str | None, *, reused: bool) -> pa.Table:
    place = {name: part[name] for name in ("file", "number", "name")}
    return pa.Table.from_pylist([place | {"rows": rows, "counts": counts, "reused": reused}], schema=DONE)
