"""What a container may use is what its control group says, not what the machine has."""

import pytest

from runner import machine


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_containers_share_of_the_processor_counts(tmp_path, monkeypatch, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.usable_cores() == cores


def test_without_a_control_group_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.usable_cores() == 8


def test_a_containers_memory_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.memory_bytes() == 2**20
