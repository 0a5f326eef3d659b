"""What recipe auto is worth where texts are few: against each of the recipes that it chooses from.

    python bench/few.py                                # five sets, three seeds, all-mpnet-base-v2: an hour and a half
    python bench/few.py --sets quickstart --seeds 1    # one set, one seed

The sets are the quickstart; 20 intents of CLINC150, 18 texts each, labelled by the live 1.5 B teacher and by the
experts; the case study's texts with Mixtral's recorded votes, 300 of them and all. For every set and seed a head alone,
lp-ft and fast are trained once, as the train stage trains them, and judged on the expert-labelled test rows; auto is
what the stage's own rule makes of those, and takes the time of all that the rule would have trained, loading and saving
included. Printed as a table, and kept in bench/out/few.json.

TUTELAGE_DATA names the folder with clinc150 and financial_phrasebank; sets whose data is missing are left out, and said
to be. The teacher labels once: what it said is in bench/out/few.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
INTENTS = (
    "transfer",
    "transactions",
    "balance",
    "freeze_account",
    "pay_bill",
    "bill_balance",
    "bill_due",
    "interest_rate",
    "routing",
    "min_payment",
    "order_checks",
    "pin_change",
    "report_fraud",
    "account_blocked",
    "spending_history",
    "credit_score",
    "report_lost_card",
    "credit_limit",
    "rewards_balance",
    "new_card",
)
TRAIN_TEXTS, TEST_TEXTS = 18, 10
"""Of each intent."""
RECIPES = ("head", "lp-ft", "fast")
SPEC = """\
version: 1
name: intents
task:
  labels: [{labels}]
  instructions: Label the intent of a bank customer's request.
data:
  train: {{path: train.csv, text: text}}
  test: {{path: test.csv, text: text, label: intent}}
teacher: {teacher}
"""
TEACHERS = {
    "intents": '{model: "catalog:qwen2.5-coder-1.5b-instruct"}',
    "intents-experts": "{engine: recorded, model: experts, columns: [intent]}",
}
CASE = {"case-300": 300, "case-all": None}
SETS = ("quickstart", *TEACHERS, *CASE)
LEAST_POINTS, MOST_TIME = 0.01, 2.0
"""How far auto may be below the best recipe, and how many times its time it may take."""


@dataclass(frozen=True)
class Labelled:
    """One set: rows with the teacher's probabilities, expert-labelled test rows, and how often the teacher is right."""

    spec: Any
    train: list[dict[str, Any]]
    test: list[dict[str, Any]]
    teacher: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help="some of: %(default)s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--student", default="catalog:all-mpnet-base-v2")
    wanted = parser.parse_args()
    results = []
    for name in wanted.sets.split(","):
        if (found := labelled(name, wanted.student)) is None:
            print(f"{name}: its data is not in TUTELAGE_DATA; left out")
            continue
        seeds = [compare(found, seed) for seed in range(wanted.seeds)]
        results += told(name, found, seeds)
        keep(results, OUT / "few.json")
    sys.exit(0 if results else 1)


def labelled(name: str, student: str) -> Labelled | None:
    """The set after load, label and vote; None where its data is missing."""
    from runner.cluster.cluster import Cluster
    from runner.observe.progress import Progress
    from runner.rundir.folder import Folder
    from runner.spec import load_spec
    from runner.stages import pipeline
    from runner.stages.contract import Context
    from runner.system.errors import UserError

    try:
        spec = load_spec(spec_file(name), [f"student.model={student}"])
    except (OSError, UserError):
        return None
    run, cluster = Folder(str(OUT / "few" / name.replace("case-300", "case-all"))), Cluster()
    try:
        for step in pipeline.steps(spec, run):
            context = Context(spec, run, step.folder, step.inputs, cluster, Progress(sys.stderr, "plain"))
            if not step.cached:
                pipeline.run_step(step, context)
            if step.stage.NAME == "vote":
                break
    finally:
        cluster.stop()
    rows = step.folder.read_table("votes.parquet").to_pylist()
    truth = {row["id"]: row["label"] for row in loaded(spec, run).read_table("test.parquet").to_pylist()}
    test = [row | {"truth": truth[row["id"]]} for row in rows if row["split"] == "test"]
    train = [row for row in rows if row["split"] == "train" and row["label"] is not None]
    if (count := CASE.get(name)) is not None:
        train = [train[i] for i in sorted(np.random.default_rng(0).permutation(len(train))[:count])]
    return Labelled(spec, train, test, sum(row["label"] == row["truth"] for row in test) / len(test))


def loaded(spec: Any, run: Any) -> Any:
    """The folder of the load stage."""
    from runner.stages import pipeline

    return next(step.folder for step in pipeline.steps(spec, run) if step.stage.NAME == "load")


def spec_file(name: str) -> Path:
    """The set's spec; that of the intents is written, with its data."""
    if name not in TEACHERS:
        return ROOT / "specs" / ("quickstart.yaml" if name == "quickstart" else "financial-sentiment-recorded.yaml")
    data = Path(os.environ.get("TUTELAGE_DATA") or ".") / "clinc150"
    folder = OUT / "few" / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", TRAIN_TEXTS), ("test", TEST_TEXTS)):
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("text", "intent"), *first_of_each(data / f"{split}.csv", count)])
    spec = folder / "spec.yaml"
    labels = ", ".join(intent.replace("_", " ") for intent in INTENTS)
    spec.write_text(SPEC.format(labels=labels, teacher=TEACHERS[name]), encoding="utf-8")
    return spec


def first_of_each(path: Path, count: int) -> Iterator[tuple[str, str]]:
    """The first ``count`` texts of each intent, in the order of the file."""
    left = dict.fromkeys(INTENTS, count)
    with open(path, encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            if left.get(row["intent"], 0):
                left[row["intent"]] -= 1
                yield row["text"], row["intent"].replace("_", " ")


def compare(found: Labelled, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy, calibration error and seconds of each recipe and of auto, by name."""
    from runner import models
    from runner.student import fit as training
    from runner.student.fit_config import Fit
    from runner.student.held_out import split_rows
    from runner.student.train_worker import try_recipes
    from runner.student.training_plan import TrainingPlan
    from runner.tasks.single_label import learner

    student = replace(found.spec.student, seed=seed, recipe="auto", epochs=None)
    held_out, kept = split_rows([row["label"] for row in found.train], student.validation, seed)
    given, judging = ([found.train[i] for i in rows] for rows in (kept, held_out or kept))
    parameters = models.describe(student.model, student.revision, found.spec.base).parameters
    plan = TrainingPlan(student, len(given), len({row["label"] for row in found.train}), parameters)
    labels = tuple(found.spec.task.labels)
    fit = Fit(
        model=models.ensure(student.model, student.revision, who="student.model"),
        outputs=labels,
        epochs=plan.epochs,
        learning_rate=None,
        batch_size=student.batch_size,
        max_length=student.max_length,
        precision="auto",
        seed=seed,
    )
    head = replace(fit, start="head")
    fits = {"head": replace(head, epochs=0), "lp-ft": head, "fast": fit}
    figures: dict[str, dict[str, float]] = {}

    def one(name: str) -> dict[str, Any]:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            result = training.fit(learner, fits[name], as_rows(given), as_rows(judging), Path(scratch) / "student")
            took = time.perf_counter() - start
            figures[name] = judged(Path(scratch) / "student", found.test) | {"seconds": took}
        return result

    results = {name: one(name) for name in RECIPES}
    chosen, tried = try_recipes(plan.trainings, results.__getitem__, learner.confidence(as_rows(judging).targets))
    figures["auto"] = figures[chosen] | {"seconds": sum(figures[name]["seconds"] for name in tried)}
    for name, figure in figures.items():
        print(
            f"seed {seed} {name + (f' ({chosen})' if name == 'auto' else ''):14} accuracy {figure['accuracy']:.3f}, "
            f"calibration error {figure['ece']:.3f}, {figure['seconds']:.0f} s",
            flush=True,
        )
    return figures


def as_rows(rows: Sequence[dict[str, Any]]) -> Any:
    """Texts with the teacher's probabilities."""
    from runner.student.rows import Rows

    return Rows([row["text"] for row in rows], np.array([row["probabilities"] for row in rows], dtype=np.float32))


def judged(folder: Path, test: Sequence[dict[str, Any]]) -> dict[str, float]:
    """A student on the expert-labelled rows."""
    from runner.student.predict import Student
    from runner.tasks.single_label import learner
    from runner.tasks.single_label.metrics import score

    student = Student.load(learner, folder)
    probabilities = student.predict([row["text"] for row in test])
    said = [student.outputs[place] for place in probabilities.argmax(axis=1)]
    found = score(student.outputs, [row["truth"] for row in test], said, probabilities)
    return {"accuracy": found["accuracy"], "ece": found["ece"]}


def told(name: str, found: Labelled, seeds: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """The set's lines of the table, printed, as results."""

    def mean(recipe: str, what: str) -> float:
        return statistics.mean(figures[recipe][what] for figures in seeds)

    best = max(RECIPES, key=lambda recipe: (mean(recipe, "accuracy"), -mean(recipe, "seconds")))
    print(f"\n{name}: {len(found.train)} train rows, {len(found.test)} test rows, teacher {found.teacher:.3f}")
    for recipe in ("auto", *RECIPES):
        each = ", ".join(f"{figures[recipe]['accuracy']:.3f}" for figures in seeds)
        print(
            f"  {recipe:6} accuracy {mean(recipe, 'accuracy'):.3f} ({each}), calibration error "
            f"{mean(recipe, 'ece'):.3f}, {mean(recipe, 'seconds'):.0f} s" + (", the best" if recipe == best else ""),
            flush=True,
        )
    auto, top = mean("auto", "accuracy"), mean(best, "accuracy")
    took, quick = mean("auto", "seconds"), mean(best, "seconds")
    common = {"rounds": len(seeds), "rows": len(found.train), "best": best, "teacher": found.teacher}
    return [
        {"name": f"{name}: accuracy of auto against the best recipe", "ours": auto, "peer": top, "ratio": auto / top}
        | {"at_least": (top - LEAST_POINTS) / top, **common},
        {"name": f"{name}: time of the best recipe by that of auto", "ours": took, "peer": quick, "ratio": quick / took}
        | {"at_least": 1 / MOST_TIME, **common},
    ]


if __name__ == "__main__":
    main()
