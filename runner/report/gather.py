"""The run folder's files as one value: everything that the report needs, nothing that it does not show."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from runner.system.errors import DataError

STAGES = ("load", "label", "vote", "train", "evaluate", "benchmark")
"""The stages whose files the report reads."""

OPTIONAL = {"export", "apply"}
"""Stages that a run has where its spec asks for them."""

SHOWN = 10
"""Rows in each list of rows."""

# A text as the stages quote it, with repr.
_QUOTED = re.compile(r"""(?<!\w)(['"])(?:\\.|(?!\1).)*\1""")

Read = Callable[[str], bytes]
Exists = Callable[[str], bool]


@dataclass(frozen=True)
class Row:
    """One row worth a look.

    ``given`` is the label it got (None: the teacher abstained, for ``reason``), ``chances`` are (label,
    probability) pairs, the likeliest first, and ``figure`` is what the list is sorted by.
    """

    text: str
    given: str | None
    chances: list[tuple[str, float]]
    figure: float
    reason: str | None = None
    truth: str | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class Run:
    """A finished run: ``run.json``, the stages' summaries by name, two files, and the rows worth a look.

    ``places`` are the stages' folders by name; ``given`` counts the teacher's labels on train rows, None where it
    abstained, and is empty where the votes are not there.
    """

    info: dict[str, Any]
    summaries: dict[str, dict[str, Any]]
    evaluation: dict[str, Any]
    benchmark: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    given: dict[str | None, int] = field(default_factory=dict)
    doubtful: list[Row] = field(default_factory=list)
    mistaken: list[Row] = field(default_factory=list)


def gather(read: Read, exists: Exists) -> Run:
    """Read the run folder.

    :raises DataError: when it holds no finished run, or one of its files is broken.
    """
    if not exists("run.json"):
        raise DataError("run.json: not there; is this a run folder, and has its run finished once?")
    info = _json(read, "run.json")
    places = {stage["name"]: f"{stage['name']}/{stage['fingerprint']}" for stage in info.get("stages", [])}
    for name in STAGES:
        if name not in places or not exists(f"{places[name]}/done.json"):
            raise DataError(f"{name}: this stage has not finished in this run folder; run the spec again")
    summaries = {name: _json(read, f"{places[name]}/done.json").get("summary") or {} for name in STAGES}
    for name in OPTIONAL & places.keys():
        summaries[name] = _json(read, f"{places[name]}/done.json").get("summary") or {}
    labels = list(info["spec"]["task"]["labels"])
    votes = _table(read, exists, f"{places['vote']}/votes.parquet")
    train = None if votes is None else votes.filter(pc.equal(votes["split"], "train"))
    return Run(
        info=info,
        summaries=summaries,
        evaluation=_json(read, f"{places['evaluate']}/evaluate.json"),
        benchmark=_json(read, f"{places['benchmark']}/benchmark.json"),
        places=places,
        given={} if train is None else dict(Counter(train["label"].to_pylist())),
        doubtful=_doubtful(train, labels),
        mistaken=_mistaken(_table(read, exists, f"{places['evaluate']}/predictions.parquet"), labels),
    )


def without_texts(run: Run) -> Run:
    """The run with no text of its data in it, for copies that leave the house: no rows, and no quotes in warnings."""
    summaries = {name: {**summary, **_unquoted(summary)} for name, summary in run.summaries.items()}
    summaries["label"] = {**summaries["label"], "longest": []}
    return replace(run, summaries=summaries, doubtful=[], mistaken=[])


def _unquoted(summary: dict[str, Any]) -> dict[str, Any]:
    """A stage's warnings without what they quote of the data."""
    if not summary.get("warnings"):
        return {}
    return {"warnings": [_QUOTED.sub("(text left out)", said) for said in summary["warnings"]]}


def _json(read: Read, path: str) -> dict[str, Any]:
    try:
        value = json.loads(read(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise DataError(f"{path}: broken: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: broken: not an object")
    return value


def _table(read: Read, exists: Exists, path: str) -> pa.Table | None:
    """A parquet file, or None where it is not there: its rows are then not shown."""
    if not exists(path):
        return None
    try:
        return pq.read_table(pa.BufferReader(read(path)))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: broken: {error}") from error


def _matrix(column: pa.ChunkedArray, width: int) -> NDArray[np.float64]:
    """A column of lists as rows by ``width``; NaN where there is none, or one of another length."""
    chances = np.full((len(column), width), np.nan)
    fits = pc.fill_null(pc.equal(pc.list_value_length(column), width), False).to_numpy(zero_copy_only=False)
    lists = column.filter(pa.array(fits))
    chances[fits] = pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(-1, width)
    return chances


def _doubtful(votes: pa.Table | None, labels: Sequence[str]) -> list[Row]:
    """The train rows on which the teacher's two likeliest labels lie closest together."""
    if votes is None:
        return []
    chances = _matrix(votes["probabilities"], len(labels))
    top = np.sort(chances, axis=1)
    margin = top[:, -1] - top[:, -2]
    order = [int(k) for k in np.argsort(margin, kind="stable")[:SHOWN] if np.isfinite(margin[k])]
    return [
        Row(
            text=row["text"] or "",
            given=row["label"],
            chances=_ranked(labels, chances[k]),
            figure=float(margin[k]),
            reason=row.get("reason"),
        )
        for k, row in zip(order, votes.take(pa.array(order, pa.int64())).to_pylist(), strict=True)
    ]


def _mistaken(predictions: pa.Table | None, labels: Sequence[str]) -> list[Row]:
    """The test rows on which the student is wrong and most sure of it."""
    if predictions is None:
        return []
    wrong = pc.fill_null(pc.not_equal(predictions["label"], predictions["student_label"]), False)
    predictions = predictions.filter(wrong)
    chances = _matrix(predictions["student_probabilities"], len(labels))
    places = {label: k for k, label in enumerate(labels)}
    given = [places.get(label, 0) for label in predictions["student_label"].to_pylist()]
    confidence = chances[np.arange(len(given)), given]
    order = [int(k) for k in np.argsort(-confidence, kind="stable")[:SHOWN] if np.isfinite(confidence[k])]
    return [
        Row(
            text=row["text"] or "",
            given=row["student_label"],
            chances=_ranked(labels, chances[k]),
            figure=float(confidence[k]),
            truth=row["label"],
            teacher=row.get("teacher_label"),
        )
        for k, row in zip(order, predictions.take(pa.array(order, pa.int64())).to_pylist(), strict=True)
    ]


def _ranked(labels: Sequence[str], chances: NDArray[np.float64]) -> list[tuple[str, float]]:
    return [(labels[int(k)], float(chances[k])) for k in np.argsort(-chances, kind="stable")]
