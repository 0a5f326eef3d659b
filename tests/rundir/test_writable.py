"""A folder that may not be written to is said before anything is fetched: who asks, whose it is, what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.commands.cli import main
from runner.models import ModelError, places
from runner.rundir.writable import refusal, refusal_of

REPOSITORY = Path(__file__).parents[2]
ME = f"user {os.geteuid()} of the groups "


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to, as the root of a new share is to all but its owner."""
    folder = tmp_path / "share"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def without_privileges(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command for which the modes of folders count, which they do not for root."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    if drop and not shutil.which("setpriv"):
        pytest.skip("root needs util-linux's setpriv here")
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment
    command = [*drop, sys.executable, "-m", "runner", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "some-org/some-model"])
def test_models_are_not_fetched_into_a_folder_that_cannot_keep_them(closed: Path, name: str) -> None:
    places = {"TUTELAGE_CACHE": str(closed / "cache"), "HF_HOME": str(closed / "hub"), "HF_HUB_OFFLINE": "1"}
    done = without_privileges("models", "pull", name, **places)
    assert done.returncode == 1, done.stderr
    variable = "HF_HOME" if "/" in name else "TUTELAGE_CACHE"
    for said in (
        f"{closed} cannot be written to by {ME}",
        "(Permission denied)",
        f"it belongs to user {os.geteuid()} and group {os.getegid()}, with mode 0555",
        f"It is this user's own: `chmod u+rwx {closed}` lets it in",
        f"Or set {variable} to a folder of yours",
    ):
        assert said in done.stderr
    assert not list(closed.iterdir())


@pytest.mark.slow("subprocess")
def test_a_cache_that_may_not_even_be_looked_into_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o000)
    places = {"TUTELAGE_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = without_privileges("models", "pull", "all-minilm-l6-v2", **places)
    assert done.returncode == 1, done.stderr
    assert f"{tmp_path / 'cache'} cannot be written to by {ME}" in done.stderr


@pytest.mark.slow("subprocess")
def test_doctor_says_whether_runs_can_be_kept(closed: Path, tmp_path: Path) -> None:
    done = without_privileges("doctor", "--json", "--runs-dir", str(closed / "runs"))
    assert done.returncode == 1, done.stderr
    [found] = [one for one in json.loads(done.stdout) if one["name"] == "runs folder"]
    assert f"{closed} cannot be written to by {ME}" in found["advice"]
    assert main(["doctor", "--runs-dir", str(tmp_path / "mine" / "runs")]) == 0
    assert not (tmp_path / "mine").exists() and not list(closed.iterdir()), "nothing is left behind"


def test_a_bucket_is_written_to_for_a_moment() -> None:
    import fsspec

    url = f"memory://{uuid.uuid4().hex}/runs"
    assert refusal_of(url) == ""
    assert not [name for name in fsspec.filesystem("memory").find("/") if ".tutelage-" in name]
    assert "the storage cannot be used" in refusal_of("s3://no-such-bucket/runs") or "s3fs" in refusal_of("s3://x/y")


def test_a_file_is_no_folder_and_no_owner_would_help(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for place in ("runs", "runs/small"):
        assert refusal(tmp_path / place) == f"{tmp_path / 'runs'} is a file, and no folder"


def test_a_storage_that_nobody_knows_hides_no_other_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--runs-dir", "bogus://runs"]) == 1
    said = capsys.readouterr().out
    assert "Protocol not known: bogus" in said and said.startswith("ok   python")


def test_what_is_here_already_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "refusal", lambda folder: "closed")
    places.check_writable([(str(tmp_path), None)])  # a folder is not fetched
    with pytest.raises(ModelError, match=r"some-org/x would be kept in .*: closed. Or set HF_HOME"):
        places.check_writable([("some-org/x", "abc")])
    assert refusal(tmp_path / "not" / "there") == ""


@pytest.mark.slow("subprocess")
def test_the_owner_is_asked_where_it_is_another(closed: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives a folder away")
    os.chown(closed, 12345, 12345)
    for mode, more in ((0o555, f" and `chmod u+rwx {closed}`"), (0o755, "")):
        closed.chmod(mode)
        done = without_privileges("doctor", "--runs-dir", str(closed))
        assert f"Its owner lets this user in with `chown 0 {closed}`{more}, or with `chgrp" in done.stdout, done.stderr


def test_who_owns_it_is_not_the_matter_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    assert refusal(tmp_path).endswith("(No space left on device)")
