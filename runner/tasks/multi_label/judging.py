"""Raw answers -> the labels of a row with a probability for each, or an abstention with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runner.spec import Spec
from runner.system.errors import DataError
from runner.tasks.multi_label import calibrate, recorded
from runner.tasks.multi_label.asking import answer_format
from runner.tasks.multi_label.pooling import alpha, pool_labels, same_value
from runner.tasks.multi_label.votes import SMOOTHING, agreement, majority
from runner.tasks.protocol import Judgement
from runner.tasks.shared.columns import ADVICE, Columns
from runner.tasks.shared.labels import listed
from runner.tasks.shared.recorded_votes import lacking, looked_at
from runner.teacher.batch import by_row, is_finite
from runner.teacher.conversation import counted
from runner.teacher.converse import NOT_FINITE

COLUMNS = (
    pa.field("label", pa.list_(pa.string())),
    pa.field("probabilities", pa.list_(pa.float64())),
    pa.field("agreement", pa.float64()),
    pa.field("votes", pa.list_(pa.list_(pa.string()))),
    pa.field("reason", pa.string()),
)

HALF = 0.5
"""A label with a larger share, or probability of yes, is given."""


@dataclass(frozen=True)
class Verdict:
    """What the ``votes`` on one row come to; ``label`` None is an abstention, and ``reason`` says why.

    ``probabilities`` are those of yes, one a label. ``agreement`` is the mean of Jaccard's index of the votes with
    ``label``.
    """

    label: list[str] | None
    probabilities: list[float] | None
    agreement: float
    reason: str | None = None
    votes: Sequence[list[str] | None] = ()


def key(spec: Spec) -> dict[str, Any]:
    """The labels and, for probabilities, the calibration."""
    return {
        "kind": "multi-label",
        "labels": list(spec.task.labels),
        "calibration": [_calibration(teacher) for teacher in spec.teachers()],
        "deviations": calibrate.DEVIATIONS,
        "smoothing": SMOOTHING,
    }


def certain(spec: Spec, value: Sequence[str]) -> dict[str, Any]:
    """All of the probability on these labels."""
    probabilities = [float(label in value) for label in spec.task.labels]
    return {"label": list(value), "probabilities": probabilities, "agreement": 1.0, "reason": None}


def judge(spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]) -> Judgement:
    """The labels of each row from the votes or the probabilities of one teacher, or of several pooled.

    :raises DataError: when they leave nothing to learn from, or recorded columns lack too many votes.
    """
    teachers = spec.teachers()
    found, said_of_teachers = _all_verdicts(spec, rows, answers)
    if not found:
        raise DataError(
            "teacher.nothing-answered", "the teacher answered no row; see label/*/failures.parquet for the reasons"
        )
    columns = [looked_at(teacher, given) for teacher, given in zip(teachers, answers, strict=True)]
    looked = [one for one in columns if one is not None]
    table = [row | vars(found[row["id"]]) for row in rows if row["id"] in found]
    summary = _summary(spec, table, looked)
    warnings = [words for one in looked for words in lacking(one, spec)]
    warnings += _unlearnable(summary["class_shares"], rows)
    return Judgement({id_: vars(verdict) for id_, verdict in found.items()}, summary, warnings, said_of_teachers)


def verdicts(spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]) -> dict[str, dict[str, Any]]:
    """The verdicts of :func:`judge` alone, by row id."""
    return {id_: vars(verdict) for id_, verdict in _all_verdicts(spec, rows, answers)[0].items()}


def _all_verdicts(
    spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]
) -> tuple[dict[str, Verdict], dict[str, Any] | None]:
    """The verdicts by row id, and what is to be said of several teachers."""
    teachers = spec.teachers()
    by_teacher = [_verdicts(teacher, rows, given) for teacher, given in zip(teachers, answers, strict=True)]
    if len(teachers) == 1 or not any(by_teacher):
        return by_teacher[0], None
    return _pooled(by_teacher, rows, spec)


def _verdicts(spec: Spec, rows: list[dict[str, Any]], answers: pa.Table) -> dict[str, Verdict]:
    """What one teacher says, by row id, for the rows that it answered."""
    by_id = by_row(answers.filter(pc.equal(answers["kind"], "row")))
    known = {id_: [record for record in records if is_finite(record)] for id_, records in by_id.items()}
    found = {id_: Verdict(None, None, 0.0, NOT_FINITE) for id_, records in known.items() if not records}
    mine = [row for row in rows if known.get(row["id"])]
    if not _sampled(spec):
        return found | (_by_probability(spec, mine, known, answers) if mine else {})
    counts = {}
    for row in mine:
        records = sorted(known[row["id"]], key=lambda record: (int(record["vote"]), int(record["attempt"])))
        votes = _votes(spec, records)
        if any(record["label_probabilities"] for record in records):
            found[row["id"]] = _mean_of_recorded(spec, records, votes)
        else:
            counts[row["id"]] = (votes, records[0]["text"] or "")
    return found | _counted(counts, spec.task.labels)


def _counted(by_id: Mapping[str, tuple[Sequence[list[str] | None], str]], labels: Sequence[str]) -> dict[str, Verdict]:
    """Each label's majority, with its share of the usable votes drawn to its share in all rows.

    ``by_id`` has the votes on each row, and an answer to show where none of them is usable.
    """
    usable = [vote for votes, _ in by_id.values() for vote in votes if vote is not None]
    given = Counter(label for vote in usable for label in vote)
    common = {label: given[label] / max(1, len(usable)) for label in labels}
    found = {}
    for id_, (votes, answer) in by_id.items():
        mine = [vote for vote in votes if vote is not None]
        value = majority(votes, labels)
        if value is None:
            reason = f"no usable answer: {answer[:80]!r}" if votes else "no answer"
            found[id_] = Verdict(None, None, 0.0, reason, votes)
            continue
        count = Counter(label for vote in mine for label in vote)
        shares = [(count[label] + SMOOTHING * common[label]) / (len(mine) + SMOOTHING) for label in labels]
        found[id_] = Verdict(value, shares, agreement(votes, value), None, votes)
    return found


def _votes(spec: Spec, records: list[dict[str, Any]]) -> list[list[str] | None]:
    """The votes that count, of records in their order."""
    teacher, labels = spec.teacher, spec.task.labels
    if teacher.engine == "recorded":
        return [recorded.said(record["text"] or "", labels) for record in records]
    return counted(records, answer_format(vars(spec.task)), teacher.votes, teacher.early_stop)


def _mean_of_recorded(spec: Spec, records: list[dict[str, Any]], votes: Sequence[list[str] | None]) -> Verdict:
    """Of recorded probabilities the mean; a plain list among them is one that is sure."""
    shares = [
        record["label_probabilities"] or [float(label in vote) for label in spec.task.labels]
        for record, vote in zip(records, votes, strict=True)
        if vote is not None
    ]
    return _probable(np.mean(shares, axis=0).tolist(), spec.task.labels, votes)


def _by_probability(
    spec: Spec, rows: list[dict[str, Any]], by_id: Mapping[str, list[dict[str, Any]]], answers: pa.Table
) -> dict[str, Verdict]:
    raw = np.array([by_id[row["id"]][0]["label_probabilities"] for row in rows], dtype=np.float64)
    found = _calibrated(spec, raw, rows, answers)
    return {row["id"]: _probable(shares.tolist(), spec.task.labels) for row, shares in zip(rows, found, strict=True)}


def _probable(shares: list[float], labels: Sequence[str], votes: Sequence[list[str] | None] = ()) -> Verdict:
    value = [label for label, share in zip(labels, shares, strict=True) if share > HALF]
    return Verdict(value, shares, agreement(votes, value) if votes else 1.0, None, votes)


def _calibrated(
    spec: Spec, raw: NDArray[np.float64], rows: list[dict[str, Any]], answers: pa.Table
) -> NDArray[np.float64]:
    kind = _calibration(spec)
    if kind == "content-free":
        asked = answers.filter(pc.equal(answers["kind"], "content-free")).to_pylist()
        free = [one["label_probabilities"] for one in asked if is_finite(one)]
        # All of them may have failed, in an engine that barely works; raw is then all there is.
        return calibrate.above_nothing(raw, np.array(free)) if free else raw
    if kind == "batch":
        train = raw[[row["split"] == "train" for row in rows]]
        return calibrate.evened(raw, train.mean(axis=0)) if len(train) else raw
    return raw


def _calibration(spec: Spec) -> str:
    return "none" if _sampled(spec) else spec.teacher.calibration


def _sampled(spec: Spec) -> bool:
    return spec.teacher.engine == "recorded" or spec.teacher.prompt == "cot"


def _pooled(
    teachers: list[dict[str, Verdict]], rows: list[dict[str, Any]], spec: Spec
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    """What several teachers come to, and how far they agree."""
    labels = spec.task.labels
    ids = [row["id"] for row in rows if any(row["id"] in one for one in teachers)]
    said = [[one.get(id_, Verdict(None, None, 0.0)) for one in teachers] for id_ in ids]
    shares = np.array([[verdict.probabilities or [HALF] * len(labels) for verdict in row] for row in said])
    missing = np.array([[verdict.probabilities is None for verdict in row] for row in said])
    pooled = pool_labels(shares, missing)
    given = [[verdict.label for verdict in row] for row in said]
    found = {}
    for id_, row, values, chances in zip(ids, said, given, pooled.probabilities.tolist(), strict=True):
        if all(value is None for value in values):
            found[id_] = Verdict(None, None, 0.0, row[0].reason or "no teacher said which labels apply", values)
        else:
            found[id_] = _probable(chances, labels, values)
    return found, {
        "models": [one.teacher.model for one in spec.teachers()],
        "method": pooled.method,
        "weights": pooled.weights.tolist(),
        "krippendorff_alpha": _number(alpha(given, labels)),
        "pairwise_agreement": [[_number(share) for share in line] for line in same_value(given).tolist()],
    }


def _number(value: float) -> float | None:
    """NaN is not JSON."""
    return None if math.isnan(value) else float(value)


def _unlearnable(shares: Mapping[str, float], rows: Sequence[dict[str, Any]]) -> list[str]:
    """What to say of labels that test texts have, and that the teacher gave to no train text."""
    texts = Counter(label for row in rows for label in row.get("label") or () if not shares[label])
    if not texts:
        return []
    return [
        f"the teacher gave no train text {listed(list(texts))}, which {texts.total():,} labels of test texts are: the "
        "student cannot learn them, and lacks them there"
    ]


def _summary(spec: Spec, table: list[dict[str, Any]], looked: Sequence[Columns]) -> dict[str, Any]:
    train = [row for row in table if row["split"] == "train"]
    labelled = [row for row in train if row["label"] is not None]
    values = Counter(tuple(row["label"]) for row in labelled)
    if len(values) < 2:
        raise DataError("teacher.too-few-labels", _nothing_to_learn(spec, train, values, looked))
    counts = Counter(label for row in labelled for label in row["label"])
    abstained = [row for row in table if row["label"] is None]
    return {
        "rows": len(table),
        "abstained": len(abstained),
        "abstained_by_reason": dict(Counter(row["reason"].split(":")[0] for row in abstained)),
        "class_shares": {label: counts[label] / len(labelled) for label in spec.task.labels},
        "mean_labels": counts.total() / len(labelled),
        "without_label": values[()] / len(labelled),
        "mean_agreement": sum(row["agreement"] for row in table) / len(table),
        "calibration": _calibration(spec),
    }


def _nothing_to_learn(
    spec: Spec, train: Sequence[dict[str, Any]], values: Mapping[tuple[str, ...], int], looked: Sequence[Columns]
) -> str:
    only = next(iter(values), None)
    found = "abstained on all of them"
    if only is not None:
        found = f"gave all of them the same labels ({listed(only)})" if only else "gave none of them a label"
    first = f", the first: {train[0]['text'][:80]!r}" if train else ""
    advice = "look at the answers in label/*/answers.parquet, then at task.instructions and task.examples"
    if looked and all(one.teacher.engine == "recorded" for one in spec.teachers()):  # nobody was instructed
        advice = "; ".join([*(one.held() for one in looked), ADVICE])
    return f"the teacher {found} ({len(train)} train rows): there is nothing to learn{first}; {advice}"
