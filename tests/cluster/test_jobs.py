"""Submitting to a real Ray head on this machine: what goes along, what is joined, what is refused and how."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import bundle
from runner.cluster.jobs import Jobs
from runner.commands.cli import main
from runner.planning.files import check_files
from runner.rundir.lock import locked
from runner.spec import load_spec
from runner.system.errors import SpecError, UserError

pytestmark = pytest.mark.slow("ray")

REPOSITORY = Path(__file__).parents[2]


def packed(job: Any, folder: Path, *overrides: str, runs: str = "/runs") -> tuple[str, dict[str, Any]]:
    folder.mkdir()
    fingerprint = bundle.pack(job.spec(*overrides), overrides, runs, [], folder)
    return fingerprint, json.loads((folder / "job.json").read_text())


def test_the_spec_and_its_relative_files_go_along(job: Any, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "train.csv"
    outside.parent.mkdir()
    (job.root / "train.csv").rename(outside)
    above = "data.train.path=../" + tmp_path.name + "/elsewhere/*.csv"
    _, told = packed(job, tmp_path / "pack", above)
    spec = tmp_path / "pack" / told["arguments"][1]
    assert told["arguments"][2:] == ["--runs-dir", "/runs", f"--set={above}"]
    assert spec.read_text() == job.path.read_text()
    sent = {path.name for path in (tmp_path / "pack" / "files").rglob("*") if path.is_file()}
    assert sent == {"spec.yaml", "train.csv", "test.csv"}
    # From where it lies now, the spec finds its files.
    check_files(load_spec(spec, [told["arguments"][4].removeprefix("--set=")]))
    assert (tmp_path / "pack" / "runner" / "spec" / "schema.json").exists()
    assert not list((tmp_path / "pack").rglob("__pycache__"))


def test_what_is_named_absolutely_stays_where_it_is(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_DATA", "s3://bucket/data")
    override = ["data.train.path=/only/there.csv", "data.test.path=${TUTELAGE_DATA}/test.csv"]
    check_files(job.spec(*override), elsewhere=True)
    _, told = packed(job, tmp_path / "pack", *override)
    assert [path.name for path in (tmp_path / "pack" / "files").rglob("*.*")] == ["spec.yaml"]
    assert told["environment"] == {"TUTELAGE_DATA": "s3://bucket/data"}


def test_equal_jobs_have_equal_names_and_others_do_not(job: Any, tmp_path: Path) -> None:
    first, _ = packed(job, tmp_path / "a")
    assert packed(job, tmp_path / "b")[0] == first
    assert packed(job, tmp_path / "c", "student.seed=5")[0] != first
    assert packed(job, tmp_path / "d", runs="/other")[0] != first
    (job.root / "train.csv").write_text((job.root / "train.csv").read_text().replace("half", "a third"))
    assert packed(job, tmp_path / "e")[0] != first


def test_what_cannot_go_along_is_said(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.root / "model").mkdir()
    with pytest.raises(SpecError, match=r"student.model: './model' is a folder here, .* absolute path"):
        packed(job, tmp_path / "a", "student.model=./model")
    pool = "task.examples={from: pool.csv, select: similar, model: model}"
    with pytest.raises(SpecError, match=r"task.examples.model: 'model' is a folder here"):
        packed(job, tmp_path / "pool", pool)
    monkeypatch.setattr(bundle, "MOST_BYTES", 10)
    with pytest.raises(UserError, match=r"have 0 MiB, and at most 0 go along with a job: put them where all nodes"):
        packed(job, tmp_path / "b")


def test_a_run_folder_that_only_one_node_sees_is_refused(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", str(job.path), "--runs-dir", "runs"]) == 1
    assert "--runs-dir 'runs': a job needs a place that all nodes of the cluster reach" in capsys.readouterr().err


class _Silent(BaseHTTPRequestHandler):
    """A web server that is no Ray cluster, or one of another version."""

    answer: bytes = b"hello"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


def served(answer: bytes) -> Iterator[str]:
    handler = type("Handler", (_Silent,), {"answer": answer})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"hello", "does not answer as a Ray cluster"),
        (b'{"version": "4"}', "does not answer as a Ray cluster"),
        (b'{"version": "4", "ray_version": "2.40.0"}', r"runs Ray 2.40.0, here is Ray 2.60.*: install the same"),
    ],
)
def test_what_is_no_cluster_or_another_ray_is_said(answer: bytes, said: str) -> None:
    for address in served(answer):
        with pytest.raises(UserError, match=said):
            Jobs(address)


def test_nobody_at_the_address_is_said_within_seconds() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster could be reached at http://{address}: .*dashboard"):
        Jobs(address)
    assert time.monotonic() - start < 30
    with pytest.raises(UserError, match="'ftp://x:y' is not the address of a cluster"):
        Jobs("ftp://x:y")


TOKEN, WRONG = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def head(nodes_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head with token authentication and no node: what is submitted waits for a node that never comes."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    cluster = nodes_class({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}, token=TOKEN)
    yield cluster
    cluster.close()


def tutelage(head: Any, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = head.environment | {"PYTHONPATH": str(REPOSITORY)} | environment
    command = [sys.executable, "-m", "runner", *words, "--address", head.address]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)


@pytest.mark.parametrize(
    "environment",
    [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": WRONG}],
    ids=["none", "wrong"],
)
def test_without_the_token_nothing_is_told(head: Any, environment: dict[str, str]) -> None:
    done = tutelage(head, "status", **environment)
    assert done.returncode == 1
    assert "rejected our credentials: " in done.stderr and "RAY_AUTH_TOKEN_PATH" in done.stderr
    assert "Traceback" not in done.stderr and WRONG not in done.stderr


def test_a_job_is_joined_listed_and_stopped_and_the_next_has_the_next_number(head: Any, job: Any) -> None:
    submit = ["submit", str(job.path), "--runs-dir", str(job.runs_dir), "--detach"]
    first = tutelage(head, *submit)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    id_ = first.stderr.split()[1]
    assert id_.startswith("small-") and id_.endswith("-1")
    again = tutelage(head, *submit)
    assert f"job {id_} is at work already" in again.stderr
    [listed] = json.loads(tutelage(head, "status", "--json").stdout)
    assert (listed["id"], listed["run"]) == (id_, str(job.runs_dir / "small"))
    assert TOKEN not in json.dumps(listed)
    wanted(head, job)
    stopped = tutelage(head, "stop", "small")
    assert stopped.stdout == f"{id_}: STOPPED\n"
    assert tutelage(head, "stop", id_).stdout == f"{id_}: has ended already (STOPPED)\n"
    with locked(job.run):  # a job that is stopped lets go of its run folder
        pass
    assert tutelage(head, *submit).stderr.split()[1] == id_.removesuffix("1") + "2"
    unknown = tutelage(head, "logs", "nothing")
    assert unknown.returncode == 1 and f"newest jobs: {id_.removesuffix('1')}2, {id_}" in unknown.stderr
    tutelage(head, "stop", "small")


def wanted(head: Any, job: Any) -> None:
    """Wait until the job waits for a node, with its data loaded."""
    end = time.monotonic() + 100
    while not list((job.runs_dir / "small" / "load").glob("*/done.json")):
        assert time.monotonic() < end, tutelage(head, "logs", "small").stdout
        time.sleep(0.2)


def test_what_no_node_has_is_said_with_what_there_is(head: Any, job: Any) -> None:
    """Before the teacher is asked anything, and after the time that was given."""
    more = ["--wait=2", "--set", "student.resources={gpus: 1, accelerator: H100}"]
    done = tutelage(head, "submit", str(job.path), "--runs-dir", str(job.runs_dir), *more)
    assert done.returncode == 1
    assert (
        "student.resources asks for 1 GPU (H100) and 1 processor core on one node, and the cluster had no room for"
        in (done.stdout)
    )
    assert "in 2 seconds (--wait). It has: 1 x (0 cores)" in done.stdout
    assert not list((job.runs_dir / "small" / "label").glob("*/done.json"))


@pytest.mark.parametrize(("answer", "left"), [(b"\n", "RUNNING"), (b"y\n", "STOPPED"), (None, "RUNNING")])
def test_ctrl_c_asks_whether_the_job_shall_end(head: Any, job: Any, answer: bytes | None, left: str) -> None:
    """On a terminal; without one it goes on, and how to follow or stop it is said."""
    keyboard, terminal = pty.openpty()
    command = [sys.executable, "-m", "runner", "submit", str(job.path), "--address", head.address]
    process = subprocess.Popen(
        [*command, "--runs-dir", str(job.runs_dir)],
        stdin=terminal if answer else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=head.environment | {"PYTHONPATH": str(REPOSITORY)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wanted(head, job)
        if answer:
            os.write(keyboard, answer)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(keyboard)
        os.close(terminal)
    assert process.returncode == 130
    assert ("Stop job small-" in out) is (answer is not None)
    assert ("is being stopped" if left == "STOPPED" else "detached, job small-") in err
    end = time.monotonic() + 60
    while (status := json.loads(tutelage(head, "status", "small", "--json").stdout)[0]["status"]) != left:
        assert time.monotonic() < end, status
        time.sleep(0.5)
    tutelage(head, "stop", "small")
