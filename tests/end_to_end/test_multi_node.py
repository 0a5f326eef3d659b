"""Jobs on a real Ray cluster of several nodes on this machine: each stage where it belongs, and what survives when a
worker, a node or the head is killed.

The teacher's node has cores enough, the others say that they have a T4. Nothing here runs on a GPU.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]  # four jobs, of minutes each

TEACHER, FIRST, SECOND = "teacher", "student_a", "student_b"
CORPUS = 2_000
CLASSES = {"Labeller": TEACHER, "RayTrainWorker": "student", "Predictor": "student"}
SPEC = """\
version: 1
name: small
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence.
data:
  train: {{path: data/train.csv}}
  test: {{path: data/test.csv, label: label}}
  corpus: {{path: data/corpus.csv}}
teacher:
  engine: noop
  model: none
  batch_size: 4
  engine_options: {{seconds: 0.03}}
  resources: {{cpus: 3}}
student:
  model: {model}
  epochs: 12
  precision: fp32
  resources: {{accelerator: T4, gpus: 1, cpus: 1}}
evaluate: {{resamples: 100}}
benchmark: {{rows: 8, batch_sizes: [1, 4], texts: 1000}}
apply: {{part_rows: 100}}
"""


@pytest.fixture(scope="module")
def spec(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec in a folder with its files, and a name that no shell should see."""
    folder = tmp_path_factory.mktemp("job") / "$(touch hacked); rm -rf x"
    (folder / "data").mkdir(parents=True)
    kinds = {"positive": "Profit rose", "negative": "Profit fell", "neutral": "It stayed"}
    texts = [f"{words} in the year {1900 + year}." for year in range(10) for words in kinds.values()]
    (folder / "data" / "train.csv").write_text("\n".join(["text", *texts]))
    labelled = [f"{words} by {number}.,{label}" for number in range(4) for label, words in kinds.items()]
    (folder / "data" / "test.csv").write_text("\n".join(["text,label", *labelled]))
    lines = [f"{list(kinds.values())[n % 3]} when {n} came." for n in range(CORPUS)]
    (folder / "data" / "corpus.csv").write_text("\n".join(["text", *lines]))
    (folder / "spec.yaml").write_text(SPEC.format(model=tiny_model))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def cluster(nodes_class: Any) -> Iterator[Any]:
    cluster = started(nodes_class)
    yield cluster
    cluster.close()


def started(nodes_class: Any) -> Any:
    cluster = nodes_class({"HF_HUB_OFFLINE": "1", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"})
    try:
        cluster.add(TEACHER, cpus=3)
        for name in (FIRST, SECOND):
            cluster.add(name, cpus=1, gpus=1, T4=1)
    except BaseException:
        cluster.close()
        raise
    return cluster


def submit(cluster: Any, spec: Path, runs: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner", "submit", str(spec), "--address", cluster.address]
    return subprocess.Popen(
        [*command, "--runs-dir", str(runs), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=cluster.environment | {"PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str], limit: float = 500) -> str:
    said, _ = process.communicate(timeout=limit)
    assert process.returncode == 0, said
    return said


class Watch:
    """Looks at a cluster's actors while a job runs: on which nodes each kind was seen."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.seen = cluster, defaultdict[str, set[str]](set)
        self.names: dict[str, str] = cluster.node_names()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.3):
            for kind in CLASSES:
                for actor in self.alive(kind):
                    self.seen[kind].add(self.names.get(actor["node_id"], "head"))

    def alive(self, kind: str) -> list[dict[str, Any]]:
        try:
            actors = self.cluster.state("actors")
        except OSError:
            return []
        return [one for one in actors if kind in one["class_name"] and one["state"] == "ALIVE" and one["pid"]]


def until(condition: Callable[[], Any], process: subprocess.Popen[str], what: str, limit: float = 400) -> Any:
    end = time.monotonic() + limit
    while not (found := condition()):
        assert process.poll() is None, f"the job ended before {what}: {process.communicate()[0]}"
        assert time.monotonic() < end, f"no {what} in {limit} s"
        time.sleep(0.05)
    return found


def results(runs: Path) -> dict[str, dict[Any, Any]]:
    """What a run ended with: the teacher's label of each row, the student's of each test row and of each text."""
    run = runs / "small"
    report = json.loads((run / "report.json").read_text())
    prints = {stage["name"]: stage["fingerprint"] for stage in report["stages"]}
    votes = pq.read_table(run / "vote" / prints["vote"] / "votes.parquet").to_pylist()
    predicted = pq.read_table(run / "evaluate" / prints["evaluate"] / "predictions.parquet").to_pylist()
    applied = [row for part in parts(runs) for row in pq.read_table(part).to_pylist()]
    assert len(applied) == CORPUS
    return {
        "votes": {row["id"]: row["label"] for row in votes},
        "predictions": {row["id"]: row["student_label"] for row in predicted},
        "applied": {row["row"]: (row["text"], row["label"]) for row in applied},
    }


def parts(runs: Path) -> list[Path]:
    return list((runs / "small" / "applied").glob("*/part-*.parquet"))


def answers(runs: Path) -> list[Path]:
    return list((runs / "small" / "answers").glob("*/*.parquet"))


@pytest.fixture(scope="module")
def undisturbed(cluster: Any, spec: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    runs = tmp_path_factory.mktemp("undisturbed")
    with Watch(cluster) as watch:
        said = finished(submit(cluster, spec, runs))
    for line in ("load: done in ", "label: ", "train: ", "report: "):
        assert line in said
    return runs, dict(watch.seen)


def test_each_stage_runs_on_the_nodes_meant_for_it(undisturbed: Any) -> None:
    _, seen = undisturbed
    assert seen["Labeller"] == {TEACHER}
    for kind in ("RayTrainWorker", "Predictor"):
        assert seen[kind] and seen[kind] <= {FIRST, SECOND}, seen


def test_no_shell_has_seen_what_the_user_wrote(cluster: Any, undisturbed: Any) -> None:
    jobs = cluster.ask("/api/jobs/")
    assert {job["entrypoint"] for job in jobs if job["type"] == "SUBMISSION"} == {"python -m runner.cluster.entry"}
    assert not list(cluster.folder.rglob("hacked"))


def test_killed_workers_and_a_killed_node_change_nothing(
    cluster: Any, spec: Path, undisturbed: Any, tmp_path: Path
) -> None:
    process = submit(cluster, spec, tmp_path)
    with Watch(cluster) as watch:
        until(lambda: answers(tmp_path), process, "an answer")
        [labeller] = watch.alive("Labeller")
        os.kill(labeller["pid"], signal.SIGKILL)
        stored = len(answers(tmp_path))
        [trainer] = until(lambda: watch.alive("RayTrainWorker"), process, "a training worker")
        cluster.kill(watch.names[trainer["node_id"]])
        until(lambda: parts(tmp_path), process, "a part of the corpus")
        [predictor] = watch.alive("Predictor")
        os.kill(predictor["pid"], signal.SIGKILL)
        kept = {part: part.stat().st_mtime_ns for part in parts(tmp_path)}
        finished(process)
    assert 0 < stored < len(answers(tmp_path))
    assert 0 < len(kept) < CORPUS / 100
    assert watch.seen["RayTrainWorker"] == {FIRST, SECOND}
    assert results(tmp_path) == results(undisturbed[0])
    asked = [id_ for file in answers(tmp_path) for id_ in pq.read_table(file).column("id").to_pylist()]
    assert len(asked) == len(set(asked)), "what is stored is not asked again"
    repeated = [part for part, written in kept.items() if part.stat().st_mtime_ns != written]
    assert len(repeated) <= 3, "only what was in hand is predicted again"


def test_when_the_head_is_killed_the_next_cluster_goes_on(
    nodes_class: Any, spec: Path, undisturbed: Any, tmp_path: Path
) -> None:
    lost = started(nodes_class)
    try:
        process = submit(lost, spec, tmp_path)
        until(lambda: len(answers(tmp_path)) >= 3, process, "three answers")
        lost.kill("head")
        said, _ = process.communicate(timeout=200)
    finally:
        lost.close()
    assert process.returncode == 1
    assert "Traceback" not in said
    kept = {file.name: file.read_bytes() for file in answers(tmp_path)}
    assert not list((tmp_path / "small" / "label").glob("*/done.json"))
    new = started(nodes_class)
    try:
        finished(submit(new, spec, tmp_path))
    finally:
        new.close()
    assert {file.name: file.read_bytes() for file in answers(tmp_path) if file.name in kept} == kept
    assert results(tmp_path) == results(undisturbed[0])
