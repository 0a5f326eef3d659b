"""Several labels at once: macro F1 on GoEmotions, and what a threshold for each label is worth over one half.

    python bench/tasks_multi.py                                              # all rows, all-mpnet-base-v2: hours
    python bench/tasks_multi.py --model catalog:all-minilm-l6-v2 --rows 4000 --seeds 1    # minutes

28 labels; the recorded teacher is the gold labels of the train file (the first ROWS of it), and the test file is
measured on. The student is trained as the train stage trains it: rows are held out, which choose epoch and thresholds,
and it is saved and loaded again. For each seed: macro F1 with its thresholds, the same student with one half for every
label, and with one threshold for all, chosen on the same held-out rows. Published for BERT-base: 0.46 (Demszky et al.
2020). TUTELAGE_DATA names the folder with go_emotions. Printed as a table, and kept in bench/out/tasks_multi.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "tasks_multi.json"
PUBLISHED = 0.46
AT_LEAST = {"macro F1": 0.48, "thresholds over one half": 0.02}
SPEC = """\
version: 1
name: emotions
task: {{type: multi-label, labels: [{labels}], instructions: "Which emotions does the text show?"}}
data:
  train: {{path: train.csv, text: text}}
  test: {{path: test.csv, text: text, label: labels}}
teacher: {{engine: recorded, model: gold, columns: [labels]}}
student: {{model: "{model}", seed: {seed}, recipe: {recipe}}}
"""


@dataclass(frozen=True)
class Texts:
    """Texts with their labels."""

    texts: list[str]
    labels: list[list[str]]


def cases(
    rows: int | None = None, model: str = "catalog:all-mpnet-base-v2", seeds: int = 3, recipe: str = "fast"
) -> list[dict[str, Any]]:
    """The lines of the bench, as results; none, and a word about it, where the data is missing."""
    data = Path(os.environ.get("TUTELAGE_DATA") or ".") / "go_emotions"
    if not (data / "train.tsv").exists():
        print(f"GoEmotions is left out: {data} has no train.tsv (TUTELAGE_DATA)")
        return []
    names = (data / "labels.txt").read_text(encoding="utf-8").split()
    train, test = (read(data / f"{split}.tsv", names, most) for split, most in (("train", rows), ("test", None)))
    found = [measure(names, train, test, model, seed, recipe) for seed in range(seeds)]
    tuned, half, common = (statistics.mean(one[what] for one in found) for what in ("tuned", "half", "common"))
    told = {"rows": len(train.texts), "rounds": seeds, "model": model, "recipe": recipe, "seeds": found}
    print(f"\n{len(train.texts)} rows, {model}, {recipe}, mean of {seeds} seeds")
    print(f"macro F1 {tuned:.3f} (published {PUBLISHED})")
    print(f"one half for every label {half:.3f} ({tuned - half:+.3f}), one threshold for all {common:.3f}")
    return [
        {"name": "macro F1", "ours": tuned, "peer": PUBLISHED, "ratio": tuned, **told},
        {"name": "thresholds over one half", "ours": tuned, "peer": half, "ratio": tuned - half, **told},
    ]


def read(path: Path, names: list[str], most: int | None) -> Texts:
    """Lines of a text, the numbers of its labels and an id, parted by tabs."""
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[:most]]
    return Texts([line[0] for line in lines], [[names[int(n)] for n in line[1].split(",")] for line in lines])


def settings_of(names: list[str], model: str, seed: int, recipe: str) -> Any:
    """A student's part of a spec, with the values that a spec without them has."""
    from runner.spec import load_spec

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "spec.yaml"
        labels = ", ".join(names)
        path.write_text(SPEC.format(labels=labels, model=model, seed=seed, recipe=recipe), encoding="utf-8")
        return load_spec(path).student


def measure(names: list[str], train: Texts, test: Texts, model: str, seed: int, recipe: str) -> dict[str, float]:
    """One student on the test file, by the way its labels are chosen."""
    from runner import models
    from runner.student import fit as training
    from runner.student.fit_config import Fit
    from runner.student.held_out import split_rows
    from runner.student.predict import Student
    from runner.student.rows import Rows
    from runner.student.training_plan import TrainingPlan
    from runner.tasks.multi_label import learner, predictions, thresholds
    from runner.tasks.multi_label.metrics import macro_f1

    settings = settings_of(names, model, seed, recipe)
    gold = np.array([[name in labels for name in names] for labels in train.labels])
    held_out, kept = split_rows([tuple(labels) for labels in train.labels], settings.validation, seed)
    learned, judging = (
        Rows([train.texts[row] for row in rows], gold[rows].astype(np.float32)) for rows in (kept, held_out)
    )
    parameters = models.describe(model, None, None).parameters
    plan = TrainingPlan(settings, len(kept), len(names), parameters)
    fit = Fit(
        model=models.ensure(model, None, who="student.model"),
        outputs=tuple(names),
        epochs=plan.epochs if recipe == "fast" else 0,
        learning_rate=None,
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        precision="auto",
        seed=seed,
        start="fresh" if recipe == "fast" else "head",
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "student"

        def report(done: int, total: int, state: Any) -> None:
            print(f"\r{done} of {total} texts, {time.perf_counter() - start:.0f} s", end="", flush=True)

        training.fit(learner, fit, learned, judging, folder, report=report)
        seconds = time.perf_counter() - start
        student = Student.load(learner, folder)
        judged, said = student.predict(judging.texts), student.predict(test.texts)
    if out := os.environ.get("TUTELAGE_KEEP_LOGITS"):
        np.savez(out, judged=judged, judging=gold[held_out], said=said, test=[";".join(one) for one in test.labels])
    both = thresholds.common(judged, gold[held_out])
    found = {
        "tuned": macro_f1(names, test.labels, predictions.values(names, said, student.decision)),
        "half": macro_f1(names, test.labels, predictions.values(names, said)),
        "common": macro_f1(names, test.labels, predictions.values(names, said, dict.fromkeys(names, both))),
        "seconds": seconds,
    }
    print(f"\rseed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="of the train file; all without it")
    parser.add_argument("--model", default="catalog:all-mpnet-base-v2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", choices=("fast", "head"), default="fast")
    given = parser.parse_args()
    if results := cases(given.rows, given.model, given.seeds, given.recipe):
        keep(results, OUT, AT_LEAST)
    else:
        sys.exit(1)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
