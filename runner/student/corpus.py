"""A corpus of any size, predicted by students side by side into parts that are kept as they are done.

Files are read and predicted as they stream by, so that no more than a few parts are in memory, however large the
corpus is. A part is a fixed number of rows of one file, and is known by its content: whoever starts again, with a file
mended or added, predicts only the parts that are not there.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources
from runner.data.reading import Source, count_rows, files_of, without_rows
from runner.observe.metrics import Meter
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.student import finite
from runner.student.batches import halved_warning, mean_figures
from runner.student.corpus_worker import Predictor, Reader
from runner.student.trained import StudentRef
from runner.system.errors import DataError

STAGE = "apply"

COUNTED_FILES = 64
"""Of more files than these the rows are not counted but estimated: opening each of many thousand takes minutes."""


@dataclass(frozen=True)
class Corpus:
    """What is to be predicted: ``sources`` are read side by side, ``keep`` are columns that go along as text."""

    sources: tuple[Source, ...]
    text: str
    keep: tuple[str, ...]
    part_rows: int


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
    progress.begin(STAGE, _total(corpus), "texts")
    lines = [{"file": number, "source": json.dumps(asdict(one))} for number, one in enumerate(corpus.sources)]
    there = {name.rpartition("-")[2]: name for name in out.names(".parquet")}
    reader = Reader(corpus.text, corpus.keep, corpus.part_rows, out.url, there)
    arguments = {"model": model, "abstain_below": abstain_below, "out": out.url}
    tally, most = Tally(), replicas[1]
    price = None if price_per_hour is None else price_per_hour * most
    with Meter(cluster, progress, STAGE, wanted.gpus * most, price) as meter:
        for table in cluster.stream(pa.Table.from_pylist(lines), reader, Predictor, arguments, wanted, replicas):
            for done in table.to_pylist():
                tally.add(done)
                progress.at(tally.rows)
                (meter.reused if done["reused"] else meter.applied)(done["rows"])
                meter.tick()
    if not tally.rows:
        raise DataError("data.no-rows", f"{corpus.sources[0].path}: there is no row of data to predict")
    begun = {file for file, _ in tally.parts}
    if empty := [one.path for number, one in enumerate(corpus.sources) if number not in begun]:
        progress.warn([without_rows(empty)], STAGE)
    for name in set(out.names(".parquet")) - set(tally.parts.values()):
        out.remove(name)  # of a file as it was before it was mended
    found = tally.summary()
    progress.warn(found["warnings"], STAGE)
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
        """Count one line of :data:`runner.student.corpus_worker.DONE`."""
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
