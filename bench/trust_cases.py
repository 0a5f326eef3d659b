"""What a blind sample's intervals are worth: their width and how often they hold the truth, over simulated samples.

    python bench/trust_cases.py                  # 2,000 samples: some minutes
    python bench/trust_cases.py --samples 200

The population is the case study's rows with Mixtral's recorded votes and the experts' labels; TUTELAGE_DATA names the
folder with financial_phrasebank. The guide is the audit's own combination of the votes with a stand-in for its
unseeing students (TF-IDF and a logistic regression, out of fold), so that nothing has to be trained;
``bench/review.py`` gives the audit's own findings. Each sample of 200 rows is drawn as ``tutelage review`` draws it,
and judged for the teacher, the stand-in student and three recorded annotators. The peer is a random sample of as many
rows with Wilson's interval. Coverage must lie between 94 and 96 % by itself; where ``at_least`` is 0.94 the most is
said beside it.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import keep
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "trust.json"
LABELS = ("negative", "neutral", "positive")
VOTES = ("sc_iter1", "sc_iter2", "sc_iter3")
ANNOTATORS = {
    "simple prompt": "label_llm",
    "chain of thought": "label_llm_cot",
    "three votes": "label_llm_cot_multiple",
}
SAMPLED, SAMPLES, FOLDS = 200, 2000, 5
NARROW, NO_WIDER, LEAST_COVERED, LESS_VARIANCE = 0.023, 1.05, 0.94, 0.30


class Population:
    """All rows: the truth, each system's answers as places of labels (-1: none), and the guide."""

    def __init__(self, folder: Path, findings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        rows: dict[str, dict[str, str]] = {}
        for name in ("train.csv", "test.csv"):
            with open(folder / name, encoding="utf-8", newline="") as handle:
                rows |= {row["text"]: row for row in csv.DictReader(handle)}
        self.texts, found = list(rows), list(rows.values())
        self.truth = _places([row["label_experts"] for row in found])
        votes = np.stack([_places([row[name] for row in found]) for name in VOTES], axis=1)
        counts = np.stack([(votes == place).sum(axis=1) for place in range(len(LABELS))], axis=1)
        top = counts.max(axis=1, keepdims=True)
        clear = ((counts == top).sum(axis=1) == 1) & (top[:, 0] > 0)
        teacher = np.where(clear, counts.argmax(axis=1), -1)
        smooth = (counts + 0.1) / (counts.sum(axis=1, keepdims=True) + 0.1 * len(LABELS))
        if findings is None:
            self.opinions = _unseeing(self.texts, teacher)
            self.guide = _combined(smooth, teacher, self.opinions)
        else:
            known = [findings[text.strip()] for text in self.texts]
            self.opinions = np.array([finding["opinion_probabilities"] for finding in known])
            self.guide = np.array([finding["consensus_probabilities"] for finding in known])
        self.systems: dict[str, NDArray[np.intp]] = {
            "teacher": teacher,
            "student": self.opinions.argmax(axis=1),
            **{name: _places([row[column] for row in found]) for name, column in ANNOTATORS.items()},
        }
        self.ids = [f"{number:06}" for number in range(len(found))]


def _places(labels: list[str]) -> NDArray[np.intp]:
    known = {label: place for place, label in enumerate(LABELS)}
    return np.array([known.get(label.strip().lower(), -1) for label in labels], dtype=np.intp)


def _unseeing(texts: list[str], teacher: NDArray[np.intp]) -> NDArray[np.float64]:
    """The stand-in student's probabilities of rows that it did not learn from, ``(rows, labels)``."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit_transform(texts)
    told = np.zeros((len(texts), len(LABELS)))
    for learn, ask in KFold(FOLDS, shuffle=True, random_state=0).split(texts):
        learn = learn[teacher[learn] >= 0]
        told[ask] = (
            LogisticRegression(C=10, max_iter=1000).fit(vectors[learn], teacher[learn]).predict_proba(vectors[ask])
        )
    return told


def _combined(votes: NDArray[np.float64], teacher: NDArray[np.intp], told: NDArray[np.float64]) -> NDArray[np.float64]:
    from runner.tasks.single_label.auditing import combined

    return combined(votes, teacher.astype(np.int64), told)


def simulate(found: Population, guide: NDArray[np.float64], samples: int) -> dict[str, Mapping[str, float]]:
    """By system: mean half-width and coverage of the accuracy. ``shares``: each label's estimates, by sample."""
    from runner.review import draw
    from runner.tasks.shared import estimate

    teacher, rows = found.systems["teacher"], np.arange(len(found.truth))
    doubt = np.where(teacher < 0, 0.5, 1 - guide[rows, np.maximum(teacher, 0)])
    weights = draw.weights(doubt)
    inclusion = draw.inclusion(weights, SAMPLED)
    guides = {name: estimate.given(guide, answers) for name, answers in found.systems.items()}
    right = {name: (answers == found.truth).astype(float) for name, answers in found.systems.items()}
    widths: dict[str, list[float]] = {name: [] for name in guides}
    held: dict[str, list[bool]] = {name: [] for name in guides}
    shares: dict[str, list[float]] = {label: [] for label in LABELS}
    for seed in range(samples):
        drawn = draw.order(found.ids, weights, seed)[:SAMPLED]
        for name, guessed in guides.items():
            one = estimate.mean(right[name][drawn], guessed[drawn], guessed, inclusion[drawn])
            widths[name].append(one.half_width)
            held[name].append(one.low <= right[name].mean() <= one.high)
        for place, label in enumerate(LABELS):
            one = estimate.mean(found.truth[drawn] == place, guide[drawn, place], guide[:, place], inclusion[drawn])
            shares[label].append(one.point)
    result: dict[str, Mapping[str, float]] = {
        name: {"half_width": float(np.mean(widths[name])), "coverage": float(np.mean(held[name]))} for name in guides
    }
    return result | {"variance": {label: float(np.var(each)) for label, each in shares.items()}}


def random_half_width(found: Population, name: str, samples: int) -> float:
    """The mean half-width of Wilson's interval of a random sample, from the finite population."""
    from runner.tasks.shared import estimate

    right, inclusion = (found.systems[name] == found.truth).astype(float), np.full(SAMPLED, SAMPLED / len(found.truth))
    rng = np.random.default_rng(0)
    drawn = (rng.choice(len(right), SAMPLED, replace=False) for _ in range(samples))
    return float(np.mean([estimate.mean(right[d], None, None, inclusion, len(right)).half_width for d in drawn]))


def cases(samples: int = SAMPLES, findings: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The rows of the table of ``make bench-review`` about samples; ``findings`` are an audit's, by text."""
    data = Path(os.environ.get("TUTELAGE_DATA") or ROOT.parent / "shared" / "data") / "financial_phrasebank"
    found = Population(data, findings)
    size = len(found.truth)
    ours = simulate(found, found.guide, samples)
    noise = found.guide[np.random.default_rng(1).permutation(size)]
    shuffled = simulate(found, noise, samples)
    common = {"rounds": samples, "rows": SAMPLED}
    plain = random_half_width(found, "teacher", samples)
    results = [
        SimpleNamespace(
            name="half-width of the teacher's accuracy, random sample against ours",
            ours=ours["teacher"]["half_width"],
            peer=plain,
            ratio=plain / ours["teacher"]["half_width"],
            at_least=plain / NARROW,
        ),
        *(
            SimpleNamespace(
                name=f"coverage of the 95 % interval: {name} (94 to 96 %)",
                ours=ours[name]["coverage"],
                peer=0.95,
                ratio=ours[name]["coverage"],
                at_least=LEAST_COVERED,
            )
            for name in found.systems
        ),
        SimpleNamespace(
            name="half-width with a shuffled guide, random sample against ours",
            ours=shuffled["teacher"]["half_width"],
            peer=plain,
            ratio=plain / shuffled["teacher"]["half_width"],
            at_least=1 / NO_WIDER,
        ),
    ]
    for what, told, most in (("", ours, LESS_VARIANCE), (", shuffled guide", shuffled, 1.02)):
        for place, label in enumerate(LABELS):
            share = float((found.truth == place).mean())
            by_chance = share * (1 - share) / SAMPLED * (size - SAMPLED) / (size - 1)
            variance = told["variance"][label]
            results.append(
                SimpleNamespace(
                    name=f"variance of the share of {label}{what}, random sample against ours",
                    ours=variance,
                    peer=by_chance,
                    ratio=by_chance / variance,
                    at_least=1 / most,
                )
            )
    return [vars(result) | common for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    results = cases(parser.parse_args().samples)
    for result in results:
        print(
            f"{result['name']:<78} {result['ours']:.5f} {result['peer']:.5f} {result['ratio']:.3f} "
            f"{result['at_least']:.3f}"
        )
    keep(results, OUT)
    sys.exit(0)


if __name__ == "__main__":
    main()
