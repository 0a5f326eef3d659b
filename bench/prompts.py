"""What the prompt is worth: ways to ask one teacher, held against experts' labels.

    python bench/prompts.py SPEC --gold FILE.csv:LABEL_COLUMN [--rows 300] [--pool 150] [--only written,similar,...]
                            [--change teacher.model=OTHER]

The gold file is split by a seed: ``--pool`` rows to choose few-shot examples from, ``--rows`` to be judged on. Give it
the *train* rows, so that the test rows stay unseen. Each variant is a change of the spec; the table has accuracy and
macro F1 with 95 % bootstrap intervals, and the paired difference from the first variant.

    written     the examples of the spec                 none        no examples
    reversed    the same in the opposite order           diverse     k of the pool, spread over labels and meanings
    similar     the k nearest of the pool to each row    cot, votes  chain of thought, one answer or three votes
    both        written and votes, pooled                raw         written, without calibration
    structured  cot, held to its JSON by the engine      bounded     the same within 64 tokens
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from runner.cluster.cluster import Cluster
from runner.observe.progress import Progress
from runner.rundir.folder import MARKER, Folder
from runner.spec import load_spec
from runner.stages import pipeline
from runner.stages.contract import Context

OUT = Path(__file__).resolve().parent / "out" / "prompts.json"
RESAMPLES = 2000


def variants(spec: Any, k: int) -> dict[str, list[str]]:
    """The changes to the spec that make each variant."""
    turned = [{"text": e.text, "label": e.label, "reason": e.reason} for e in reversed(spec.task.written)]
    chosen = "task.examples={{from: pool.csv, select: {}, k: {}}}"
    return {
        "written": [],
        "raw": ["teacher.calibration=none"],
        "none": ["task.examples=[]"],
        "reversed": [f"task.examples={json.dumps(turned)}"],
        "diverse": [chosen.format("diverse", k)],
        "similar": [chosen.format("similar", k)],
        "cot": ["teacher.prompt=cot"],
        "votes": ["teacher.prompt=cot", "teacher.votes=3"],
        "structured": ["teacher.prompt=cot", "teacher.structured=true"],
        "bounded": ["teacher.prompt=cot", "teacher.structured=true", "teacher.max_tokens=64"],
        "both": [f"teacher.also=[{{model: '{spec.teacher.model}', prompt: cot, votes: 3}}]"],
    }


def split_gold(gold: str, spec: Any, folder: Path, pool: int, rows: int) -> None:
    """pool.csv, test.csv and a train.csv of texts for calibration, beside a copy of the spec."""
    path, column = gold.rsplit(":", 1)
    with open(path, encoding="utf-8", newline="") as handle:
        found = [(row[spec.data.train.text], row[column]) for row in csv.DictReader(handle)]
    random.Random(5).shuffle(found)
    if len(found) < pool + rows + 50:
        raise SystemExit(f"{path} has {len(found)} rows, {pool + rows + 50} are needed: ask for fewer")
    parts = {"pool": found[:pool], "test": found[pool : pool + rows], "train": found[pool + rows : pool + rows + 300]}
    for name, part in parts.items():
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("text", "label"), *part])
    (folder / "spec.yaml").write_text(spec.text, encoding="utf-8")


def ask(path: Path, changes: list[str], runs: Path) -> tuple[list[str], list[str], float, float]:
    """The experts' labels, the teacher's, its rows/s and its prompt tokens a row."""
    data = [
        "data.train={path: train.csv, text: text, limit: 50}",
        "data.test={path: test.csv, text: text, label: label}",
    ]
    spec = load_spec(path, [*data, *changes])
    run, cluster = Folder(str(runs / spec.name)), Cluster()
    start = time.perf_counter()
    for step in pipeline.steps(spec, run)[:3]:
        if not step.cached:
            progress = Progress(sys.stderr, "plain")
            pipeline.run_step(step, Context(spec, run, step.folder, step.inputs, cluster, progress))
        if step.stage.NAME == "load":
            gold = {row["id"]: row["label"] for row in step.folder.read_table("test.parquet").to_pylist()}
        if step.stage.NAME == "label":
            summary = step.folder.read_json(MARKER)["summary"]
        if step.stage.NAME == "vote":
            votes = step.folder.read_table("votes.parquet").to_pylist()
    cluster.stop()
    print(f"{' '.join(changes)[:60]}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    said = {row["id"]: row["label"] or "" for row in votes if row["split"] == "test"}
    tokens = summary["prompt_tokens"] / summary["rows"]
    return list(gold.values()), [said.get(id_, "") for id_ in gold], summary["rows_per_second"], tokens


def scores(gold: Any, said: Any, picks: Any) -> tuple[Any, Any]:
    """Accuracy and macro F1 of each resample."""
    labels = sorted(set(gold))
    accuracy = (gold == said)[picks].mean(axis=1)
    f1 = [f1_score(gold[p], said[p], labels=labels, average="macro", zero_division=0) for p in picks]
    return accuracy, np.array(f1)


def main() -> None:
    """Run the variants and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("spec")
    parser.add_argument("--gold", required=True, help="FILE.csv:COLUMN with experts' labels of train rows")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--pool", type=int, default=150)
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--only", default="written,raw,none,reversed,diverse,similar,cot,votes,structured,bounded,both")
    parser.add_argument("--change", action="append", default=[], help="one more variant: a change of the spec")
    parser.add_argument("--set", action="append", default=[], help="a change of the spec for all variants")
    options = parser.parse_args()
    spec = load_spec(options.spec, options.set)
    known = variants(spec, options.k) | {change: [change] for change in options.change}
    names = [*options.only.split(","), *options.change]
    if unknown := set(names) - set(known):
        parser.error(f"there is no variant {', '.join(sorted(unknown))}")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        split_gold(options.gold, spec, folder, options.pool, options.rows)
        for name in names:
            gold, said, rate, tokens = (
                np.array(part) if isinstance(part, list) else part
                for part in ask(folder / "spec.yaml", [*options.set, *known[name]], folder / "runs")
            )
            picks = np.random.default_rng(0).integers(0, len(gold), (RESAMPLES, len(gold)))
            accuracy, f1 = scores(gold, said, picks)
            if not results:
                base = accuracy
            results.append(
                {
                    "name": name,
                    "rows": len(gold),
                    "accuracy": float((gold == said).mean()),
                    "accuracy_ci95": np.quantile(accuracy, [0.025, 0.975]).tolist(),
                    "macro_f1": float(f1_score(gold, said, labels=sorted(set(gold)), average="macro")),
                    "macro_f1_ci95": np.quantile(f1, [0.025, 0.975]).tolist(),
                    "difference_ci95": np.quantile(accuracy - base, [0.025, 0.975]).tolist(),
                    "rows_per_second": rate,
                    "prompt_tokens_per_row": tokens,
                }
            )
            _table(results)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2), encoding="utf-8")


def _table(results: list[dict[str, Any]]) -> None:
    print(f"\n{'prompt':<10}{'accuracy':>24}{'macro F1':>24}{'against the first':>22}{'rows/s':>9}{'tokens':>8}")
    for one in results:
        columns = [
            f"{one[name]:.3f} ({one[f'{name}_ci95'][0]:.3f} to {one[f'{name}_ci95'][1]:.3f})"
            for name in ("accuracy", "macro_f1")
        ]
        difference = "{:+.3f} to {:+.3f}".format(*one["difference_ci95"])
        print(
            f"{one['name'][-30:]:<10}{columns[0]:>24}{columns[1]:>24}{difference:>22}"
            f"{one['rows_per_second']:>9.2f}{one['prompt_tokens_per_row']:>8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
