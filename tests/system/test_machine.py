"""What a container may use is what its control group says, not what the machine has; freed memory is kept."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from runner.cluster import worker
from runner.student.device import device
from runner.system import doctor, machine
from runner.system.errors import ModelError
from runner.teacher.engines.vllm_arguments import EngineSettings, engine_options


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


WORKERS = """
import ray, torch
from runner.student import device as devices
from runner.system import errors
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False)
def device(works):
    torch.cuda.is_available = lambda: works
    try:
        return devices.device().type
    except errors.ModelError as error:
        return str(error)
for works in (True, False):
    found = [ray.get(ray.remote(num_cpus=1, num_gpus=gpus)(device).remote(works)) for gpus in (0, 1)]
    print(*found, device(works), sep="\\n")
"""


@pytest.fixture(scope="module")
def devices() -> list[str]:
    """Of a worker without a GPU, of one with it and of the driver; where torch can use GPUs, and where it cannot."""
    done = subprocess.run([sys.executable, "-c", WORKERS], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow("subprocess")
def test_a_worker_that_asked_for_no_gpu_leaves_those_of_its_node_alone(devices):
    """Ray does not hide them, so that a processor would be timed on a GPU."""
    assert devices[:3] == ["cpu", "cuda", "cuda"]


@pytest.mark.slow("subprocess")
def test_a_worker_that_was_given_a_gpu_does_not_work_on_the_processor_instead(devices):
    """That would be paid for, and timed, as a GPU."""
    without, given, driver = devices[3:]
    assert (without, driver) == ("cpu", "cpu")
    assert given.startswith("Ray gave this worker a GPU, and torch cannot use it: torch ")
    assert given.endswith("is built without CUDA: install the CUDA build (the extra tutelage[gpu])")


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        ("570.86.10", "driver 570.86.10 is too old for it: bring a newer one, or set student.resources.gpus: 0"),
        ("580.65.06", "driver 580.65.06 may tell more by `nvidia-smi`, or set student.resources.gpus: 0"),
        ("", "no NVIDIA driver is loaded on that node, or set student.resources.gpus: 0"),
    ],
)
def test_why_torch_cannot_use_a_gpu_is_said(monkeypatch, driver, said):
    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12080).\nPlease update")

    monkeypatch.setattr(worker, "given_gpu", lambda: True)
    monkeypatch.setattr(machine, "nvidia_driver", lambda: driver)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(ModelError) as caught:
        device()
    reason = "The NVIDIA driver on your system is too old (found version 12080)."
    assert str(caught.value).endswith(f"cannot use it: {reason} (torch is built for CUDA 13.0); {said}")


@pytest.mark.parametrize(
    ("cuda", "driver", "said"),
    [
        ("13.0", "570.86.10", "torch is built for CUDA 13.0, which needs driver 580 or newer: upgrade it"),
        ("13.0", "580.65.06", ""),
        ("12.8", "535.104.05", ""),
        (None, "580.65.06", "torch is a CPU build: install the extra tutelage[gpu]"),
    ],
)
def test_doctor_compares_the_driver_with_torch(monkeypatch, cuda, driver, said):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Tesla T4"])
    monkeypatch.setattr(machine, "nvidia_driver", lambda: driver)
    monkeypatch.setattr(doctor, "_cuda_of_torch", lambda: cuda)
    assert doctor._gpus() == doctor.Finding("GPUs", f"Tesla T4, driver {driver}", said)


def test_the_cuda_of_torch_is_found_without_loading_it():
    assert doctor._cuda_of_torch() == torch.version.cuda


def test_quantised_weights_are_computed_in_half_precision_where_vllm_knows_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2"})
    for method, dtype in (("awq", "bfloat16"), ("compressed-tensors", "float32"), (None, "float32")):
        config = {"quantization_config": {"quant_method": method}} if method else {}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert engine_options(EngineSettings(1024, 0, 0), tmp_path)["dtype"] == dtype


@pytest.mark.slow("subprocess")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_memory_that_was_freed_is_not_fetched_anew() -> None:
    faults = """
import resource, sys
import numpy as np
from runner.student.device import device
from runner.system import doctor, machine
from runner.system.errors import ModelError
if "kept" in sys.argv: machine.keep_freed_memory()
def use(): [np.ones(2**20, dtype=np.uint64) for _ in range(4)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", faults, way], capture_output=True, text=True, check=True).stdout)
        for way in ("given back", "kept")
    )
    assert kept < given_back / 10
