"""How likely a label is wrong: what must hold of it, and that it holds on the recorded votes of the case study."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from runner.student.views import terms
from runner.tasks.single_label import auditing
from runner.tasks.single_label.recorded import label_of
from runner.tasks.single_label.votes import majority, probabilities

LABELS = ("negative", "neutral", "positive")


def verdict(label: str | None, shares: list[float] | None, votes: list[str | None] | None = None) -> dict[str, Any]:
    return {"label": label, "probabilities": shares, "agreement": 1.0, "votes": votes or [], "reason": None}


def simulated(rows: int, error: float, seed: int = 0) -> tuple[NDArray[Any], list[dict[str, Any]], NDArray[Any]]:
    """Truth, verdicts that say 0.97 of a label that is wrong in the share ``error``, and students' opinions.

    Students know of some rows much and of some nothing; where they know, they are right as often as they say.
    """
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    said = np.where(random.random(rows) < error, (truth + random.integers(1, 3, rows)) % 3, truth)
    sure = random.uniform(0.34, 1.0, rows)
    leaning = np.where(random.random(rows) < sure, truth, (truth + random.integers(1, 3, rows)) % 3)
    opinions = np.tile(((1 - sure) / 2)[:, None], 3)
    opinions[np.arange(rows), leaning] = sure
    shares = np.where(np.arange(3) == said[:, None], 0.97, 0.015)
    verdicts = [verdict(LABELS[label], share.tolist()) for label, share in zip(said, shares, strict=True)]
    return truth, verdicts, opinions


def test_a_row_is_doubted_where_students_that_know_something_differ(job: Any) -> None:
    truth, verdicts, opinions = simulated(2_000, 0.1)
    found = auditing.findings(job.spec(), verdicts, [opinions])
    wrong = np.array([v["label"] != LABELS[t] for v, t in zip(verdicts, truth, strict=True)])
    doubt = np.array([finding["doubt"] for finding in found])
    first = np.argsort(-doubt)[:200]
    assert wrong[first].mean() > 4 * 0.1
    assert ((doubt >= 0) & (doubt <= 1)).all()
    spread = wrong.mean() * (1 - wrong.mean())
    assert np.mean((doubt - wrong) ** 2) < 0.9 * spread, "it tells more than that a tenth is wrong"
    assert 0.5 < doubt.sum() / wrong.sum() < 1.5
    right = np.mean([f["consensus"] == LABELS[t] for f, t in zip(found, truth, strict=True)])
    assert right > 1 - wrong.mean() + 0.005


def test_a_teacher_that_is_always_sure_is_doubted_as_well(job: Any) -> None:
    _, verdicts, opinions = simulated(2_000, 0.1)
    for each in verdicts:
        each["probabilities"] = [float(label == each["label"]) for label in LABELS]
    doubt = np.array([finding["doubt"] for finding in auditing.findings(job.spec(), verdicts, [opinions])])
    assert 0.02 < doubt.mean() < 0.2


def test_students_that_only_copy_make_nobody_surer_than_the_teacher_is(job: Any) -> None:
    _, verdicts, _ = simulated(1_000, 0.1)
    shares = np.array([v["probabilities"] for v in verdicts])
    power = auditing.exponent(shares, shares.argmax(axis=1), most=1.0)
    assert power == 1.0
    assert auditing.exponent(shares, shares.argmax(axis=1), most=auditing.SURER) == auditing.SURER


def test_students_that_know_nothing_are_not_heard(job: Any) -> None:
    _, verdicts, opinions = simulated(2_000, 0.1)
    other_rows = np.random.default_rng(3).permutation(opinions)
    found = auditing.findings(job.spec(), verdicts, [other_rows])
    assert all(finding["opinion"] is None for finding in found)
    assert np.allclose([finding["doubt"] for finding in found], 0.03)
    assert [finding["consensus"] for finding in found] == [v["label"] for v in verdicts]
    assert [finding["consensus_probabilities"] for finding in found] == [v["probabilities"] for v in verdicts]


def test_an_abstention_is_doubted_altogether_and_can_be_filled(job: Any) -> None:
    _, verdicts, opinions = simulated(500, 0.1)
    verdicts[0] = verdict(None, [0.48, 0.48, 0.04], ["negative", "neutral"])
    verdicts[1] = verdict(None, None)
    opinions[:2] = [0.05, 0.9, 0.05]
    found = auditing.findings(job.spec(), verdicts, [opinions])
    assert [f["doubt"] for f in found[:2]] == [1.0, 1.0]
    assert [f["consensus"] for f in found[:2]] == ["neutral", "neutral"]
    assert auditing.learned(verdicts)[:3].tolist() == [False, False, True]
    filled = auditing.agreed(verdicts[0], found[0])
    assert (filled["label"], filled["agreement"], filled["reason"]) == ("neutral", 0.5, None)
    assert filled["votes"] == ["negative", "neutral"]


def test_rows_without_an_opinion_keep_the_teachers_own_doubt(job: Any) -> None:
    _, verdicts, opinions = simulated(500, 0.1)
    opinions[:3] = np.nan
    found = auditing.findings(job.spec(), verdicts, [opinions, np.full_like(opinions, np.nan)])
    assert [f["opinion"] for f in found[:3]] == [None] * 3 and found[3]["opinion"] is not None
    assert np.allclose([f["doubt"] for f in found[:3]], 0.03)
    verdicts[0] = verdict(None, None)
    nothing = auditing.findings(job.spec(), verdicts, [opinions])[0]
    assert nothing == {
        "doubt": 1.0,
        "opinion": None,
        "opinion_probabilities": None,
        "consensus": None,
        "consensus_probabilities": None,
    }
    assert auditing.agreed(verdicts[0], nothing) == verdicts[0]


def test_nothing_to_judge_is_nothing_found_and_shapes_must_fit(job: Any) -> None:
    assert auditing.findings(job.spec(), [], []) == []
    with pytest.raises(ValueError, match=r"opinions of shape \(1, 2\)"):
        auditing.findings(job.spec(), [verdict("neutral", [0.1, 0.8, 0.1])], [np.array([[0.5, 0.5]])])


def test_no_label_is_impossible(job: Any) -> None:
    _, verdicts, opinions = simulated(200, 0.1)
    opinions[:] = np.eye(3)[opinions.argmax(axis=1)]
    for each in verdicts:
        each["probabilities"] = [float(label == each["label"]) for label in LABELS]
    found = auditing.findings(job.spec(), verdicts, [opinions])
    assert all(np.isfinite(finding["doubt"]) for finding in found)


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_words_alone_find_most_of_mixtrals_errors(job: Any, data_dir: Path) -> None:
    """The case study's train texts, without an encoder: better than the votes, and as many errors as it expects."""
    from runner.tasks.single_label.learner import out_of_fold

    rows, truth, texts = [], [], []
    with open(data_dir / "financial_phrasebank" / "train.csv", encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            votes = [label_of(row[f"sc_iter{number}"], LABELS) for number in (1, 2, 3)]
            rows.append(verdict(majority(votes), probabilities(votes, LABELS), votes))
            truth.append(row["label_experts"])
            texts.append(row["text"].lower().split())
    number_of: dict[str, int] = {}
    counted = terms([[number_of.setdefault(word, len(number_of)) for word in text] for text in texts], set())
    assert isinstance(counted, csr_array) and counted.shape[0] == len(rows)
    spec = job.spec()
    opinions = out_of_fold(counted, auditing.targets(spec, rows), auditing.learned(rows), 0)
    found = auditing.findings(spec, rows, [opinions])
    doubt = np.array([finding["doubt"] for finding in found])
    wrong = np.array([row["label"] != true for row, true in zip(rows, truth, strict=True)])
    own = np.array([1.0 if row["label"] is None else 1 - max(row["probabilities"]) for row in rows])

    def share(by: NDArray[np.float64], part: float) -> float:
        return float(wrong[np.argsort(-by, kind="stable")[: int(part * len(by))]].sum() / wrong.sum())

    assert share(doubt, 0.05) > share(own, 0.05) + 0.08
    assert share(doubt, 0.20) > share(own, 0.20) + 0.08
    assert 0.6 < doubt.sum() / wrong.sum() < 1.4
    assert np.mean((doubt - wrong) ** 2) < 0.9 * np.mean((own - wrong) ** 2)
    before, after = 1 - wrong.mean(), np.mean([f["consensus"] == t for f, t in zip(found, truth, strict=True)])
    assert after > before + 0.008
