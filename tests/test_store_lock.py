"""One run at a time: the second is refused, a killed one holds nothing, here and on remote file systems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import store
from runner.errors import BusyError
from runner.store import Folder, locked


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A folder on this machine, and one on a file system that is not."""
    made = Folder(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")
    yield made
    made.clear()


@pytest.fixture
def remote() -> Iterator[Folder]:
    made = Folder(f"memory://{uuid.uuid4().hex}/run")
    yield made
    made.clear()


HOLD = """
import sys, time
from runner.store import Folder, locked
with locked(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path / run``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_run_is_refused_and_told_who_is_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    folder = Folder(str(tmp_path / "run"))
    message = f"another run is at work in this folder .process {holder.pid} on .*wait for it, stop it, or"
    for _ in range(2):  # being refused must not take the first one's name away
        with pytest.raises(BusyError, match=message), locked(folder):
            pytest.fail("two runs in one folder")
    with locked(Folder(str(tmp_path / "other"))):
        pass


def test_a_killed_run_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(Folder(str(tmp_path / "run"))):
        assert f"process {os.getpid()}" in (tmp_path / "run" / ".lock").read_text()


@pytest.mark.parametrize("fails", [False, True])
def test_the_lock_is_let_go(folder: Folder, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STALE_LOCK_SECONDS", 1.0)
    try:
        with locked(folder):
            with pytest.raises(BusyError), locked(folder):
                pytest.fail("two runs in one folder")
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    with locked(folder):
        assert folder.names() == [], "the lock is no file of the run"


def test_a_remote_lock_is_kept_fresh(remote: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STALE_LOCK_SECONDS", 1.0)
    with locked(remote):
        first = remote.read_json(".lock")
        with pytest.raises(BusyError, match=f"process {os.getpid()} on "), locked(remote):
            pytest.fail("the lock was kept fresh")
        assert remote.read_json(".lock")["beat"] > first["beat"]
    assert not remote.exists(".lock")


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_the_remote_lock_of_a_killed_run_is_taken_after_a_while_whatever_its_clock_said(
    remote: Folder, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(store, "STALE_LOCK_SECONDS", 0.5)
    remote.write_json(".lock", {"id": "x", "owner": "process 1 on there", "beat": time.time() + hours * 3600})
    said: list[str] = []
    start = time.monotonic()
    with locked(remote, said.append):
        assert time.monotonic() - start >= 0.5
        assert remote.read_json(".lock")["owner"].startswith(f"process {os.getpid()} on ")
    assert len(said) == 1 and "is locked by process 1 on there: waiting up to" in said[0]


def test_of_two_that_start_at_once_the_last_writer_has_the_remote_lock(
    remote: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"id": "x", "owner": "process 2 on there", "beat": time.time()}  # by a store without exclusive create
    monkeypatch.setattr(store.time, "sleep", lambda _: remote.write_json(".lock", other))
    with pytest.raises(BusyError, match="process 2 on there"), locked(remote):
        pytest.fail("two runs in one folder")
    assert remote.read_json(".lock") == other
