"""What a review buys: the order of the queue, the consensus, better labels and students, and a sample's intervals.

    python bench/review.py                       # all-mpnet-base-v2: minutes, most of them for the encoder
    python bench/review.py --model catalog:all-minilm-l6-v2
    python bench/review.py --students 5          # also trains students before and after the review: an hour

The case study's texts with Mixtral's recorded votes; the experts are the reviewers, simulated. TUTELAGE_DATA names the
folder with financial_phrasebank. Opinions are those of the audit, and every contender gets the same ones:

    votes      by the teacher's votes alone, the most probable label's share of them; equals in the order of the rows
    CROWDLAB   Goh, Tkachenko & Mueller 2022 as cleanlab 2.9 has it, with the votes as annotators
    ours       runner/stages/audit.py

Rows of sampling are those of bench/trust_cases.py. Printed as a table, and kept in bench/out/review.json.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import keep
from numpy.typing import NDArray
from trust_cases import SAMPLES, cases

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
VOTES = ("sc_iter1", "sc_iter2", "sc_iter3")
AT_LEAST = {0.05: 0.47, 0.10: 0.66, 0.12: 0.70, 0.20: 0.82}
"""Of the teacher's errors, what the first part of the queue must hold."""
REVIEWED, RIGHT_AFTER, ACCURACY_AFTER, CONSENSUS = 0.12, 0.978, 0.965, 0.946
TABLE = "{:<58}{:>10}{:>10}{:>10}{:>10}"
SPEC = """\
version: 1
name: review
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentiment of the sentence for an investor.
data:
  train: {{path: "{data}/train.csv", text: text}}
  test: {{path: "{data}/test.csv", text: text, label: label_experts}}
teacher: {{engine: recorded, model: Mixtral, columns: [{votes}]}}
student: {{model: "{model}"}}
"""


@dataclass(frozen=True)
class Rows:
    """The rows of the case study with their verdicts; ``truth`` is the experts' label."""

    verdicts: list[dict[str, Any]]
    truth: list[str]

    def where(self, kept: NDArray[np.bool_]) -> Rows:
        """Those rows alone."""
        places = np.flatnonzero(kept)
        return Rows([self.verdicts[place] for place in places], [self.truth[place] for place in places])

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Where the teacher is not right; an abstention is not."""
        pairs = zip(self.verdicts, self.truth, strict=True)
        return np.array([verdict["label"] != truth for verdict, truth in pairs])

    @property
    def train(self) -> NDArray[np.bool_]:
        return np.array([verdict["split"] == "train" for verdict in self.verdicts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="catalog:all-mpnet-base-v2", help="the encoder (%(default)s)")
    parser.add_argument("--students", type=int, default=0, metavar="SEEDS", help="train so many before and after")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="simulated samples (%(default)s)")
    options = parser.parse_args()
    data = Path(os.environ.get("TUTELAGE_DATA") or ROOT.parent / "shared" / "data") / "financial_phrasebank"
    if not (data / "train.csv").exists():
        sys.exit(f"{data} is not there: set TUTELAGE_DATA to the folder that holds financial_phrasebank/")
    text = SPEC.format(data=data, votes=", ".join(VOTES), model=options.model)
    spec, rows = case_study(text, data)
    views = seen(options.model, [verdict["text"] for verdict in rows.verdicts])
    print(TABLE.format(f"{options.model}, {len(rows.truth):,} rows", "votes", "CROWDLAB", "ours", "at least"))
    everything = np.ones(len(rows.truth), dtype=bool)
    results = queue(spec, rows, opinions(spec, rows, views, everything), options.model)
    train = rows.where(rows.train)
    heard = opinions(spec, rows, views, rows.train)
    results += labels(spec, train, heard, options.model)
    if options.students:
        order = audited(spec, train, heard).order(views[0][rows.train])
        results += students(text, train, order, options.students)
    results += sampling(rows, audited(spec, rows, opinions(spec, rows, views, everything)), options.samples)
    keep(results, OUT / "review.json")


def case_study(text: str, data: Path) -> tuple[Any, Rows]:
    """The spec, and its rows after load, label and vote: nothing is asked, the votes are recorded."""
    from runner.cluster.cluster import Cluster
    from runner.observe.progress import Progress
    from runner.rundir.folder import Folder
    from runner.spec import load_spec
    from runner.stages import pipeline
    from runner.stages.contract import Context

    file = OUT / "review" / "spec.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    spec, run = load_spec(file), Folder(str(OUT / "review" / "run"))
    for step in pipeline.steps(spec, run):
        if not step.cached:
            context = Context(spec, run, step.folder, step.inputs, Cluster(), Progress(sys.stderr, "quiet"))
            pipeline.run_step(step, context)
        if step.stage.NAME == "vote":
            break
    truth = {}
    for split in ("train", "test"):
        with open(data / f"{split}.csv", encoding="utf-8", newline="") as handle:
            truth |= {row["text"].strip(): row["label_experts"] for row in csv.DictReader(handle)}
    verdicts = step.folder.read_table("votes.parquet").to_pylist()
    return spec, Rows(verdicts, [truth[verdict["text"].strip()] for verdict in verdicts])


def seen(model: str, texts: Sequence[str]) -> tuple[NDArray[np.float32], Any]:
    """Vectors and terms as the audit has them; vectors are kept in bench/out/review."""
    from runner import models
    from runner.student import views
    from runner.student.load import load_tokenizer
    from runner.student.tokens import tokenize

    folder, file = models.ensure(model), OUT / "review" / f"{model.rpartition(':')[2].replace('/', '-')}.npz"
    if file.exists() and (kept := np.load(file))["texts"].tolist() == list(texts):
        tokenizer = load_tokenizer(folder)
        return kept["vectors"], views.terms(tokenize(tokenizer, texts, 256), set(tokenizer.all_special_ids))
    vectors, terms = views.views(folder, texts, 256)
    np.savez(file, vectors=vectors, texts=np.array(texts))
    return vectors, terms


def opinions(spec: Any, rows: Rows, views: tuple[Any, Any], kept: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """What students of the other ``kept`` rows say of each of them, as :func:`runner.review.opinions.ask` does."""
    from runner.tasks.kinds import task_of

    task, some = task_of(spec), rows.where(kept)
    targets, learned = task.auditing.targets(spec, some.verdicts), task.auditing.learned(some.verdicts)
    learner = task.learner()
    return [learner.out_of_fold(view[np.flatnonzero(kept)], targets, learned, spec.audit.seed) for view in views]


@dataclass(frozen=True)
class Audited:
    """What the audit finds."""

    findings: list[dict[str, Any]]

    @property
    def doubt(self) -> NDArray[np.float64]:
        return np.array([finding["doubt"] for finding in self.findings])

    def order(self, vectors: NDArray[np.floating]) -> NDArray[np.int64]:
        from runner.review.ordering import ordered

        return ordered(self.doubt, vectors.astype(np.float16))


def audited(spec: Any, rows: Rows, heard: list[NDArray[np.float64]]) -> Audited:
    from runner.tasks.kinds import task_of

    return Audited(task_of(spec).auditing.findings(spec, rows.verdicts, heard))


def by_votes(rows: Rows) -> NDArray[np.float64]:
    """The teacher's own doubt; 1 where it abstained."""
    return np.array([1.0 if v["label"] is None else 1 - max(v["probabilities"]) for v in rows.verdicts])


def by_crowdlab(spec: Any, rows: Rows, heard: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The doubt that CROWDLAB has of the teacher's label; 1 where it abstained."""
    from runner.tasks.single_label.auditing import doubts, pooled_opinions

    places = {label: place for place, label in enumerate(spec.task.labels)}
    votes = np.array([[places.get(vote, -1) for vote in verdict["votes"]] for verdict in rows.verdicts])
    students = pooled_opinions(heard, heard[0].shape)
    given = np.array([places.get(verdict["label"], -1) for verdict in rows.verdicts])
    return doubts(crowdlab(votes, students), given)


def crowdlab(votes: NDArray[np.int64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    """CROWDLAB's probability of each label, shape ``(rows, labels)``.

    ``votes`` ``(rows, annotators)`` are places of labels, -1 for none; ``model`` ``(rows, labels)`` are probabilities
    of a model that did not see the row. Sections 3.1 and 3.2 of arXiv:2210.06812, and what cleanlab 2.9 makes of
    them; ``tests/review/test_bench_review.py`` holds it to cleanlab's numbers.
    """
    labels, least = model.shape[1], 1e-8
    counts = np.stack([(votes == label).sum(axis=1) for label in range(labels)], axis=1)
    tied = counts == counts.max(axis=1, keepdims=True)
    consensus = np.where(tied, model, -1.0).argmax(axis=1)  # the majority; the model breaks ties
    several = counts.sum(axis=1) > 1
    agreement = np.take_along_axis(counts, consensus[:, None], axis=1)[:, 0] / counts.sum(axis=1)
    likelihood = agreement[several].mean()
    frequent = np.bincount(consensus[several], minlength=labels).argmax()
    by_chance = max(float((consensus[several] != frequent).mean()), least)
    given = votes >= 0
    weights = np.zeros(votes.shape[1])
    for annotator in range(votes.shape[1]):
        here = given[:, annotator] & several
        others = np.delete(votes[here], annotator, axis=1)
        same = (others == votes[here, annotator][:, None]).sum()
        weights[annotator] = max(1 - (1 - same / (others >= 0).sum()) / by_chance, least)
    error = (model.argmax(axis=1) != consensus)[several].mean()
    model_weight = max(1 - error / by_chance, least) * np.sqrt(counts.sum(axis=1).mean())
    total = model_weight * model
    for annotator, weight in enumerate(weights):
        said = votes[:, annotator][:, None] == np.arange(labels)
        share = np.where(said, likelihood, (1 - likelihood) / (labels - 1))
        total = total + weight * share * given[:, annotator][:, None]
    found: NDArray[np.float64] = total / total.sum(axis=1, keepdims=True)
    return found


def queue(spec: Any, rows: Rows, heard: list[NDArray[np.float64]], model: str) -> list[dict[str, Any]]:
    """How many of the teacher's errors stand at the beginning of the queue, and how true its doubt is."""
    found = audited(spec, rows, heard)
    doubts = {"votes": by_votes(rows), "CROWDLAB": by_crowdlab(spec, rows, heard), "ours": found.doubt}
    results = []
    for part, asked in AT_LEAST.items():
        shares = {name: share_found(doubt, rows.wrong, part) for name, doubt in doubts.items()}
        results.append(compared(f"errors in the first {part:.0%} of the queue", shares, asked, len(rows.truth)))
    errors = {name: float(np.mean((doubt - rows.wrong) ** 2)) for name, doubt in doubts.items()}
    results.append(compared("squared error of the doubt (Brier)", errors, None, len(rows.truth)))
    expected = {name: float(doubt.sum()) for name, doubt in doubts.items()}
    results.append(compared(f"errors expected, of {rows.wrong.sum()}", expected, None, len(rows.truth)))
    print("\ndoubt, rows, mean doubt, share that is wrong")
    for low, high in ((0, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.9), (0.9, 1.01)):
        here = (found.doubt >= low) & (found.doubt < high)
        if here.any():
            means = f"{found.doubt[here].mean():>8.3f}{rows.wrong[here].mean():>8.3f}"
            print(f"{low:>6.2f} to {min(high, 1):.2f}{here.sum():>8}{means}")
    print()
    return [result | {"model": model} for result in results]


def labels(spec: Any, rows: Rows, heard: list[NDArray[np.float64]], model: str) -> list[dict[str, Any]]:
    """Train labels that are right: the teacher's, the consensus', and after a part of the queue was reviewed."""
    found = audited(spec, rows, heard)
    before = float(1 - rows.wrong.mean())
    agreed = np.mean([f["consensus"] == truth for f, truth in zip(found.findings, rows.truth, strict=True)])
    doubts = {"votes": by_votes(rows), "CROWDLAB": by_crowdlab(spec, rows, heard), "ours": found.doubt}
    after = {
        name: 1 - rows.wrong.mean() * (1 - share_found(doubt, rows.wrong, REVIEWED)) for name, doubt in doubts.items()
    }
    name, consensus = f"train labels right after {REVIEWED:.0%} are reviewed", {"votes": before, "ours": float(agreed)}
    results = [
        compared(name, after, RIGHT_AFTER, len(rows.truth)) | {"before": before},
        compared("train labels right by consensus", consensus, CONSENSUS, len(rows.truth)),
    ]
    return [result | {"model": model} for result in results]


def share_found(doubt: NDArray[np.float64], wrong: NDArray[np.bool_], part: float) -> float:
    """Of all errors, the share among the first ``part`` of the rows by doubt; equals in the order of the rows."""
    order = np.argsort(-doubt, kind="stable")[: round(part * len(doubt))]
    return float(wrong[order].sum() / wrong.sum())


def compared(name: str, figures: Mapping[str, float], asked: float | None, rows: int) -> dict[str, Any]:
    """A line of the table, as :func:`common.keep` has it; the peer is CROWDLAB, or the votes where it says nothing."""
    shown = [f"{figures[who]:.4g}" if who in figures else "" for who in ("votes", "CROWDLAB", "ours")]
    print(TABLE.format(name, *shown, "" if asked is None else f"{asked:.4g}"), flush=True)
    peer = figures.get("CROWDLAB", figures.get("votes"))
    ratio = None if not peer else figures["ours"] / peer
    more = {"votes": figures["votes"]} if "votes" in figures else {}
    return {"name": name, "ours": figures["ours"], "peer": peer, "ratio": ratio, "at_least": asked, "rows": rows} | more


def students(text: str, rows: Rows, order: NDArray[np.int64], seeds: int) -> list[dict[str, Any]]:
    """The accuracy of students on the test rows, before and after the first part of the queue was reviewed.

    The whole job, ``tutelage run`` as it is, in a run folder without decisions and in one with them.
    """
    from runner.cluster.cluster import Cluster
    from runner.observe.progress import Progress
    from runner.review.decisions import Decision, Writer, text_digest
    from runner.rundir.folder import Folder
    from runner.spec import load_spec
    from runner.stages import pipeline

    reviewed = [rows.verdicts[place] | {"truth": rows.truth[place]} for place in order[: round(REVIEWED * len(order))]]
    decisions = [
        Decision(
            list="queue",
            id=row["id"],
            digest=text_digest(row["text"]),
            action="label",
            value=row["truth"],
            reviewer="experts",
        )
        for row in reviewed
    ]
    accuracy: dict[str, list[float]] = {"before": [], "after": []}
    cluster = Cluster()
    try:
        for when, found in accuracy.items():
            run = Folder(str(OUT / "review" / when))
            if when == "after" and not run.child("review", "decisions").names(".jsonl"):
                Writer(run).append(decisions)
            for seed in range(seeds):
                file = OUT / "review" / "students.yaml"
                file.write_text(text, encoding="utf-8")
                spec = load_spec(file, [f"student.seed={seed}", "benchmark.rows=4", "benchmark.batch_sizes=[4]"])
                record = pipeline.execute(spec, run, cluster, Progress(sys.stderr, "plain"))
                [place] = [stage["fingerprint"] for stage in record["stages"] if stage["name"] == "evaluate"]
                found.append(run.child("evaluate", place).read_json("evaluate.json")["student"]["accuracy"])
                print(f"student, {when} the review, seed {seed}: {found[-1]:.4f}", flush=True)
    finally:
        cluster.stop()
    means = {"votes": statistics.mean(accuracy["before"]), "ours": statistics.mean(accuracy["after"])}
    name = f"student on test rows, after {REVIEWED:.0%} are reviewed"
    return [compared(name, means, ACCURACY_AFTER, len(rows.truth)) | {"seeds": accuracy}]


def sampling(rows: Rows, found: Audited, samples: int) -> list[dict[str, Any]]:
    """The rows about intervals and shares, with the audit's findings as the guide."""
    texts = [verdict["text"].strip() for verdict in rows.verdicts]
    results = cases(samples, dict(zip(texts, found.findings, strict=True)))
    for result in results:
        print(
            f"{result['name']:<78} {result['ours']:.5f} {result['peer']:.5f} {result['ratio']:.3f} "
            f"{result['at_least']:.3f}"
        )
    return results


if __name__ == "__main__":
    main()
