"""What calibration does to a teacher's labels, on class mixes from even to lopsided.

    python bench/calibration.py runs/financial-sentiment-cpu GOLD.csv [--text text] [--label label_experts]

Reads the stored answers of a finished run (nothing is generated) and the experts' labels of its *train* rows, so
that the test rows stay out of every choice. A mix is simulated by weighting each class's recall.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from runner.data.reading import row_id
from runner.rundir.folder import Folder
from runner.tasks.single_label.calibrate import divide

MIXES = {".05/.90/.05": (0.05, 0.90, 0.05), ".02/.18/.80": (0.02, 0.18, 0.80), ".80/.18/.02": (0.80, 0.18, 0.02)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run")
    parser.add_argument("gold")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label_experts")
    options = parser.parse_args()
    run = Folder(str(Path(options.run).resolve()))
    record = run.read_json("run.json")
    labels = record["spec"]["task"]["labels"]
    stage = {step["name"]: run.child(step["name"], step["fingerprint"]) for step in record["stages"]}
    with open(options.gold, encoding="utf-8", newline="") as handle:
        gold = {row_id(row[options.text]): labels.index(row[options.label]) for row in csv.DictReader(handle)}
    train = set(stage["load"].read_table("train.parquet").column("id").to_pylist())
    answers = stage["label"].read_table("answers.parquet").to_pylist()
    rows = [a for a in answers if a["id"] in train and a["id"] in gold]
    raw = np.array([a["label_probabilities"] for a in rows])
    truth = np.array([gold[a["id"]] for a in rows])
    free = np.array([a["label_probabilities"] for a in answers if a["kind"] == "content-free"]).mean(axis=0)
    variants = {"raw": raw, "batch": divide(raw, raw.mean(axis=0))}
    variants |= {f"content-free ^ {power}": divide(raw, free, power) for power in (0.25, 0.5, 0.75, 1.0)}
    even = (1 / len(labels),) * len(labels)
    mixes = (MIXES if len(labels) == 3 else {}) | {"even": even}
    print(f"{len(rows)} train rows with expert labels; mean content-free answer {np.round(free, 3).tolist()}\n")
    print("| | accuracy | macro F1 | " + " | ".join(mixes) + " | mean of mixes |")
    print("|---|---|---|" + "---|" * (len(mixes) + 1))
    for name, probabilities in variants.items():
        said = probabilities.argmax(axis=1)
        recall = np.array([(said[truth == k] == k).mean() for k in range(len(labels))])
        at = [float(np.dot(mix, recall)) for mix in mixes.values()]
        figures = [
            float((said == truth).mean()),
            float(f1_score(truth, said, average="macro")),
            *at,
            float(np.mean(at)),
        ]
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
