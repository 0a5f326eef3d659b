"""apply: a corpus -> the student's label for every text of it, in parts that are kept as they are done.

Files are read and predicted as they stream by, so that no more than a few parts are in memory, however large the
corpus is. A part is a fixed number of rows of one file, and is known by its content: whoever starts again, with a file
mended or added, predicts only the parts that are not there. ``tutelage predict`` does the same with a student and
files by themselves.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources
from runner.data.reading import Row, Source, count_rows, files_of, read_rows, without_rows
from runner.data.sources import source_key, source_of
from runner.observe.metrics import Meter
from runner.observe.progress import Progress
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.stages.contract import Context, one_student, versioned
from runner.student import finite
from runner.student.batches import batch_figures, halved_warning, mean_figures
from runner.student.trained import StudentRef, chosen_student
from runner.system.errors import DataError
from runner.system.sanitize import without_secrets

NAME = "apply"
NEEDS = ("train", "export")
VERSION = 1
WRITES: dict[str, None] = {}  # its parts lie beside the stages, where a run that is started again finds them

demands = one_student

SHOW_SECONDS = 1.0
"""Between two signs of life from a part that is being predicted: the driver reads those of all students."""

COUNTED_FILES = 64
"""Of more files than these the rows are not counted but estimated: opening each of many thousand takes minutes."""

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
class Corpus:
    """What is to be predicted: ``sources`` are read side by side, ``keep`` are columns that go along as text."""

    sources: tuple[Source, ...]
    text: str
    keep: tuple[str, ...]
    part_rows: int


def wanted(spec: Spec) -> bool:
    """Where the spec names a corpus."""
    return spec.data.corpus is not None


def key(spec: Spec) -> dict[str, Any]:
    """The corpus's content, and how it is cut and written."""
    assert spec.data.corpus is not None
    return {"corpus": source_key(spec, spec.data.corpus), "apply": spec.to_dict()["apply"], **versioned(VERSION)}


def run(context: Context) -> dict[str, Any]:
    """Label the spec's corpus. The parts lie in ``applied/`` of the run folder, where a killed run finds them."""
    spec, apply, student = context.spec, context.spec.apply, context.spec.student
    assert spec.data.corpus is not None
    source = source_of(spec, spec.data.corpus)
    corpus = Corpus(sources_of(source), spec.data.corpus.text, apply.keep, apply.part_rows)
    model = chosen_student(spec, context.inputs)
    # Not by the corpus's content: with a file mended or added, the other parts are still good.
    folder = "applied/" + fingerprint([asdict(model), source.known(), spec.data.corpus.text, spec.to_dict()["apply"]])
    _unmark(context.run, folder)
    found = predict_corpus(
        context.cluster,
        context.progress,
        model,
        corpus,
        apply.abstain_below,
        context.run.child(folder),
        Resources.of(student.resources),
        (1, student.resources.workers),
        spec.benchmark.price_per_hour,
    )
    return {name: value for name, value in found.items() if name != "parts"} | {"folder": folder}


def _unmark(run: Folder, folder: str) -> None:
    """Forget earlier runs over another content of the same corpus: their parts are about to be replaced."""
    for name in run.child(NAME).folders():
        if ((run.child(NAME, name).done or {}).get("summary") or {}).get("folder") == folder:
            run.child(NAME, name).clear()


def sources_of(source: Source) -> tuple[Source, ...]:
    """One source for each file, so that they are read side by side; one in all where they must be read in order."""
    if source.format == "hub" or source.limit is not None:
        return (source,)
    return tuple(replace(source, path=file) for file in files_of(source))


def predict_corpus(
    cluster: Cluster,
    progress: Progress,
    model: StudentRef,
    corpus: Corpus,
    abstain_below: float,
    out: Folder,
    wanted: Resources,
    replicas: tuple[int, int],
    price_per_hour: float | None = None,
) -> dict[str, Any]:
    """Predict all rows into ``part-*.parquet`` of ``out``; parts that are there are kept, and no others.

    A part has the kept columns, ``file``, ``row`` (from 1), ``text``, ``label``, ``probability`` (of that label),
    ``probability_<label>`` for each label, and ``abstain``: the probability is under ``abstain_below``, or the text
    is blank or the student's answer not finite, and then there is no label either. Returns rows, rows by label,
    abstentions (also by reason), rows that were there, seconds, new texts per second since the first came, warnings,
    and the names of the ``parts`` in the order of the corpus.
    ``price_per_hour`` is that of one replica, in USD, for the metrics; None: nobody knows it.

    :raises DataError: when a file is broken or lacks a column, with its line; what is done is kept.
    """
    progress.begin(NAME, _total(corpus), "texts")
    lines = [{"file": number, "source": json.dumps(asdict(one))} for number, one in enumerate(corpus.sources)]
    there = {name.rpartition("-")[2]: name for name in out.names(".parquet")}
    reader = Reader(corpus.text, corpus.keep, corpus.part_rows, out.url, there)
    arguments = {"model": model, "abstain_below": abstain_below, "out": out.url}
    tally, most = Tally(), replicas[1]
    price = None if price_per_hour is None else price_per_hour * most
    with Meter(cluster, progress, NAME, wanted.gpus * most, price) as meter:
        for table in cluster.stream(pa.Table.from_pylist(lines), reader, Predictor, arguments, wanted, replicas):
            for done in table.to_pylist():
                tally.add(done)
                progress.at(tally.rows)
                (meter.reused if done["reused"] else meter.applied)(done["rows"])
                meter.tick()
    if not tally.rows:
        raise DataError(f"{corpus.sources[0].path}: there is no row of data to predict")
    begun = {file for file, _ in tally.parts}
    if empty := [one.path for number, one in enumerate(corpus.sources) if number not in begun]:
        progress.warn([without_rows(empty)], NAME)
    for name in set(out.names(".parquet")) - set(tally.parts.values()):
        out.remove(name)  # of a file as it was before it was mended
    found = tally.summary()
    progress.warn(found["warnings"], NAME)
    return found


@dataclass
class Tally:
    """What is done so far."""

    rows: int = 0
    reused: int = 0
    abstained: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    recomputed: int = 0
    halved: int = 0
    tokens_per_batch: list[int] = field(default_factory=list)
    batches: list[dict[str, float]] = field(default_factory=list)
    """Of parts that an accelerator computed: how often batches were halved, to what, and what was in them."""
    precision: str = ""
    labels: Counter[str] = field(default_factory=Counter)
    parts: dict[tuple[int, int], str] = field(default_factory=dict)
    _start: float = field(default_factory=time.perf_counter)
    _first: tuple[int, float] | None = None

    def add(self, done: dict[str, Any]) -> None:
        """Count one line of :data:`DONE`."""
        self.rows += done["rows"]
        self.reused += done["rows"] * done["reused"]
        if self._first is None and not done["reused"]:
            self._first = self.rows - self.reused, time.perf_counter()
        if done["counts"]:
            counts = json.loads(done["counts"])
            self.labels.update(counts["labels"])
            self.abstained += counts["abstained"]
            self.reasons.update(counts.get("reasons", {}))  # parts of earlier versions have none
            self.recomputed += counts.get("recomputed", 0)
            self.precision = counts.get("precision", self.precision)
            if counts.get("batches") and not done["reused"]:
                self.halved += counts["halved"]
                self.tokens_per_batch.append(counts["tokens_per_batch"])
                self.batches.append(counts["batches"])
            self.parts[done["file"], done["number"]] = done["name"]

    def summary(self) -> dict[str, Any]:
        """JSON-able; the clock of the rate starts with the first rows, for before them models load."""
        now = time.perf_counter()
        before, since = self._first or (0, now)
        new = self.rows - self.reused - before
        return {
            "rows": self.rows,
            "labels": dict(self.labels),
            "abstained": self.abstained,
            "abstained_by_reason": dict(self.reasons.most_common()),
            "recomputed": self.recomputed,
            "batch": mean_figures(self.batches),
            "warnings": [
                *finite.said_of(self.reasons[finite.NOT_FINITE], self.rows, self.recomputed, self.precision),
                *halved_warning(self.halved, min(self.tokens_per_batch, default=0)),
            ],
            "reused": self.reused,
            "seconds": round(now - self._start, 3),
            "texts_per_second": new / (now - since) if new else None,
            "parts": [self.parts[place] for place in sorted(self.parts)],
        }


def _total(corpus: Corpus) -> int | None:
    """How many rows there are, or about as many; None where nobody can tell without reading all of it."""
    looked_at = corpus.sources[:: math.ceil(len(corpus.sources) / COUNTED_FILES)]
    counts = [count_rows(source) for source in looked_at]
    if None in counts:
        return None
    return sum(count or 0 for count in counts) * len(corpus.sources) // len(looked_at)


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
        which = np.array([places.setdefault(text, len(places)) for text in texts])  # equal texts are predicted once
        found = np.empty((len(places), len(self._student.labels)), dtype=np.float32)
        shown, done, last = 0, 0, time.monotonic()
        before, halved = self._student.recomputed, self._student.halved
        with self._student.recorded() as ran:
            for rows, probabilities in self._student.batches(list(places)):
                found[rows] = probabilities
                done += len(rows)
                if time.monotonic() - last >= SHOW_SECONDS and done < len(places):
                    yield _done(part, done - shown, None, reused=False)
                    shown, last = done, time.monotonic()
        written, counts = self._labelled(table, texts, found[which])
        counts |= {"recomputed": self._student.recomputed - before, "precision": self._student.precision}
        if self._student.in_flight:
            counts |= {"halved": self._student.halved - halved, "tokens_per_batch": self._student.tokens_per_batch}
            counts["batches"] = batch_figures(ran)
        buffer = pa.BufferOutputStream()
        pq.write_table(written.replace_schema_metadata({COUNTS: json.dumps(counts)}), buffer)
        self._out.write(part["name"], buffer.getvalue().to_pybytes())
        yield _done(part, len(texts) - shown, json.dumps(counts), reused=False)

    def _labelled(self, table: pa.Table, texts: list[str], found: Any) -> tuple[pa.Table, dict[str, Any]]:
        """The part with what the student says of it, and its rows by label."""
        labels = self._student.labels
        blank = np.array([not text.strip() for text in texts])
        best, sure = finite.chosen(found), found.max(axis=1)
        unknown = ~blank & (best < 0)
        silent = blank | unknown
        unsure = ~silent & (sure < self._abstain_below)
        said = pa.array([None if no else labels[k] for no, k in zip(silent, best, strict=True)], pa.string())
        table = table.append_column("label", said)
        table = table.append_column(
            "probability", pa.array(np.where(silent, np.nan, sure), pa.float32(), from_pandas=True)
        )
        for k, label in enumerate(labels):
            column = pa.array(np.where(silent, np.nan, found[:, k]), pa.float32(), from_pandas=True)
            table = table.append_column(f"probability_{label}", column)
        table = table.append_column("abstain", pa.array(silent | unsure))
        counts = Counter(labels[k] for no, k in zip(silent, best, strict=True) if not no)
        reasons = {BLANK: blank, finite.NOT_FINITE: unknown, UNSURE: unsure}
        return table, {
            "labels": dict(counts),
            "abstained": int((silent | unsure).sum()),
            "reasons": {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()},
        }


def _done(part: dict[str, Any], rows: int, counts: str | None, *, reused: bool) -> pa.Table:
    place = {name: part[name] for name in ("file", "number", "name")}
    return pa.Table.from_pylist([place | {"rows": rows, "counts": counts, "reused": reused}], schema=DONE)
