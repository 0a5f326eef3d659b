"""What the connection to Ray refuses before Ray is asked; Ray itself is started in the end-to-end tests."""

import socket
import time

import pytest

from runner import machine
from runner.cluster import Cluster, Resources, _chain
from runner.errors import DataError, UserError


def test_gpus_that_are_not_here_are_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Tesla T4"])
    Cluster().require(Resources(gpus=1, accelerator="T4"), "student")
    with pytest.raises(UserError, match=r"teacher.resources asks for 2 GPUs \(H100\), this machine has 1"):
        Cluster().require(Resources(gpus=2, accelerator="H100"), "teacher")


def test_workers_are_counted_together(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Tesla T4"] * 2)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    Cluster().require(Resources(gpus=1), "student", 2)
    Cluster().require(Resources(cpus=2), "student", 2)
    with pytest.raises(UserError, match="asks for 3 GPUs for 3 workers, this machine has 2"):
        Cluster().require(Resources(gpus=1), "student", 3)
    with pytest.raises(UserError, match="asks for 6 processor cores for 2 workers, this machine has 4"):
        Cluster().require(Resources(cpus=3), "student", 2)
    with pytest.raises(UserError, match="asks for 5 processor cores for 5 workers, this machine has 4"):
        Cluster().require(Resources(), "student", 5)


def test_a_cluster_may_have_gpus_that_this_machine_has_not(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", list)
    Cluster("10.0.0.1:6379").require(Resources(gpus=8, cpus=4000), "teacher", 4)


def test_nobody_at_the_address_is_said_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no Ray cluster could be reached at 127.0.0.1.*ray start --head"):
        Cluster(address).start()
    assert time.monotonic() - start < 60


def test_stopping_what_never_started_is_fine():
    Cluster().stop()


def test_the_users_error_is_found_under_layers():
    inner = DataError("row 3 is broken")
    try:
        try:
            raise inner
        except DataError as error:
            raise RuntimeError("layer") from error
    except RuntimeError as error:
        outer = ValueError("another layer")
        outer.cause = error  # Ray keeps the cause of a task's failure in an attribute
    assert inner in list(_chain(outer))
