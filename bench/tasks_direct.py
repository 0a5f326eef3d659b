"""Prompt ``direct`` with 150 labels: the label tree asked best first, against every branch of it; and a shortlist.

    python bench/tasks_direct.py                  # 2 rounds of 16 rows on two cores: minutes
    python bench/tasks_direct.py --rows 24 --rounds 10

CLINC150's intents (TUTELAGE_DATA names the folder with clinc150) and the catalog's teacher of 1.5 B parameters. All
ways go through the label stage's own worker, with one engine, by turns and on the same rows, and the one that begins
changes with each round. Labels are compared before and after content-free calibration. Kept in
bench/out/tasks_direct.json.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"
DATA = Path(os.environ.get("TUTELAGE_DATA") or ROOT.parent / "shared" / "data") / "clinc150"
TIMES_AS_FAST, SAME_LABEL, PLAN_WITHIN = 4.0, 0.995, 2.0
ROWS, ROUNDS = 16, 2
SHORTLIST = 20
LISTED = f"shortlist of {SHORTLIST}"
MODEL = "catalog:qwen2.5-coder-1.5b-instruct"
SPEC = """\
version: 1
name: intents
task:
  labels: [{labels}]
  instructions: Label the intent of a message to a personal assistant.
  examples: []
data:
  train: {{path: "{data}/train.csv", text: text}}
  test: {{path: "{data}/test.csv", text: text, label: intent}}
teacher: {{model: "{model}"}}
student: {{model: "catalog:all-minilm-l6-v2"}}
"""


def cases(rows: int = ROWS, rounds: int = ROUNDS, calibrating: int = 0, model: str = MODEL) -> list[dict[str, Any]]:
    """The comparisons: rows a second of both ways, the labels that are the same, and the plan's time."""
    if not (DATA / "test.csv").exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        return _cases(Path(folder), rows, rounds, calibrating, model)


def _cases(folder: Path, rows: int, rounds: int, calibrating: int, model: str) -> list[dict[str, Any]]:
    from runner.planning.teacher_estimate import estimate_teacher
    from runner.rundir.folder import Folder
    from runner.teacher.request import asking_of, settings_of
    from runner.teacher.worker import Labeller

    spec, texts = _spec(folder, model), _texts(rows * rounds)
    plan, _ = estimate_teacher(_without_calibration(spec), Folder(str(folder / "run")), _ids(texts), texts)
    place, _ = _teacher(spec)
    asking = asking_of(spec)
    ways = {"best first": asking, "exhaustive": replace(asking, exhaustive=True)}
    ways[LISTED] = replace(asking, shortlist=SHORTLIST)
    lists = dict(zip(texts, _shortlists(asking, texts), strict=True))
    worker = Labeller("vllm", place, ways["best first"], settings_of(spec.teacher), str(folder / "warm"))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    read = _watched(worker)
    for number in range(rounds):
        order = list(ways)[:: 1 if number % 2 == 0 else -1]
        for name in order:
            worker.turn_to(ways[name], str(folder / name), None)
            start = time.perf_counter()
            _ask(worker, texts[number * rows : (number + 1) * rows], "row", lists if name == LISTED else {})
            taken[name].append(time.perf_counter() - start)
            print(f"round {number}: {name}, {rows} rows in {taken[name][-1]:.1f} s", flush=True)
    if calibrating:
        for name in ("best first", "exhaustive"):
            worker.turn_to(ways[name], str(folder / name), None)
            start = time.perf_counter()
            _ask(worker, _random_texts(calibrating), "content-free", {})
            print(f"{name}: {calibrating} calibration texts in {time.perf_counter() - start:.1f} s", flush=True)
    worker.close()
    print("tokens of a request: " + ", ".join(f"{np.mean(counts):.1f} {name}" for name, counts in read.items()))
    return _results(folder, spec, plan, taken, rows)


def _results(folder: Path, spec: Any, plan: dict[str, Any], taken: dict[str, list[float]], rows: int) -> Any:
    from runner.rundir.folder import Folder
    from runner.teacher.answer_store import read_answers

    tables = {name: read_answers(Folder(str(folder / name))) for name in taken}
    answers = {name: {one["id"]: one for one in table.to_pylist()} for name, table in tables.items()}
    ids = [id_ for id_, one in answers["best first"].items() if one["kind"] == "row"]
    free = [id_ for id_ in answers["best first"] if id_ not in set(ids)]
    for name in taken:
        for kind, wanted in (("rows", ids), ("calibration texts", free)):
            if wanted and wanted[0] in answers[name]:
                mean = statistics.mean(answers[name][id_]["output_tokens"] for id_ in wanted)
                print(f"{name}: {mean:.2f} requests each for {len(wanted)} {kind}")
    rates = {name: len(seconds) * rows / sum(seconds) for name, seconds in taken.items()}
    seconds = sum(taken["best first"])
    planned = plan["hours"] * 3600
    about = {"rows": len(ids), "rounds": len(taken["best first"])}
    found = [
        about
        | {"name": "direct, 150 labels, rows/s: best first against exhaustive", "at_least": TIMES_AS_FAST}
        | {"ours": rates["best first"], "peer": rates["exhaustive"]}
        | {"ratio": rates["best first"] / rates["exhaustive"]},
        about
        | {"name": "direct, 150 labels: rows with the same label", "at_least": SAME_LABEL}
        | {"ours": _same(answers, ids, None)},
        about
        | {"name": "direct, 150 labels: plan's seconds over those taken", "within": PLAN_WITHIN}
        | {"ours": planned, "peer": seconds, "ratio": planned / seconds}
        | {"requests_planned": plan["requests_per_row"], "requests": _mean_requests(answers["best first"], ids)},
    ]
    right = {name: _right(spec, of, ids) for name, of in answers.items()}
    found += [
        about
        | {"name": f"direct, 150 labels, {figure}: a shortlist of {SHORTLIST} against all", "ours": ours, "peer": peer}
        | {"recall": _recall(spec, answers[LISTED], ids)}
        for figure, ours, peer in (
            ("rows/s", rates[LISTED], rates["best first"]),
            ("accuracy", right[LISTED], right["best first"]),
        )
    ]
    if free:
        found.append(
            about
            | {"name": "direct, 150 labels: rows with the same label, calibrated", "at_least": SAME_LABEL}
            | {"ours": _same(answers, ids, free)}
        )
    return found


def _watched(worker: Any) -> dict[str, list[int]]:
    """Of each request from now on, the tokens of its prompt, and how many of them the engine had to compute."""
    read: dict[str, list[int]] = {"in the prompt": [], "computed": []}
    submit = worker._engine.submit

    def watched(prompt: Any, request: Any, deliver: Any) -> None:
        def heard(reply: Any) -> None:
            read["in the prompt"].append(len(prompt))
            read["computed"].append(len(prompt) - (getattr(reply, "cached", None) or 0))
            deliver(reply)

        submit(prompt, request, heard)

    worker._engine.submit = watched
    return read


def _mean_requests(answers: dict[str, Any], ids: list[str]) -> float:
    return statistics.mean(answers[id_]["output_tokens"] for id_ in ids)


def _gold() -> dict[str, str]:
    """The intent of each test text, by its row id."""
    with open(DATA / "test.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return dict(zip(_ids([row["text"] for row in rows]), (row["intent"] for row in rows), strict=True))


def _right(spec: Any, answers: dict[str, Any], ids: list[str]) -> float:
    """The share of rows whose most probable label is the right one."""
    gold, labels = _gold(), spec.task.labels
    best = {id_: labels[int(np.argmax(answers[id_]["label_probabilities"]))] for id_ in ids}
    return statistics.mean(best[id_] == gold[id_] for id_ in ids)


def _recall(spec: Any, answers: dict[str, Any], ids: list[str]) -> float:
    """The share of rows whose label is on their shortlist."""
    gold, labels = _gold(), spec.task.labels
    return statistics.mean(gold[id_] in {labels[number] for number in answers[id_]["shortlist"]} for id_ in ids)


def _shortlists(asking: Any, texts: list[str]) -> list[list[int]]:
    import pyarrow as pa

    from runner.teacher import shortlist

    signals, owners = shortlist.signals_of(asking.task.answers, [])
    finder = shortlist.Shortlister(shortlist.MODEL, signals, owners, SHORTLIST)
    found = finder(pa.table({"id": _ids(texts), "text": pa.array(texts, pa.large_string())}))
    lists: list[list[int]] = found["shortlist"].to_pylist()
    return lists


def _same(answers: dict[str, dict[str, Any]], ids: list[str], free: list[str] | None) -> float:
    """The share of rows that get the same label in both ways, calibrated with the texts ``free``."""
    from runner.tasks.single_label.calibrate import STRENGTH, divide

    best = {}
    for name in ("best first", "exhaustive"):
        of = answers[name]
        shares = np.array([of[id_]["label_probabilities"] for id_ in ids])
        if free:
            shares = divide(shares, np.mean([of[id_]["label_probabilities"] for id_ in free], axis=0), STRENGTH)
        best[name] = shares.argmax(axis=1)
    return float((best["best first"] == best["exhaustive"]).mean())


def _ask(worker: Any, texts: list[str], kind: str, lists: dict[str, list[int]]) -> None:
    import pyarrow as pa

    from runner.teacher.worker import QUESTIONS

    lines = [
        {"id": id_, "kind": kind, "text": text, "shortlist": lists.get(text)}
        for id_, text in zip(_ids(texts), texts, strict=True)
    ]
    errors = [error for error in worker(pa.Table.from_pylist(lines, schema=QUESTIONS))["error"].to_pylist() if error]
    if errors:
        sys.exit(f"{len(errors)} rows failed: {errors[0]}")


def _ids(texts: list[str]) -> list[str]:
    from runner.data.reading import row_id

    return [row_id(text) for text in texts]


def _spec(folder: Path, model: str) -> Any:
    from runner.spec import load_spec

    with open(DATA / "train.csv", encoding="utf-8", newline="") as handle:
        labels = sorted({row["intent"] for row in csv.DictReader(handle)})
    file = folder / "spec.yaml"
    file.write_text(SPEC.format(labels=", ".join(labels), data=DATA, model=model), encoding="utf-8")
    return load_spec(file)


def _without_calibration(spec: Any) -> Any:
    return replace(spec, teacher=replace(spec.teacher, calibration="none"))


def _texts(number: int) -> list[str]:
    with open(DATA / "test.csv", encoding="utf-8", newline="") as handle:
        texts = sorted({row["text"] for row in csv.DictReader(handle)})
    return random.Random(0).sample(texts, number)


def _random_texts(number: int) -> list[str]:
    from runner.teacher.random_texts import content_free_texts

    with open(DATA / "train.csv", encoding="utf-8", newline="") as handle:
        return content_free_texts([row["text"] for row in csv.DictReader(handle)])[:number]


def _teacher(spec: Any) -> tuple[str, str | None]:
    from runner import models

    return str(models.ensure(spec.teacher.model, spec.teacher.revision, spec.base)), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds (%(default)s)")
    parser.add_argument("--calibrating", type=int, default=0, metavar="TEXTS", help="also ask about random texts")
    parser.add_argument("--model", default=MODEL, help="the teacher (%(default)s)")
    options = parser.parse_args()
    found = cases(options.rows, options.rounds, options.calibrating, options.model)
    if not found:
        sys.exit(f"{DATA} is not there: set TUTELAGE_DATA to the folder that holds clinc150/")
    for result in found:
        result["model"] = options.model
        print({name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()})
    keep(found, OUT / "tasks_direct.json")


if __name__ == "__main__":
    main()
