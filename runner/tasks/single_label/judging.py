"""Raw answers -> one label with a probability for each, or an abstention with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runner.spec import Spec
from runner.system.errors import DataError
from runner.tasks.protocol import Judgement
from runner.tasks.shared.columns import ADVICE, Columns
from runner.tasks.shared.labels import LISTED, listed
from runner.tasks.shared.recorded_votes import lacking, looked_at
from runner.tasks.single_label import calibrate, recorded
from runner.tasks.single_label.asking import answer_format
from runner.tasks.single_label.dawid_skene import krippendorff_alpha, pairwise_agreement, pool
from runner.tasks.single_label.votes import SMOOTHING, majority, probabilities
from runner.teacher.batch import by_row, is_finite
from runner.teacher.conversation import counted
from runner.teacher.converse import NOT_FINITE

COLUMNS = (
    pa.field("label", pa.string()),
    pa.field("probabilities", pa.list_(pa.float64())),
    pa.field("agreement", pa.float64()),
    pa.field("votes", pa.list_(pa.string())),
    pa.field("reason", pa.string()),
)


@dataclass(frozen=True)
class Verdict:
    """What the ``votes`` on one row come to; ``label`` None is an abstention, and ``reason`` says why."""

    label: str | None
    probabilities: list[float] | None
    agreement: float
    reason: str | None = None
    votes: Sequence[str | None] = ()


def key(spec: Spec) -> dict[str, Any]:
    """The labels and, for distributions, the calibration."""
    return {
        "labels": list(spec.task.labels),
        "calibration": [_calibration(teacher) for teacher in spec.teachers()],
        "strength": calibrate.STRENGTH,
        "smoothing": SMOOTHING,
    }


def certain(spec: Spec, value: str) -> dict[str, Any]:
    """All of the probability on one label."""
    probabilities = [float(label == value) for label in spec.task.labels]
    return {"label": value, "probabilities": probabilities, "agreement": 1.0, "reason": None}


def judge(spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]) -> Judgement:
    """One label for each row from the votes or the distributions of one teacher, or of several pooled.

    :raises DataError: when they leave nothing to learn from, or recorded columns lack too many votes.
    """
    teachers = spec.teachers()
    by_teacher = [_verdicts(teacher, rows, given) for teacher, given in zip(teachers, answers, strict=True)]
    if not any(by_teacher):
        raise DataError(
            "teacher.nothing-answered", "the teacher answered no row; see label/*/failures.parquet for the reasons"
        )
    verdicts, agreement = (by_teacher[0], None) if len(teachers) == 1 else _pooled(by_teacher, rows, spec)
    columns = [looked_at(teacher, given) for teacher, given in zip(teachers, answers, strict=True)]
    recorded_columns = [looked for looked in columns if looked is not None]
    table = [row | vars(verdicts[row["id"]]) for row in rows if row["id"] in verdicts]
    summary = _summary(spec, table, recorded_columns)
    warnings = [words for looked in recorded_columns for words in lacking(looked, spec)]
    warnings += _unlearnable(summary["class_shares"], rows)
    return Judgement({id_: vars(verdict) for id_, verdict in verdicts.items()}, summary, warnings, agreement)


def verdicts(spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]) -> dict[str, dict[str, Any]]:
    """The verdicts of :func:`judge` alone, by row id."""
    teachers = spec.teachers()
    by_teacher = [_verdicts(teacher, rows, given) for teacher, given in zip(teachers, answers, strict=True)]
    found = by_teacher[0] if len(teachers) == 1 or not any(by_teacher) else _pooled(by_teacher, rows, spec)[0]
    return {id_: vars(verdict) for id_, verdict in found.items()}


def _verdicts(spec: Spec, rows: list[dict[str, Any]], answers: pa.Table) -> dict[str, Verdict]:
    """What one teacher says, by row id, for the rows that it answered."""
    by_id = by_row(answers.filter(pc.equal(answers["kind"], "row")))
    mine = [row for row in rows if row["id"] in by_id]
    # Answers of earlier versions may hold probabilities that are no numbers: they say nothing.
    known = {id_: [record for record in records if is_finite(record)] for id_, records in by_id.items()}
    verdicts = {id_: Verdict(None, None, 0.0, NOT_FINITE) for id_, records in known.items() if not records}
    mine = [row for row in mine if known[row["id"]]]
    if not _sampled(spec):
        found = _distributions(spec, mine, known, answers) if mine else []
        return verdicts | {row["id"]: verdict for row, verdict in zip(mine, found, strict=True)}
    for row in mine:
        records = known[row["id"]]
        if any(record["label_probabilities"] for record in records):
            verdicts[row["id"]] = _mean_of_recorded(spec, records)
            continue
        votes = _votes(spec, records)
        verdicts[row["id"]] = replace(count_votes(votes, spec.task.labels, records[0]["text"] or ""), votes=votes)
    return verdicts


def _pooled(
    teachers: list[dict[str, Verdict]], rows: list[dict[str, Any]], spec: Spec
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    """What several teachers come to, and how far they agree."""
    labels = spec.task.labels
    ids = [row["id"] for row in rows if any(row["id"] in one for one in teachers)]
    said = [[one.get(id_, Verdict(None, None, 0.0)) for one in teachers] for id_ in ids]
    even = [1 / len(labels)] * len(labels)
    shares = np.array([[verdict.probabilities or even for verdict in row] for row in said])
    missing = np.array([[verdict.probabilities is None for verdict in row] for row in said])
    pooled = pool(shares, missing)
    places = {name: place for place, name in enumerate(labels)}
    votes = np.array([[places.get(verdict.label or "", -1) for verdict in row] for row in said])
    found = {}
    for id_, row, chances in zip(ids, said, pooled.probabilities.tolist(), strict=True):
        given = [verdict.label for verdict in row]
        one = _most_probable(chances, labels)
        usable = [vote for vote in given if vote is not None]
        if not usable:
            one = Verdict(None, None, 0.0, row[0].reason or "no teacher named a label")
        agreeing = sum(vote == one.label for vote in usable) / max(1, len(usable))
        found[id_] = replace(one, agreement=agreeing, votes=given)
    return found, {
        "models": [one.teacher.model for one in spec.teachers()],
        "method": pooled.method,
        "weights": pooled.weights.tolist(),
        "krippendorff_alpha": _number(krippendorff_alpha(votes)),
        "pairwise_agreement": [[_number(share) for share in line] for line in pairwise_agreement(votes).tolist()],
    }


def _number(value: float) -> float | None:
    """NaN is not JSON."""
    return None if math.isnan(value) else float(value)


def count_votes(votes: Sequence[str | None], labels: Sequence[str], answer: str = "") -> Verdict:
    """The majority among the usable votes (None: unusable), with smoothed shares as probabilities.

    ``answer`` is a raw answer, to show where none is usable.
    """
    usable = [vote for vote in votes if vote is not None]
    if not usable:
        return Verdict(None, None, 0.0, f"no usable answer: {answer[:80]!r}" if votes else "no answer")
    counts = Counter(usable)
    agreement = counts.most_common(1)[0][1] / len(usable)
    shares = probabilities(usable, labels)
    if (winner := majority(usable)) is None:
        return Verdict(None, shares, agreement, "tie: " + ", ".join(f"{vote} {n}" for vote, n in counts.items()))
    return Verdict(winner, shares, agreement)


def _votes(spec: Spec, records: list[dict[str, Any]]) -> list[str | None]:
    teacher, labels = spec.teacher, spec.task.labels
    if teacher.engine == "recorded":
        in_order = sorted(records, key=lambda record: int(record["vote"]))
        return [recorded.label_of(record["text"] or "", labels) for record in in_order]
    return counted(records, answer_format(vars(spec.task)), teacher.votes, teacher.early_stop)


def _mean_of_recorded(spec: Spec, records: list[dict[str, Any]]) -> Verdict:
    """Of recorded probabilities the mean; a plain label among them is one that is sure."""
    labels = spec.task.labels
    votes = _votes(spec, records)
    shares = [
        record["label_probabilities"] or [float(label == vote) for label in labels]
        for record, vote in zip(records, votes, strict=True)
        if record["label_probabilities"] or vote is not None
    ]
    found = _most_probable(np.mean(shares, axis=0).tolist(), labels)
    return replace(found, agreement=sum(vote == found.label for vote in votes) / len(votes), votes=votes)


def _distributions(
    spec: Spec, rows: list[dict[str, Any]], by_id: dict[str, list[dict[str, Any]]], answers: pa.Table
) -> list[Verdict]:
    raw = np.array([by_id[row["id"]][0]["label_probabilities"] for row in rows], dtype=np.float64)
    found = _calibrated(spec, raw, rows, answers)
    shown = _shown([by_id[row["id"]][0] for row in rows], raw.shape[1])
    if not shown.all():  # what the teacher was not shown has no probability, whatever is divided
        found = np.where(shown, found, 0.0)
        found /= found.sum(axis=1, keepdims=True)
    return [_most_probable(row.tolist(), spec.task.labels) for row in found]


def _most_probable(shares: list[float], labels: Sequence[str]) -> Verdict:
    top = max(shares)
    best = [label for label, share in zip(labels, shares, strict=True) if share == top]
    if len(best) > 1:
        return Verdict(None, shares, 1.0, "tie: " + listed(best))
    return Verdict(best[0], shares, 1.0)


def _calibrated(
    spec: Spec, raw: NDArray[np.float64], rows: list[dict[str, Any]], answers: pa.Table
) -> NDArray[np.float64]:
    kind = _calibration(spec)
    if kind == "content-free":
        asked = answers.filter(pc.equal(answers["kind"], "content-free")).to_pylist()
        asked = [one for one in asked if is_finite(one)]
        free = np.array([one["label_probabilities"] for one in asked])
        # All of them may have failed, in an engine that barely works; raw is then all there is.
        if not asked:
            return raw
        return calibrate.divide(raw, calibrate.bias_of(free, _shown(asked, raw.shape[1])), calibrate.STRENGTH)
    if kind == "batch":
        train = raw[[row["split"] == "train" for row in rows]]
        return calibrate.divide(raw, train.mean(axis=0)) if len(train) else raw
    return raw


def _shown(answers: Sequence[Mapping[str, Any]], labels: int) -> NDArray[np.bool_]:
    """``(answers, labels)``: which labels the teacher was shown; answers of earlier versions say nothing of it."""
    shown = np.ones((len(answers), labels), dtype=bool)
    for place, answer in enumerate(answers):
        if (numbers := answer.get("shortlist")) is not None:
            shown[place] = False
            shown[place, numbers] = True
    return shown


def _calibration(spec: Spec) -> str:
    return "none" if _sampled(spec) else spec.teacher.calibration


def _sampled(spec: Spec) -> bool:
    return spec.teacher.engine == "recorded" or spec.teacher.prompt == "cot"


def _unlearnable(shares: Mapping[str, float], rows: Sequence[dict[str, Any]]) -> list[str]:
    """What to say of labels that test texts have, and that the teacher gave to no train text."""
    missing: dict[str, list[str]] = {label: [] for label in shares if not shares[label]}
    for row in rows:
        if row.get("label") in missing:
            missing[row["label"]].append(row["text"])
    missing = {label: texts for label, texts in missing.items() if texts}
    if len(missing) > LISTED:
        texts = sum(map(len, missing.values()))
        return [
            f"the teacher labelled no train text with one of {len(missing):,} labels that {texts:,} test texts have "
            f"({listed(list(missing))}): the student cannot learn them, and is wrong on those"
        ]
    return [
        f"the teacher labelled no train text {label}, and {len(texts)} test texts are (the first: {texts[0][:80]!r}): "
        "the student cannot learn it, and is wrong on those"
        for label, texts in missing.items()
    ]


def _summary(spec: Spec, table: list[dict[str, Any]], looked: Sequence[Columns]) -> dict[str, Any]:
    train = [row for row in table if row["split"] == "train"]
    labelled = [row for row in train if row["label"] is not None]
    counts = Counter(row["label"] for row in labelled)
    if len(counts) < 2:
        only = next(iter(counts), None)
        found = f"gave all of them the one label {only!r}" if only else "abstained on all of them"
        first = f", the first: {train[0]['text'][:80]!r} ({train[0]['reason'] or only})" if train else ""
        advice = "look at the answers in label/*/answers.parquet, then at task.instructions and task.examples"
        if looked and all(one.teacher.engine == "recorded" for one in spec.teachers()):  # nobody was instructed
            advice = "; ".join([*(one.held() for one in looked), ADVICE])
        raise DataError(
            "teacher.too-few-labels",
            f"the teacher {found} ({len(train)} train rows): there is nothing to learn{first}; {advice}",
        )
    abstained = [row for row in table if row["label"] is None]
    return {
        "rows": len(table),
        "abstained": len(abstained),
        "abstained_by_reason": dict(Counter(row["reason"].split(":")[0] for row in abstained)),
        "class_shares": {label: counts[label] / len(labelled) for label in spec.task.labels},
        "mean_agreement": sum(row["agreement"] for row in table) / len(table),
        "calibration": _calibration(spec),
    }
