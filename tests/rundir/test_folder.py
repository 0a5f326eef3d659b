"""The run folder: whole files or none, one run at a time, names that do not change."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.rundir.folder import Folder, fingerprint
from runner.rundir.lock import locked
from runner.system.errors import DataError, UserError

OLD, NEW = b"old " * 100, b"new " * 5000


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A folder on this machine, and one on a file system that is not."""
    made = Folder(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")
    yield made
    made.clear()


def test_a_damaged_table_is_said_with_what_to_do(folder: Folder) -> None:
    folder.write_table("t.parquet", pa.table({"id": ["a", "b"]}))
    folder.write("t.parquet", folder.read("t.parquet")[:-9])
    with pytest.raises(DataError, match=r"t\.parquet: damaged \(.*\); remove it if it lies in answers/, else"):
        folder.read_table("t.parquet")


def test_what_is_written_is_read(folder: Folder) -> None:
    table = pa.table({"id": ["a", "b"], "text": ["\u00e9\x00", "\U0001f600"]})
    assert folder.names() == []
    folder.write("deep/er/x.bin", NEW)
    folder.write("x.bin", OLD)
    folder.write("x.bin", NEW)
    folder.write_json("y.json", {"\u00e9": [1, None]})
    folder.child("deep").write_table("t.parquet", table)
    assert folder.read("x.bin") == folder.read("deep/er/x.bin") == NEW
    assert folder.read_json("y.json") == {"\u00e9": [1, None]}
    assert folder.read_table("deep/t.parquet").equals(table)
    assert folder.names(".json") == ["y.json"]
    assert folder.child("deep").names(".parquet") == ["t.parquet"]
    folder.child("deep").clear()
    assert folder.child("deep").names() == []
    assert folder.exists("x.bin")


def test_uploaded_folders_can_be_fetched(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "made" / "sub").mkdir(parents=True)
    (tmp_path / "made" / "a").write_bytes(b"1")
    (tmp_path / "made" / "sub" / "b").write_bytes(b"2")
    folder.upload(tmp_path / "made", "student")
    got = folder.fetch("student", tmp_path / "got")
    assert ((got / "a").read_bytes(), (got / "sub" / "b").read_bytes()) == (b"1", b"2")


def test_a_stage_counts_from_its_marker_on(folder: Folder) -> None:
    folder.write("votes.parquet", b"whatever")
    assert folder.done is None
    folder.finish({"seconds": 1.5})
    assert folder.done == {"seconds": 1.5}
    folder.clear()
    assert folder.done is None
    assert folder.names() == []


class Failing:
    """Lets the calls of some functions through until the ``at``-th, which fails with ``number``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, number: int) -> None:
        self.calls, self.at, self.number = 0, at, number
        for name in ("replace", "fsync"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))
        real = builtins.open
        monkeypatch.setattr(builtins, "open", lambda *a, **k: self.handle(real, *a, **k))

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(self.number, os.strerror(self.number))

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.count()
            return function(*arguments, **more)

        return call

    def handle(self, real: Callable[..., Any], file: Any, mode: str = "r", *more: Any, **kw: Any) -> Any:
        if "w" not in mode:
            return real(file, mode, *more, **kw)
        self.count()
        handle = real(file, mode, buffering=0)

        class Torn:
            """Writes half, then asks; as a full disk does."""

            def __enter__(_self) -> Any:
                return _self

            def __exit__(_self, *error: Any) -> None:
                handle.close()

            def write(_self, data: bytes) -> None:
                handle.write(data[: len(data) // 2])
                self.count()
                handle.write(data[len(data) // 2 :])

            def flush(_self) -> None:
                self.count()

            def fileno(_self) -> int:
                return int(handle.fileno())

        return Torn()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("before", [None, OLD], ids=["new file", "old file"])
def test_whichever_step_fails_there_is_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None, number: int
) -> None:
    folder, failures = Folder(str(tmp_path)), 0
    for at in range(1, 20):
        (tmp_path / "x").unlink(missing_ok=True)
        if before is not None:
            (tmp_path / "x").write_bytes(before)
        with monkeypatch.context() as patched:
            failing = Failing(patched, at, number)
            try:
                folder.write("x", NEW)
            except UserError as error:
                failures += 1
                wanted = "the disk is full" if number in (errno.ENOSPC, errno.EDQUOT) else "may not be written"
                assert wanted in str(error)
                assert str(tmp_path / "x") in str(error)
        if failing.calls < at:
            assert folder.read("x") == NEW
            break
        assert (folder.read("x") if folder.exists("x") else None) == before
        assert folder.names() == ([] if before is None else ["x"])
        assert [p.name for p in tmp_path.iterdir() if p.name != "x"] == [], "a temporary file was left"
    assert failures == 5, "opening, writing, flushing, syncing and renaming were all tried"


@pytest.mark.slow("subprocess")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        made = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("a small disk cannot be mounted here (it takes root and the right to mount)")
    try:
        folder = Folder(str(disk / "run"))
        folder.write("x", OLD)
        with pytest.raises(UserError, match="the disk is full; free some space and run again"):
            folder.write("x", b"n" * 2**20)
        with pytest.raises(UserError, match="the disk is full"):
            folder.write("y", b"n" * 2**20)
        assert folder.read("x") == OLD
        assert folder.names() == ["x"]
        assert [path.name for path in (disk / "run").iterdir()] == ["x"]
        folder.write("x", NEW)  # what fits is written again
        assert folder.read("x") == NEW
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_device_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this system")
    real = builtins.open
    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", lambda file, *a, **k: real("/dev/full", *a, **k))
        with pytest.raises(UserError, match="the disk is full"):
            Folder(str(tmp_path)).write("x", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("work", [lambda f: f.write("x", NEW), lambda f: locked(f).__enter__()])
def test_a_folder_that_cannot_be_made(tmp_path: Path, work: Callable[[Folder], None]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"may not be written .*choose another --runs-dir"):
        work(Folder(str(tmp_path / "file" / "run")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_a_fingerprint_does_not_know_the_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert fingerprint(value) == fingerprint(backwards)
    assert fingerprint(value) != fingerprint([value])
    assert fingerprint({**value, "one more": 1}) != fingerprint(value)


def test_a_fingerprint_stays_the_same_over_versions_and_knows_the_order_of_lists() -> None:
    assert fingerprint({"b": [1, "\u00e9"], "a": None}) == "a44633ba036df252"
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
    assert fingerprint(["half a pair \ud800"]) != fingerprint(["half a pair \ud801"])
