"""The run folder's files as one value: everything that the report needs, nothing that it does not show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner.review.decisions import Decision
from runner.review.summary import summary
from runner.system.errors import DataError
from runner.tasks.kinds import kind_of
from runner.tasks.shared.shown import ShownRow

STAGES = ("load", "label", "vote", "train", "evaluate", "benchmark")
"""The stages whose files the report reads."""

OPTIONAL = {"audit", "correct", "export", "apply"}
"""Stages that a run has where its spec asks for them."""

# A text as the stages quote it, with repr.
_QUOTED = re.compile(r"""(?<!\w)(['"])(?:\\.|(?!\1).)*\1""")

Read = Callable[[str], bytes]
Exists = Callable[[str], bool]


@dataclass(frozen=True)
class Run:
    """A finished run: ``run.json``, the stages' summaries by name, two files, and the rows worth a look.

    ``review`` is what people decided (:func:`runner.review.summary.summary`), and ``before`` what was measured without
    their corrections. ``places`` are the stages' folders by name; ``given`` counts the teacher's values on train rows,
    None where it abstained, and is empty where the votes are not there.
    """

    info: dict[str, Any]
    summaries: dict[str, dict[str, Any]]
    evaluation: dict[str, Any]
    benchmark: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    given: dict[Any, int] = field(default_factory=dict)
    doubtful: list[ShownRow] = field(default_factory=list)
    mistaken: list[ShownRow] = field(default_factory=list)
    review: dict[str, Any] | None = None
    before: dict[str, Any] | None = None


def gather(read: Read, exists: Exists, decisions: Sequence[Decision] = ()) -> Run:
    """Read the run folder, in which people took ``decisions``.

    :raises DataError: when it holds no finished run, or one of its files is broken.
    """
    if not exists("run.json"):
        raise DataError(
            "report.no-run-json", "run.json: not there; is this a run folder, and has its run finished once?"
        )
    info = _json(read, "run.json")
    places = {stage["name"]: f"{stage['name']}/{stage['fingerprint']}" for stage in info.get("stages", [])}
    for name in STAGES:
        if name not in places or not exists(f"{places[name]}/done.json"):
            raise DataError(
                "report.stage-unfinished", f"{name}: this stage has not finished in this run folder; run the spec again"
            )
    summaries = {name: _json(read, f"{places[name]}/done.json").get("summary") or {} for name in STAGES}
    for name in OPTIONAL & places.keys():
        summaries[name] = _json(read, f"{places[name]}/done.json").get("summary") or {}
    showing = kind_of(info["spec"]).showing
    votes = _table(read, exists, f"{places.get('correct', places['vote'])}/votes.parquet")
    train = None if votes is None else votes.filter(pc.equal(votes["split"], "train"))
    predictions = _table(read, exists, f"{places['evaluate']}/predictions.parquet")
    return Run(
        info=info,
        summaries=summaries,
        evaluation=_json(read, f"{places['evaluate']}/evaluate.json"),
        benchmark=_json(read, f"{places['benchmark']}/benchmark.json"),
        places=places,
        given={} if train is None else showing.given(train),
        doubtful=[] if train is None else showing.doubtful(info["spec"], train),
        mistaken=[] if predictions is None else showing.mistaken(info["spec"], predictions),
        review=_review(read, exists, places, decisions),
        before=_before(read, exists, info),
    )


def _review(read: Read, exists: Exists, places: dict[str, str], decisions: Sequence[Decision]) -> dict[str, Any] | None:
    votes = _table(read, exists, f"{places['vote']}/votes.parquet") if decisions else None
    teacher = {} if votes is None else dict(zip(votes["id"].to_pylist(), votes["label"].to_pylist(), strict=True))
    return summary(decisions, teacher)


def _before(read: Read, exists: Exists, info: dict[str, Any]) -> dict[str, Any] | None:
    """The evaluation of the job without corrections; None where there was none on the same rows."""
    path = f"evaluate/{(info.get('before') or {}).get('evaluate')}/evaluate.json"
    return _json(read, path) if exists(path) else None


def without_texts(run: Run) -> Run:
    """The run with no text of its data in it, for copies that are handed on: no rows, and no quotes in warnings."""
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
        raise DataError("report.file-unreadable", f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise DataError("report.file-broken", f"{path}: broken: {error}") from error
    if not isinstance(value, dict):
        raise DataError("report.file-broken", f"{path}: broken: not an object")
    return value


def _table(read: Read, exists: Exists, path: str) -> pa.Table | None:
    """A parquet file, or None where it is not there: its rows are then not shown."""
    if not exists(path):
        return None
    try:
        return pq.read_table(pa.BufferReader(read(path)))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError("report.file-broken", f"{path}: broken: {error}") from error
