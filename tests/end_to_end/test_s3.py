"""Run folders in a bucket, on a real S3 server of this machine: nothing here knows that it is not Amazon's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest
from processes import free_ports

from runner.rundir.folder import Folder
from runner.rundir.lock import locked
from runner.system.errors import BusyError, UserError

pytestmark = pytest.mark.slow("ray")

REPOSITORY = Path(__file__).parents[2]

DISTURBED = '''
"""`tutelage`, with a training worker that kills itself at its second checkpoint, once."""
import os, signal, sys

from runner.commands.cli import main
from runner.student import training_runs as train
from runner.rundir.folder import Folder

order, undisturbed = Folder(sys.argv[1]), train.train_loop


def disturbed(config, report, **worker):
    keep, kept = worker["save_checkpoint"], []

    def counted(write):
        keep(write)
        kept.append(write)
        if len(kept) == 2 and not order.exists("killed"):
            order.write("killed", b"")
            os.kill(os.getpid(), signal.SIGKILL)

    return undisturbed(config, report, **worker | {"save_checkpoint": counted})


train.train_loop, train.CHECKPOINT_SECONDS = disturbed, 0.0
sys.exit(main(sys.argv[2:]))
'''


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server in a process of its own: what Flask leaves in a process stops a vLLM that starts there later."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert server.poll() is None and time.monotonic() < end, "moto's server does not come up"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket; the environment says where it is and who asks."""
    names = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in {**names, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    fs.mkdir("bucket")
    yield "s3://bucket"
    fs.rm("bucket", recursive=True)


def run(*words: str, script: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    start = [str(script), "s3://bucket/order"] if script else ["-m", "runner"]
    return subprocess.run(
        [sys.executable, *start, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", **environment},
        timeout=500,
    )


def test_a_run_in_a_bucket_survives_a_killed_worker_and_is_not_done_twice(
    bucket: str, job: Any, tiny_model: Path, tmp_path: Path
) -> None:
    job.csv("train.csv", [(f"It grew in {n}.", "", *["positive" if n % 2 else "neutral"] * 3) for n in range(40)])
    (tmp_path / "disturbed.py").write_text(DISTURBED)
    overrides = [f"student.model={tiny_model}", "student.epochs=4", "student.precision=fp32"]
    overrides += ["evaluate.resamples=100", "benchmark={rows: 4, batch_sizes: [1]}"]
    words = ["run", str(job.path), "--runs-dir", f"{bucket}/runs", *(f"--set={one}" for one in overrides)]
    first = run(*words, script=tmp_path / "disturbed.py", RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "train: going on from a checkpoint, at " in first.stdout
    folder = Folder(f"{bucket}/runs/small")
    assert {"run.json", "report.json", "report.html"} <= set(folder.names())
    assert "checkpoints" not in folder.folders()
    assert not folder.exists(".lock")
    second = run(*words, "--json")
    assert second.returncode == 0, second.stderr
    assert all(stage["cached"] for stage in json.loads(second.stdout.splitlines()[-1])["stages"])
    assert run("report", folder.url).returncode == 0
    assert "train (kept)" in run("plan", *words[1:]).stdout
    out = run("predict", folder.url, str(job.root / "test.csv"), "-o", f"{bucket}/out", "--quiet")
    assert out.returncode == 0, out.stderr
    assert len(Folder(f"{bucket}/out").names(".parquet")) == 1


@pytest.mark.parametrize(
    ("runs", "environment", "said"),
    [
        ("s3://nobody-has-made-it/runs", {}, "The specified bucket does not exist"),
        ("s3://bucket/runs", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials"),
        ("s3://bucket/runs", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Could not connect to the endpoint URL"),
    ],
)
def test_a_place_that_cannot_be_used_is_said_before_anything_is_done(
    bucket: str, job: Any, runs: str, environment: dict[str, str], said: str
) -> None:
    done = run("run", str(job.path), "--runs-dir", runs, AWS_EC2_METADATA_DISABLED="true", **environment)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Folder(bucket).folders() and not fsspec.filesystem("s3").exists("nobody-has-made-it")


def look_at_rights(endpoint: str, after: bytes) -> None:
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset-auth", after, plain)).close()


def test_a_bucket_without_rights_is_said(bucket: str, endpoint: str, job: Any) -> None:
    look_at_rights(endpoint, b"0")  # from the first request on
    try:
        done = run("run", str(job.path), "--runs-dir", f"{bucket}/runs")
    finally:
        look_at_rights(endpoint, b"inf")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "credentials with the right to read and list, and for results to write and delete" in done.stderr
    assert "Traceback" not in done.stderr and "secret" not in done.stderr


def test_one_run_at_a_time_in_a_bucket_too(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.rundir import lock

    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 2.0)
    folder = Folder(f"{bucket}/runs/small")
    with locked(folder):
        held = folder.read_json(".lock")
        with pytest.raises(BusyError, match="another run is using this folder"), locked(folder):
            pytest.fail("two runs in one folder")
        assert folder.read_json(".lock")["id"] == held["id"]
        with pytest.raises(FileExistsError):  # what the lock stands on: of two that create it, one fails
            fsspec.filesystem("s3").pipe_file("bucket/runs/small/.lock", b"", mode="create")
    assert not folder.exists(".lock")


def test_what_another_process_wrote_is_seen_at_once(bucket: str) -> None:
    folder = Folder(f"{bucket}/a")
    folder.write("one", b"1")
    assert folder.names() == ["one"]
    code = f"from runner.rundir.folder import Folder; Folder({folder.url!r}).write('two', b'2')"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert folder.names() == ["one", "two"]
    assert folder.exists("two") and folder.read("two") == b"2"


def test_an_error_of_the_storage_is_the_users(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(UserError, match="s3://bucket/b: the storage cannot be used: Could not connect"):
        Folder("s3://bucket/b").exists("x")
    fsspec.filesystem("s3").clear_instance_cache()
