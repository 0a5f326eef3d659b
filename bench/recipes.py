"""What a student should be told to learn: recipes side by side on texts that none of them saw.

    python bench/recipes.py                        # all of them: hours on two cores
    python bench/recipes.py --only fast,best       # some of them
    python bench/recipes.py --steps 400            # in half the time, with students that have learned less

The train rows of financial_phrasebank, with Mixtral's recorded votes for labels, are cut into five parts. A student
learns from four of them and is judged on the fifth, five times, each time with a seed of its own; the expert-labelled
test rows are not looked at. Two figures: agreement with the teacher's labels, each row counted by the teacher's
confidence (all that a user has who has no gold labels), and accuracy against the experts' labels of those same train
rows. Each with the standard error of its difference from ``fast`` over the rows.

The data is not part of this repository: TUTELAGE_DATA names the folder that holds it. Each training leaves what it
said in bench/out/recipes/, so that a stopped bench goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
LABELS = ("negative", "neutral", "positive")
TEACHERS = (("sc_iter1", "sc_iter2", "sc_iter3"), ("label_llm",))
PARTS, SEED, BATCH = 5, 7, 16
STEPS = 800
"""Of each training, as a run of so few rows has them; ``--steps`` says another number."""


@dataclass(frozen=True)
class Rows:
    """Texts, what the teachers say of them, the experts' labels, and the part that each row is in."""

    texts: list[str]
    teacher: Any
    """The probabilities that a run learns from, ``(rows, labels)``."""
    plain: Any
    """The mean of both teachers' shares of votes, which the vote stage smooths and weighs."""
    truth: Any
    part: Any


@cache
def read() -> Rows:
    """The train rows as the vote stage leaves them: three votes, pooled with another prompt's answer; without ties."""
    from runner.tasks.single_label.dawid_skene import pool
    from runner.tasks.single_label.judging import count_votes
    from runner.tasks.single_label.recorded import label_of

    folder = Path(os.environ.get("TUTELAGE_DATA", ROOT.parent / "shared" / "data"))
    with open(folder / "financial_phrasebank" / "train.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    votes = [[[label_of(row[column], LABELS) for column in columns] for columns in TEACHERS] for row in rows]
    given = [[count_votes(one, LABELS).probabilities for one in row] for row in votes]
    even = [1 / len(LABELS)] * len(LABELS)
    missing = np.array([[one is None for one in row] for row in given])
    teacher = pool(np.array([[one or even for one in row] for row in given]), missing).probabilities
    highest = np.sort(teacher, axis=1)
    kept = np.flatnonzero(highest[:, -1] > highest[:, -2])
    shares = np.array([[[one.count(label) for label in LABELS] for one in row] for row in votes], dtype=np.float64)
    plain = (shares / np.maximum(shares.sum(axis=2, keepdims=True), 1)).sum(axis=1)[kept]
    return Rows(
        texts=[rows[place]["text"] for place in kept],
        teacher=teacher[kept].astype(np.float32),
        plain=(plain / plain.sum(axis=1, keepdims=True)).astype(np.float32),
        truth=np.array([LABELS.index(rows[place]["label_experts"]) for place in kept]),
        part=np.random.default_rng(SEED).permutation(len(kept)) % PARTS,
    )


@dataclass(frozen=True)
class Setting:
    """The student's model, the steps of a training, and where what the students say is left."""

    model: Path
    steps: int

    def file(self, name: str) -> Path:
        return OUT / "recipes" / f"{self.model.name}-{self.steps}" / f"{name}.npz"


def learn(name: str, setting: Setting, out: list[int], targets: Any, steps: int) -> Path:
    """Train on the rows outside the parts ``out``; what the student says of all rows is left in a file.

    Rows whose targets are nothing but zeros are left out. The held-out tenth keeps the teacher's own labels.
    """
    found = setting.file(name)
    if found.exists():
        return found
    import torch

    from runner.student.fit_config import Fit, Worker
    from runner.student.held_out import split_rows
    from runner.student.loop import Loop
    from runner.student.rows import Rows
    from runner.student.tokens import tokenize
    from runner.student.training_plan import LEAST_EPOCHS, MOST_EPOCHS
    from runner.tasks.single_label import learner

    torch.set_num_threads(1)
    rows = read()
    inside = np.flatnonzero(~np.isin(rows.part, out))
    labels = targets[inside].argmax(axis=1).tolist()
    held, kept = (inside[numbers] for numbers in split_rows(labels, 0.1, out[0]))
    kept = kept[targets[kept].sum(axis=1) > 0]
    config = Fit(
        model=setting.model,
        outputs=LABELS,
        epochs=min(MOST_EPOCHS, max(LEAST_EPOCHS, round(steps * BATCH / len(kept)))),
        learning_rate=None,
        batch_size=BATCH,
        max_length=256,
        precision="auto",
        seed=out[-1],
    )

    def pick(numbers: Any, said: Any) -> Any:
        return Rows([rows.texts[i] for i in numbers], said[numbers].astype(np.float32))

    # The loop itself instead of training.fit: both the chosen epoch's weights and the averaged ones are looked at.
    loop = Loop(learner, config, pick(kept, targets), pick(held, rows.teacher), Worker())
    while len(loop.state.history) < config.epochs:
        loop.begin_epoch()
        for batch in loop.batches(len(loop.state.history)):
            loop.learn(batch)
        loop.finish_epoch()
    ids = tokenize(loop.tokenizer, rows.texts, config.max_length)

    def says() -> Any:
        with loop.whole_vocabulary():
            return torch.softmax(loop.logits(ids), dim=-1).cpu().numpy()

    chosen = loop.best
    loop.average()
    averaged = says()
    loop.bare.load_state_dict(chosen)
    found.parent.mkdir(parents=True, exist_ok=True)
    part = found.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, averaged=averaged, chosen=says())
    os.replace(part, found)
    return found


def unseen(setting: Setting, part: int) -> Any:
    """What students that saw neither ``part`` nor the row say of each row outside it."""
    rows = read()
    said = np.zeros_like(rows.teacher)
    for other in set(range(PARTS)) - {part}:
        one, two = sorted((part, other))
        answers = np.load(setting.file(f"fold-{one}{two}"))["averaged"]
        said[rows.part == other] = answers[rows.part == other]
    return said


def contradicted(teacher: Any, students: Any, inside: Any) -> Any:
    """Rows whose label confident learning doubts (Northcutt et al. 2021): unseeing students give another label at
    least the mean probability that they give it where the teacher says it."""
    given = teacher.argmax(axis=1)
    usual = np.array([students[inside & (given == label), label].mean() for label in range(len(LABELS))])
    sure = np.where(students >= usual, students, 0)
    return inside & (sure.max(axis=1) > 0) & (sure.argmax(axis=1) != given)


def smoothed(targets: Any) -> Any:
    """The same with a tenth spread over all labels."""
    return np.float32(0.9) * targets + np.float32(0.1 / len(LABELS))


def targets_of(recipe: str, setting: Setting, part: int) -> Any:
    """What a recipe has the student learn, shape ``(rows, labels)``: rows count by the sum of their targets."""
    from runner.student import recipes
    from runner.tasks.single_label.targets import confidence

    rows = read()
    teacher = rows.teacher
    if recipe == "plain":
        return rows.plain
    if recipe == "hard":
        return np.eye(len(LABELS), dtype=np.float32)[teacher.argmax(axis=1)]
    if recipe == "weighted":
        weights = confidence(teacher)
        return teacher * (weights / weights.mean())[:, None]
    if recipe == "smoothed":
        return smoothed(teacher)
    if recipe == "fast":
        return teacher
    students, inside = unseen(setting, part), rows.part != part
    if recipe == "best":
        return recipes.out_of_fold_targets(teacher, students)
    if recipe == "best-smoothed":
        return smoothed(recipes.out_of_fold_targets(teacher, students))
    bad = contradicted(teacher, students, inside)
    instead = {"dropped": np.zeros_like(teacher), "relabelled": students}[recipe]
    return np.where(bad[:, None], instead, teacher)


RECIPES = {
    "fast": "the teacher's probabilities",
    "plain": "the plain shares of its votes",
    "hard": "the teacher's labels, as if it were sure",
    "weighted": "its probabilities, rows weighted by its confidence",
    "smoothed": "its probabilities, a tenth spread over all labels",
    "dropped": "without rows that unseeing students contradict",
    "relabelled": "those rows with the students' probabilities",
    "best": "the mean of the teacher's and unseeing students' probabilities",
    "best-smoothed": "those, a tenth spread over all labels",
}
ALONE = ("fast", "plain", "hard", "weighted", "smoothed")
"""Recipes that need no other students."""


def one(job: tuple[str, Setting, int]) -> str:
    """One training of a recipe."""
    recipe, setting, part = job
    learn(f"{recipe}-{part}", setting, [part], targets_of(recipe, setting, part), setting.steps)
    return f"{recipe}-{part}"


def fold(job: tuple[Setting, int, int]) -> str:
    """The students that are asked about rows that they did not see, for two parts at once."""
    from runner.student import recipes

    setting, low, high = job
    learn(f"fold-{low}{high}", setting, [low, high], read().teacher, round(setting.steps * recipes.FOLD_STEPS))
    return f"fold-{low}{high}"


def figures(recipe: str, setting: Setting, weights: str) -> dict[str, Any]:
    """Both figures of a recipe over all rows, each judged by the student that did not see it."""
    from runner.tasks.single_label.targets import confidence

    rows = read()
    said = np.zeros_like(rows.teacher)
    for part in range(PARTS):
        answers = np.load(setting.file(f"{recipe}-{part}"))[weights]
        said[rows.part == part] = answers[rows.part == part]
    sure, labels = confidence(rows.teacher), said.argmax(axis=1)
    agrees = (labels == rows.teacher.argmax(axis=1)) * sure / sure.mean()
    return {"agreement": agrees, "accuracy": (labels == rows.truth).astype(float)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Recipes side by side on train rows that none of them saw.")
    parser.add_argument("--only", default=",".join(RECIPES), metavar="RECIPE,...", help=", ".join(RECIPES))
    parser.add_argument("--model", default="catalog:all-minilm-l6-v2")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each training ({STEPS})")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, a core for each (2)")
    options = parser.parse_args()
    from runner import models

    chosen, setting = options.only.split(","), Setting(models.ensure(options.model), options.steps)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        pairs = [(setting, low, high) for low in range(PARTS) for high in range(low + 1, PARTS)]
        folds = [pool.submit(fold, pair) for pair in pairs if not set(chosen) <= set(ALONE)]
        alone = [pool.submit(one, (name, setting, part)) for name in chosen if name in ALONE for part in range(PARTS)]
        for done in as_completed(folds):
            print(done.result(), flush=True)
        rest = [
            pool.submit(one, (name, setting, part)) for name in chosen if name not in ALONE for part in range(PARTS)
        ]
        for done in as_completed(alone + rest):
            print(done.result(), flush=True)
    table(chosen, setting)


def table(chosen: list[str], setting: Setting) -> None:
    """Print the figures, and each one's difference from ``fast`` with its standard error over the rows."""
    rows = read()
    teacher = float((rows.teacher.argmax(axis=1) == rows.truth).mean())
    print(f"\n{len(rows.texts)} rows, {PARTS} seeds; the teacher's own accuracy on them: {teacher:.4f}\n")
    print(f"{'recipe':<15}{'weights':<10}{'agreement':>10}{'accuracy':>10}{'against fast':>22}")
    results = []
    for weights in ("chosen", "averaged"):
        for recipe in chosen:
            found = figures(recipe, setting, weights)
            result = {
                "name": f"{recipe}, {weights}",
                "rows": len(rows.texts),
                "seeds": PARTS,
                "model": setting.model.name,
            }
            result |= {"steps": setting.steps}
            result |= {name: float(values.mean()) for name, values in found.items()}
            line = f"{recipe:<15}{weights:<10}{result['agreement']:>10.4f}{result['accuracy']:>10.4f}"
            if "fast" in chosen:
                more = found["accuracy"] - figures("fast", setting, "averaged")["accuracy"]
                result |= {"more": float(more.mean()), "error": float(more.std() / np.sqrt(len(more)))}
                line += f"{result['more']:>+14.4f} ± {result['error']:.4f}"
            print(line)
            results.append(result)
    keep(results, OUT / "recipes.json")


if __name__ == "__main__":
    main()
