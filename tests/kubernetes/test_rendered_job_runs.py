"""A rendered job for real, without Kubernetes: the operator's commands and environment, and pods that die.

What is promised of a job is held here: the operator sees how it is doing, whoever has no token sees nothing, a run that
is stopped lets go of its folder, and one that lost its cluster goes on in the next without asking the teacher again.
"""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import stopping
from pods_as_processes import Cluster, Namespace, Pod, ask, wait_until
from processes import marked

from runner.rundir.folder import Folder
from runner.rundir.lock import locked

pytestmark = pytest.mark.timeout(1200)

LABELS = ("negative", "positive")
TRAIN, TEST = 60, 20
SPEC = """\
version: 1
name: small
task: {labels: [negative, positive]}
data:
  train: {path: train.csv, text: text}
  test: {path: test.csv, text: text, label: label}
teacher: {engine: noop, model: none, batch_size: 4, engine_options: {seconds: 0.1}}
student: {model: /mnt/tutelage/tiny, recipe: head, max_length: 16, resources: {cpus: 1}}
benchmark: {batch_sizes: [8], rows: 8}
evaluate: {resamples: 100}
"""
ENOUGH = 3
"""Stored batches after which the job may die: there is something to lose, and something left to do."""
JOB_SECONDS = 300.0
STOP_SECONDS = 3
"""That Ray waits between a job's signal and SIGKILL, where its environment does not say."""


@pytest.fixture
def namespace(tmp_path: Path) -> Namespace:
    """The job rendered, and its data on the volume."""
    there = Namespace(tmp_path, SPEC)
    for name, count in (("train", TRAIN), ("test", TEST)):
        with open(there.volume / "data" / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("text", "label"), *((f"{name} {n}", LABELS[n % 2]) for n in range(count))])
    return there


@pytest.fixture
def student(namespace: Namespace, tiny_model: Path) -> Path:
    """The student's weights, on the volume too."""
    (namespace.volume / "tiny").symlink_to(tiny_model)
    return namespace.volume / "tiny"


@pytest.fixture
def cluster(namespace: Namespace) -> Iterator[Cluster]:
    with Cluster(namespace) as cluster:
        yield cluster


def run_folder(namespace: Namespace) -> Path:
    return namespace.volume / "runs" / "small"


def answers(namespace: Namespace) -> dict[Path, bytes]:
    """What the teacher has answered so far: a file for each batch."""
    return {path: path.read_bytes() for path in run_folder(namespace).glob("answers/*/*.parquet")}


def let_go(namespace: Namespace) -> None:
    """The run folder is free, and its log ends with a whole line."""
    with locked(Folder(str(run_folder(namespace)))):
        pass
    stopping.events(namespace.volume)


def nothing_tells_the_token(cluster: Cluster, namespace: Namespace) -> None:
    said = cluster.everything_said()
    assert "Ray runtime started" in said and cluster.token not in said
    for path in run_folder(namespace).rglob("*"):
        assert not path.is_file() or cluster.token.encode() not in path.read_bytes(), path


def at_work(cluster: Cluster, namespace: Namespace) -> Pod:
    """The submitter of a job that is in the midst of labelling."""
    cluster.add_worker()
    submitter = cluster.submit()

    def enough() -> bool:
        assert submitter.process.poll() is None, submitter.said
        return len(answers(namespace)) >= ENOUGH

    wait_until(enough, lambda: submitter.said, JOB_SECONDS)
    return submitter


def drivers(cluster: Cluster) -> list[int]:
    """The processes of `tutelage run` on the head, those that wait first."""
    return sorted(pid for pid, command in marked(str(cluster.head.folder)) if "/bin/tutelage run" in command)


def succeeds(cluster: Cluster, namespace: Namespace, submitter: Pod) -> None:
    """The job ends well, and nothing was asked twice."""
    assert submitter.ended(JOB_SECONDS) == 0, submitter.said
    job = cluster.job_status()
    assert (job["status"], job["driver_exit_code"]) == ("SUCCEEDED", 0), submitter.said
    assert (run_folder(namespace) / "report.html").is_file()
    rows = [row for path in answers(namespace) for row in pq.read_table(path).column("id").to_pylist()]
    assert len(rows) == len(set(rows)) >= TRAIN + TEST  # and what its answers are calibrated by
    let_go(namespace)
    nothing_tells_the_token(cluster, namespace)


@pytest.mark.slow("ray")
def test_probes_need_no_token_and_all_else_does(cluster: Cluster) -> None:
    """Of the head, which is ready by the operator's own probe."""
    url = f"http://{cluster.dashboard}"
    assert ask(f"{url}/api/gcs_healthz") == (200, "success")
    for path in ("/api/jobs/", "/api/version", "/api/v0/nodes"):
        assert ask(url + path)[0] == 401
        assert ask(url + path, "f" * 64)[0] in (401, 403)
        assert ask(url + path, cluster.token)[0] == 200
    assert cluster.token not in cluster.everything_said()


@pytest.mark.kubernetes
def test_a_mistake_is_a_failed_job_and_a_submitter_that_succeeded(cluster: Cluster, namespace: Namespace) -> None:
    submitter = cluster.submit()
    # Its work is done: the operator asks Ray how the job ended, and starts no submitter again.
    assert submitter.ended(JOB_SECONDS) == 0
    job = cluster.job_status()
    assert (job["status"], job["driver_exit_code"]) == ("FAILED", 1), submitter.said
    assert f"tutelage: {namespace.volume / 'tiny'} is not there" in submitter.said
    let_go(namespace)


def stopped(cluster: Cluster) -> None:
    """As the operator stops the job of a RayJob that is deleted or suspended."""
    cluster.ask(f"/api/jobs/{cluster.submission}/stop", "POST")
    patience = int(cluster.head.environment.get("RAY_JOB_STOP_WAIT_TIME_S", STOP_SECONDS))
    wait_until(lambda: not drivers(cluster), lambda: "the job goes on", patience)
    wait_until(lambda: cluster.job_status()["status"] == "STOPPED", lambda: str(cluster.job_status()))


def out_of_memory(cluster: Cluster) -> None:
    """The system kills what has most of it: the process that does the work."""
    os.kill(drivers(cluster)[-1], signal.SIGKILL)
    wait_until(lambda: cluster.job_status()["status"] == "FAILED", lambda: str(cluster.job_status()))
    assert cluster.job_status()["driver_exit_code"] == 1


def head_lost(cluster: Cluster) -> None:
    """Its machine dies, without a word."""
    cluster.head.kill()


def head_deleted(cluster: Cluster) -> None:
    """Evicted, drained, or its spot machine taken back."""
    assert cluster.head.delete() < cluster.head.grace


@pytest.mark.kubernetes
@pytest.mark.usefixtures("student")
@pytest.mark.parametrize(
    ("death", "last_events", "submitter_status"),
    [
        (stopped, ["stage_failed", "run_failed"], 0),
        (out_of_memory, ["stage_failed", "run_failed"], 0),
        (head_lost, [], 1),
        (head_deleted, ["stage_failed", "run_failed"], 0),
    ],
)
def test_the_next_cluster_goes_on_where_the_job_died(
    namespace: Namespace, death: Callable[[Cluster], None], last_events: list[str], submitter_status: int
) -> None:
    with Cluster(namespace) as first:
        submitter = at_work(first, namespace)
        death(first)
        let_go(namespace)
        events = [one["event"] for one in stopping.events(namespace.volume)]
        assert events[len(events) - len(last_events) :] == last_events
        # What the submitter's Job makes of it, and with that the operator: see docs/kubernetes.md.
        assert submitter.ended(JOB_SECONDS) == submitter_status, submitter.said
        nothing_tells_the_token(first, namespace)
    kept = answers(namespace)
    assert kept
    with Cluster(namespace) as second:
        second.add_worker()
        succeeds(second, namespace, second.submit())
    assert kept.items() <= answers(namespace).items()


@pytest.mark.kubernetes
@pytest.mark.usefixtures("student")
def test_a_worker_that_is_lost_costs_no_answer(cluster: Cluster, namespace: Namespace) -> None:
    """A spot machine that is taken back: the autoscaler brings up another, here the test does."""
    submitter = at_work(cluster, namespace)
    kept = answers(namespace)
    cluster.pods["worker"].kill()
    cluster.add_worker("another")
    succeeds(cluster, namespace, submitter)
    assert kept.items() <= answers(namespace).items()
