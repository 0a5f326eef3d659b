"""`tutelage run --address auto` as a Ray job that is stopped, with the signals and waits that Ray Jobs has.

Ray sends its signal to the shell, to the process that watches and to the one that works, and kills what is left.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stopping

from runner.rundir.folder import Folder
from runner.rundir.lock import locked

pytestmark = pytest.mark.slow("ray")

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120.0
WAIT = {"RAY_JOB_STOP_WAIT_TIME_S": "20"}
"""By itself Ray waits for three seconds, which a busy machine may not have."""


@pytest.fixture(scope="module", params=["SIGINT", "SIGTERM"])
def head(request: pytest.FixtureRequest, nodes_class: Any) -> Iterator[Any]:
    cluster = nodes_class(WAIT | {"RAY_JOB_STOP_SIGNAL": request.param, "PYTHONPATH": str(REPOSITORY)})
    cluster.signal = request.param
    try:
        cluster.add("node", 2)
        yield cluster
    finally:
        cluster.close()


def until(ready: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.kubernetes
@pytest.mark.timeout(2 * PATIENCE)
def test_a_job_that_ray_stops_closes_its_events_and_lets_go_of_its_folder(
    head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.job_submission import JobSubmissionClient

    stopping.write_job(tmp_path)
    run = tmp_path / "runs" / "small"
    words = [sys.executable, "-m", "runner", "run", str(tmp_path / "spec.yaml"), "--address", "auto"]
    words += ["--runs-dir", str(tmp_path / "runs"), "--set", "teacher.resources.cpus=1"]
    client = JobSubmissionClient(head.address)
    job = client.submit_job(entrypoint=shlex.join(words))
    until(lambda: list(run.glob("answers/*/*.parquet")), f"no answer: {client.get_job_logs(job)[-2000:]}")
    begun = time.monotonic()
    client.stop_job(job)
    until(lambda: client.get_job_status(job) == "STOPPED", "not stopped")
    took = time.monotonic() - begun
    with locked(Folder(str(run))):
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [one["event"] for one in events[-2:]] == ["stage_failed", "run_failed"], client.get_job_logs(job)[-2000:]
    assert events[-1]["error"] == {"SIGINT": "KeyboardInterrupt", "SIGTERM": "Terminated"}[head.signal]
    assert stopping.LINE in client.get_job_logs(job)
    assert took < 20
