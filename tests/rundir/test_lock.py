"""One run at a time: the second is refused, a killed one holds nothing, here, on shares and on remote file systems."""

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

from runner.rundir import lock, mounts
from runner.rundir.folder import Folder
from runner.rundir.lock import locked
from runner.system.errors import BusyError


@pytest.fixture(params=["local", "share", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A folder on this machine, one on what the mount table calls NFS, and one on a file system that is not here."""
    made = Folder(f"memory://{uuid.uuid4().hex}/run" if request.param == "memory" else str(tmp_path / "run"))
    if request.param == "share":
        monkeypatch.setattr(mounts, "mount_table", lambda: [("/", "ext4"), (str(tmp_path), "nfs4")])
    yield made
    made.clear()


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """What the mount table calls NFS."""
    monkeypatch.setattr(mounts, "mount_table", lambda: [("/", "ext4"), (str(tmp_path), "nfs4")])
    return Folder(str(tmp_path / "run"))


@pytest.fixture
def remote() -> Iterator[Folder]:
    made = Folder(f"memory://{uuid.uuid4().hex}/run")
    yield made
    made.clear()


HOLD = """
import sys, time
from runner.rundir import lock, mounts
from runner.rundir.folder import Folder
if sys.argv[3:]:  # the stand-in of a share has the mount table of one, and beats faster
    mounts.mount_table = lambda: [("/", "ext4"), (sys.argv[3], "nfs4")]
    lock.STALE_LOCK_SECONDS = 1.0
with lock.locked(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def held_by_another(folder: Path, seconds: float, share: str = "") -> subprocess.Popen[str]:
    """A process that holds the lock of ``folder`` for so long; it has it already."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds), *([share] if share else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path / run``."""
    process = held_by_another(tmp_path / "run", 60)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow("subprocess")
def test_the_second_run_is_refused_and_told_who_is_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    folder = Folder(str(tmp_path / "run"))
    message = f"another run is using this folder .process {holder.pid} on .*wait for it, stop it, or"
    for _ in range(2):  # being refused must not take the first one's name away
        with pytest.raises(BusyError, match=message), locked(folder):
            pytest.fail("two runs in one folder")
    with locked(Folder(str(tmp_path / "other"))):
        pass


@pytest.mark.slow("subprocess")
def test_a_killed_run_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(Folder(str(tmp_path / "run"))):
        assert f"process {os.getpid()}" in (tmp_path / "run" / ".lock").read_text()


@pytest.mark.parametrize("fails", [False, True])
def test_the_lock_is_let_go(folder: Folder, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 1.0)
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
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 1.0)
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
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 0.5)
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
    monkeypatch.setattr(lock.time, "sleep", lambda _: remote.write_json(".lock", other))
    with pytest.raises(BusyError, match="process 2 on there"), locked(remote):
        pytest.fail("two runs in one folder")
    assert remote.read_json(".lock") == other


# A retry meets the lock of its predecessor ---------------------------------------------------------------------------


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("kind", ["local", "share"])
def test_a_patient_run_waits_for_another_to_end_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 2.0)
    if kind == "share":
        monkeypatch.setattr(mounts, "mount_table", lambda: [("/", "ext4"), (str(tmp_path), "nfs4")])
    first = held_by_another(tmp_path / "run", 2.0, str(tmp_path) if kind == "share" else "")
    said: list[str] = []
    with locked(Folder(str(tmp_path / "run")), said.append, patient=True):
        assert first.wait(5) == 0
    assert f"another run (process {first.pid} on " in said[-1]
    assert said[-1].endswith(" s for it to end") and "waiting up to" in said[-1]


@pytest.mark.slow("subprocess")
def test_patience_has_an_end(tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(BusyError, match="wait for it"), locked(Folder(str(tmp_path / "run")), patient=True):
        pytest.fail("two runs in one folder")
    assert lock.PATIENCE * 0.3 <= time.monotonic() - start < 10


def test_patience_with_a_lock_that_is_kept_fresh_has_an_end(remote: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 0.4)
    with locked(remote):
        start = time.monotonic()
        with pytest.raises(BusyError, match="wait for it"), locked(remote, patient=True):
            pytest.fail("two runs in one folder")
    assert time.monotonic() - start >= lock.PATIENCE * 0.4


# Shares ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow("subprocess")
def test_a_dead_machines_lock_on_a_share_is_taken_over(share: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert share.local is not None
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 1.0)
    dead = held_by_another(share.local, 60, str(share.local.parent))
    dead.kill()
    dead.wait()
    assert share.exists(".lock"), "nobody has let go of it"
    with locked(share):
        assert share.read_json(".lock")["owner"].startswith(f"process {os.getpid()} on ")
    assert not share.exists(".lock")


def test_the_system_is_not_asked_for_the_lock_of_a_share(share: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead machine has locked on NFSv3 stays locked."""
    import fcntl

    assert share.local is not None
    share.local.mkdir()
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 0.3)
    with open(share.local / ".lock", "a+") as dead:
        fcntl.flock(dead, fcntl.LOCK_EX)
        with locked(share):
            assert share.read_json(".lock")["owner"].startswith(f"process {os.getpid()} on ")


def test_of_two_that_start_at_once_on_a_share_one_has_it(share: Folder) -> None:
    with locked(share):
        before = share.read(".lock")
        lock._RenewedLock(share)._renew(new=True)
        assert share.read(".lock") == before, "a new lock does not write over one that is there"


@pytest.mark.parametrize(
    ("place", "kind", "shared"),
    [
        ("/mnt/tutelage/runs/x", "nfs4", True),
        ("/mnt/tutelage/models", "ext4", False),
        ("/mnt/tutelage2/runs", "ext4", False),
        ("/mnt/bucket/runs", "fuse.gcsfuse", True),
        ("/mnt/windows/runs", "cifs", True),
        ("/var/lib/x", "fuse.fuse-overlayfs", False),
        ("/hidden/runs", "xfs", False),
        ("/new/kind", "whatever", False),
        ("/root/runs", "ext4", False),
    ],
)
def test_the_deepest_mount_says_what_a_folder_is_on(place: str, kind: str, shared: bool) -> None:
    table = [
        ("/", "ext4"),
        ("/mnt/tutelage/models", "ext4"),
        ("/mnt/tutelage", "nfs4"),
        ("/mnt/bucket", "fuse.gcsfuse"),
        ("/mnt/windows", "cifs"),
        ("/var", "fuse.fuse-overlayfs"),
        ("/hidden", "nfs"),
        ("/hidden", "xfs"),
        ("/new", "whatever"),
    ]
    found = mounts.kind_of(Path(place), table)
    assert (found, mounts.is_shared_kind(found)) == (kind, shared)


def test_the_systems_own_mount_table_is_read(tmp_path: Path) -> None:
    assert mounts.kind_of(tmp_path, mounts.mount_table())
    assert mounts.kind_of(tmp_path, []) == "" and not mounts.is_shared_kind("")


@pytest.mark.parametrize(
    ("lines", "shared", "local"),
    [
        ("server:/x /mnt/my\\040runs nfs4 rw,vers=4.2 0 0\n", "/mnt/my runs/small", "/mnt/my"),
        ("server:/x /mnt/a\u2028b\x0cc nfs4 rw 0 0\nnone net:[7] nsfs rw\nodd\n", "/mnt/a\u2028b\x0cc/small", "/mnt"),
    ],
    ids=["a blank in the name", "odd names, and lines that are no paths"],
)
def test_an_odd_mount_table_is_read(
    lines: str, shared: str, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mounts"
    table.write_text("/dev/vda / ext4 rw 0 0\n" + lines)
    monkeypatch.setattr(mounts, "TABLE", table)
    assert mounts.is_shared(Path(shared))
    assert not mounts.is_shared(Path(local))


def test_what_is_mounted_on_the_way_to_the_folder_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an automounter does, whose own kind says nothing of what it mounts."""
    table, real = tmp_path / "mounts", os.path.realpath
    table.write_text("/dev/vda / ext4 rw 0 0\nauto /home autofs rw 0 0\n")

    def walked(folder: Path) -> str:
        with table.open("a") as file:
            file.write("server:/x /home/me nfs4 rw 0 0\n")
        return real(folder)

    monkeypatch.setattr(mounts, "TABLE", table)
    monkeypatch.setattr(os.path, "realpath", walked)
    assert mounts.is_shared(Path("/home/me/runs"))
