"""Students with 150 labels, from experts' labels: 300 rows chosen in several ways, and all rows.

    python bench/tasks_labels.py                                 # 300 rows, three seeds, all-MiniLM-L6-v2: minutes
    python bench/tasks_labels.py --student catalog:all-mpnet-base-v2
    python bench/tasks_labels.py --all --student catalog:all-mpnet-base-v2 --seeds 1      # all rows: an hour or more

CLINC150 (TUTELAGE_DATA names the folder with clinc150), judged on its in-scope test texts. Students are trained as the
train stage trains them. The 300 rows are

- ``random``: drawn at random;
- ``centres``: those nearest to the centres of 300 clusters of all train texts, whose labels nobody has looked at;
- ``centres+names``: the same, and each label's name as a text of its label;
- ``centres+names+taught``: a head that learned from those labels all other train texts, and a second one learns from
  its probabilities. In the product: ``predict`` on the texts, then a recorded teacher of the probabilities' columns.

``+tuned`` behind any of them, such as ``--choices centres+names+tuned``, fine-tunes the whole encoder from that head
(LP-FT) for as many epochs as ``student.recipe: auto`` would. The others are heads on the encoder as it is.

With ``--all`` the 200 train texts that belong to no intent are taught as one more label; how well test texts of that
kind are told from the others is the label's probability at 5 % false alarms.
Kept in bench/out/tasks_labels.json.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import keep
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
DATA = Path(os.environ.get("TUTELAGE_DATA") or ROOT.parent / "shared" / "data") / "clinc150"
STUDENT = "catalog:all-minilm-l6-v2"
CHOICES = ("random", "centres", "centres+names", "centres+names+taught")
BEST = "centres+names+taught"
"""The way that is held against :data:`FEW_AT_LEAST`; the others stand beside it."""
FEW_AT_LEAST, ALL_AT_LEAST = 0.80, 0.955
FALSE_ALARMS = 0.05
MAX_LENGTH = 64
"""Tokens: the longest text has 40."""


@dataclass(frozen=True)
class Labelled:
    """Texts with labels."""

    texts: list[str]
    labels: list[str]

    def take(self, places: Sequence[int]) -> Labelled:
        return Labelled([self.texts[i] for i in places], [self.labels[i] for i in places])

    def __add__(self, other: Labelled) -> Labelled:
        return Labelled(self.texts + other.texts, self.labels + other.labels)


def cases(
    rows: int = 300, seeds: int = 3, student: str = STUDENT, choices: Sequence[str] = CHOICES, test: int | None = None
) -> list[dict[str, Any]]:
    """In-scope accuracy with few rows, by how they were chosen; nothing where the data is missing."""
    if not (DATA / "test.csv").exists():
        return []
    train, judged = read("train"), read("test").take(range(test or 4500))
    labels = sorted(set(train.labels))
    found: dict[str, list[float]] = {choice: [] for choice in choices}
    started = time.perf_counter()
    vectors = None if {*choices} == {"random"} else embedded(student, train.texts)
    print(f"vectors after {time.perf_counter() - started:.0f} s", flush=True)
    for seed in range(seeds):
        places = {
            "random": np.random.default_rng(seed).permutation(len(train.texts))[:rows].tolist(),
            "centres": [] if vectors is None else nearest_to_centres(vectors, rows, seed),
        }
        for choice in choices:
            way, *more = choice.split("+")
            started = time.perf_counter()
            learned = train.take(places[way])
            if "names" in more:
                learned += Labelled([label.replace("_", " ") for label in labels], labels)
            rest = [text for place, text in enumerate(train.texts) if place not in set(places[way])]
            epochs = epochs_of(student, len(learned.texts), len(labels)) if "tuned" in more else 0
            answers = of_few(student, labels, learned, rest if "taught" in more else [], judged.texts, seed, epochs)
            accuracy = right(answers, labels, judged.labels)
            found[choice].append(accuracy)
            took = time.perf_counter() - started
            print(f"seed {seed} {choice:22} accuracy {accuracy:.3f}, {took:.0f} s", flush=True)
    common = {"rounds": seeds, "rows": rows, "student": student}
    results = []
    for choice, each in found.items():
        mean = statistics.mean(each)
        name = f"CLINC150, few rows, in-scope accuracy: {choice}, {student.removeprefix('catalog:')}"
        asked = FEW_AT_LEAST if choice == BEST and rows == 300 else None
        results.append(
            {"name": name, "ours": mean, "peer": 1.0, "ratio": mean, "at_least": asked, "each": each, **common}
        )
        print(f"{name}: {mean:.3f} ({', '.join(f'{one:.3f}' for one in each)})", flush=True)
    return results


def of_few(
    student: str, labels: Sequence[str], learned: Labelled, taught: list[str], asked: list[str], seed: int, epochs: int
) -> NDArray[np.float32]:
    """Probabilities ``(len(asked), len(labels))`` of a student that learned from labels, or from a head that did."""
    targets = np.array([[float(label == one) for one in labels] for label in learned.labels], dtype=np.float32)
    if not taught:
        return answers_of(student, labels, learned.texts, targets, asked, seed, epochs, start="head")
    said = answers_of(student, labels, learned.texts, targets, taught, seed, epochs=0, start="head")
    texts, both = learned.texts + taught, np.concatenate([targets, said])
    return answers_of(student, labels, texts, both, asked, seed, epochs, start="head")


def epochs_of(student: str, rows: int, labels: int) -> int:
    """Those of a fine-tuning on so many rows."""
    from runner import models
    from runner.spec import load_spec
    from runner.student.training_plan import TrainingPlan

    settings = load_spec(
        ROOT / "specs" / "quickstart.yaml", [f"student.model={student}", "student.epochs=null"]
    ).student
    return TrainingPlan(settings, rows, labels, models.describe(student, None, ROOT).parameters).epochs


def all_rows(rows: int | None, seeds: int, student: str, epochs: int, test: int | None = None) -> list[dict[str, Any]]:
    """In-scope accuracy with all rows, and how many texts of no intent are found at 5 % false alarms."""
    if not (DATA / "test.csv").exists():
        return []
    train = read("train").take(range(rows or 15_000)) + read("oos_train")
    judged, outside = read("test").take(range(test or 4500)), read("oos_test").take(range(test or 1000))
    labels = [*sorted(set(read("train").labels)), "out_of_scope"]
    targets = np.array([[float(label == one) for one in labels] for label in train.labels], dtype=np.float32)
    accuracies, recalls = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        asked = judged.texts + outside.texts
        answers = answers_of(student, labels, train.texts, targets, asked, seed, epochs, "fresh")
        inside, alarm = answers[: len(judged.texts)], answers[:, -1]
        accuracies.append(right(inside, labels, judged.labels))
        recalls.append(recall_at(alarm[len(judged.texts) :], alarm[: len(judged.texts)], FALSE_ALARMS))
        took = time.perf_counter() - started
        print(
            f"seed {seed} all rows: accuracy {accuracies[-1]:.4f}, out-of-scope recall {recalls[-1]:.3f}, {took:.0f} s",
            flush=True,
        )
    common = {"rounds": seeds, "rows": rows or 15_000, "student": student, "epochs": epochs, "peer": 1.0}
    short = student.removeprefix("catalog:")
    accuracy, recall = statistics.mean(accuracies), statistics.mean(recalls)
    return [
        {"name": f"CLINC150, all rows, in-scope accuracy: {short}", "ours": accuracy, "ratio": accuracy, **common}
        | {"at_least": ALL_AT_LEAST if rows is None else None},
        {"name": f"CLINC150, all rows, out-of-scope recall at 5 % false alarms: {short}", "ours": recall, **common}
        | {"ratio": recall, "at_least": None},
    ]


def answers_of(
    student: str,
    labels: Sequence[str],
    texts: list[str],
    targets: NDArray[np.float32],
    asked: list[str],
    seed: int,
    epochs: int,
    start: Any,
) -> NDArray[np.float32]:
    """Train on ``targets`` ``(len(texts), len(labels))`` as the train stage does; the student's probabilities.

    No row is held out: the last epoch is kept, or the mean of the later half where that fits the train rows as well.
    """
    from runner import models
    from runner.student import fit as training
    from runner.student.fit_config import Fit
    from runner.student.predict import Student
    from runner.student.rows import Rows
    from runner.tasks.single_label import learner

    fit = Fit(
        model=models.ensure(student, None, who="student.model"),
        outputs=tuple(labels),
        epochs=epochs,
        learning_rate=None,
        batch_size=32,
        max_length=MAX_LENGTH,
        precision="auto",
        seed=seed,
        start=start,
    )
    rows = Rows(texts, targets)
    judging = Rows(texts[:500], targets[:500])
    with tempfile.TemporaryDirectory() as scratch:
        training.fit(learner, fit, rows, judging, Path(scratch) / "student")
        return np.asarray(Student.load(learner, Path(scratch) / "student").predict(asked), dtype=np.float32)


def right(answers: NDArray[np.float32], labels: Sequence[str], truth: Sequence[str]) -> float:
    """The share of rows whose likeliest label is the true one."""
    said = answers.argmax(axis=1)
    return float(np.mean([labels[place] == label for place, label in zip(said, truth, strict=True)]))


def recall_at(found: NDArray[np.float32], false: NDArray[np.float32], alarms: float) -> float:
    """The share of ``found`` above the score that only ``alarms`` of ``false`` exceed."""
    return float((found > np.quantile(false, 1 - alarms, method="higher")).mean())


def nearest_to_centres(vectors: NDArray[np.float32], count: int, seed: int) -> list[int]:
    """For each of ``count`` k-means clusters the row that is nearest to its centre."""
    from sklearn.cluster import KMeans

    clusters = KMeans(count, n_init=1, random_state=seed).fit(vectors)
    apart = clusters.transform(vectors)
    return sorted({int(place) for place in apart.argmin(axis=0)})


def embedded(student: str, texts: list[str]) -> NDArray[np.float32]:
    """The encoder's vectors of all train texts, ``(len(texts), width)``, kept beside the results."""
    from runner import models
    from runner.student.embed import Encoder

    kept = OUT / "tasks_labels" / f"{student.replace(':', '-')}.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, Encoder.load(models.ensure(student, None, who="student.model")).embed(texts, MAX_LENGTH))
    vectors: NDArray[np.float32] = np.load(kept)
    return vectors


def read(name: str) -> Labelled:
    """One file of CLINC150."""
    with open(DATA / f"{name}.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return Labelled([row["text"] for row in rows], [row["intent"] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="300, or with --all every row")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--choices", default=",".join(CHOICES), help="some of: %(default)s")
    parser.add_argument("--test", type=int, help="test rows to look at; all without it")
    parser.add_argument("--all", action="store_true", help="train on all rows")
    parser.add_argument("--epochs", type=int, default=3, help="of a training on all rows: %(default)s")
    wanted = parser.parse_args()
    if wanted.all:
        results = all_rows(wanted.rows, wanted.seeds, wanted.student, wanted.epochs, wanted.test)
    else:
        choices = tuple(wanted.choices.split(","))
        results = cases(wanted.rows or 300, wanted.seeds, wanted.student, choices, wanted.test)
    if not results:
        sys.exit(f"{DATA} has no test.csv: set TUTELAGE_DATA to the folder with clinc150")
    if wanted.test is None:
        keep(results, OUT / "tasks_labels.json")


if __name__ == "__main__":
    main()
