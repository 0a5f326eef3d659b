"""A search under Ray Tune, in a Ray of its own: what is tried, what is kept, and what a trial's error becomes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources
from runner.rundir.folder import Folder
from runner.system.errors import UserError

pytestmark = pytest.mark.slow("ray")

SPACE = {"rate": (0.01, 1.0), "size": [8, 16, 32]}
FIRST = {"rate": 0.1, "size": 16}


def make_trial() -> Any:
    """The function that Ray's processes are handed: they cannot import this file."""

    def trial(config: dict[str, Any], settings: dict[str, Any], report: Any) -> None:
        """Smaller rates are better, and said to be so after each of three epochs; each start leaves a file."""
        (Path(config["here"]) / f"{settings['rate']:.6f}-{os.getpid()}").touch()
        if settings["rate"] == config.get("breaks_at"):
            raise UserError("model.config-broken", "the student cannot be loaded")
        for epoch in (1, 2, 3):
            report({"agreement": 1 - settings["rate"], "epoch": epoch})

    return trial


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.stop()


def search(cluster: Cluster, here: Path, on_trials: Any = lambda done: None, **config: Any) -> list[dict[str, Any]]:
    storage = Folder(str(here / "storage"))
    settings = config | {"here": str(here)}
    return cluster.search(make_trial(), settings, SPACE, FIRST, 4, Resources(cpus=1), storage, 0, on_trials)


def test_the_spec_is_tried_first_and_the_others_lie_in_the_space(cluster: Cluster, tmp_path: Path) -> None:
    over: list[int] = []
    found = search(cluster, tmp_path, over.append)
    assert [one["settings"] for one in found].index(FIRST) == 0 and len(found) == 4
    for one in found:
        low, high = SPACE["rate"]
        assert low <= one["settings"]["rate"] <= high and one["settings"]["size"] in SPACE["size"]
        assert one["agreement"] == pytest.approx(1 - one["settings"]["rate"])
    assert over[-1] == 4 and over == sorted(over)
    started = len(list(tmp_path.glob("0.*")))
    again = search(cluster, tmp_path)
    assert [one["settings"] for one in again] == [one["settings"] for one in found]
    assert len(list(tmp_path.glob("0.*"))) == started  # trials that are over are not run again


def test_23_a_stopped_search_goes_on_from_json_and_reads_no_pickle(cluster: Cluster, tmp_path: Path) -> None:
    whole = search(cluster, tmp_path)
    storage = Folder(str(tmp_path / "storage"))
    kept = storage.read_json("trials.json")
    assert len(kept) == 4
    storage.write_json("trials.json", [*kept[:2], {"settings": {"rate": 0.5}, "agreement": 2.0}, "no trial"])
    for file in (tmp_path / "storage").rglob("*"):  # whatever Ray Tune left: read back, it would be code
        if file.is_file() and file.name != "trials.json":
            file.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "was-read").encode() + b"'\ntR.")
    for left in tmp_path.glob("0.*"):
        left.unlink()
    again = search(cluster, tmp_path)
    assert [one["settings"] for one in again] == [one["settings"] for one in whole]
    assert len(list(tmp_path.glob("0.*"))) == 2, "two were over"
    assert not (tmp_path / "was-read").exists()


def test_an_error_of_a_trial_is_the_users_error(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the student cannot be loaded$"):
        search(cluster, tmp_path, breaks_at=0.1)
