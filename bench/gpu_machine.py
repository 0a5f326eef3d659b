"""What `bench/gpu.py` runs on: the GPUs by their names, which of the spec's kinds they are, and what is installed."""

from __future__ import annotations

import subprocess
from typing import Any


def here() -> dict[str, Any]:
    """The machine as a record has it; ``kind`` is the accelerator's name in a spec, None where it is unknown."""
    import torch

    from runner.system import machine

    found: dict[str, Any] = {
        **machine.hardware(),
        "versions": machine.versions(),
        "driver": machine.nvidia_driver() or None,
        "cuda": torch.version.cuda,
        "count": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "kind": None,
    }
    if found["count"]:
        one = torch.cuda.get_device_properties(0)
        found |= {"product": one.name, "gpu_gib": round(one.total_memory / 2**30, 1)}
        found |= {"capability": [one.major, one.minor], "kind": kind_of(one.name)}
        found["clocks"] = _smi("clocks.max.sm,clocks.max.mem,power.limit,pcie.link.gen.max")
    return found


def kind_of(product: str) -> str | None:
    """The name that a spec has for a GPU, from what its driver calls it."""
    from runner.system.accelerators import of_product

    found = of_product(product)
    return found and found.name


def used_gib() -> float | None:
    """Memory in use on all GPUs together, by whichever process, as `nvidia-smi` has it; None where it says nothing.

    Not torch's: asking would take some memory for a context of this process.
    """
    lines = _smi("memory.used", units=False)
    if not lines or not all(line.strip().isdigit() for line in lines):
        return None
    return round(sum(map(int, lines)) / 1024, 2)


def _smi(query: str, units: bool = True) -> list[str] | None:
    """A line for each GPU."""
    shown = "csv,noheader" if units else "csv,noheader,nounits"
    command = ["nvidia-smi", f"--query-gpu={query}", f"--format={shown}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()
