"""How large a job is with all its pods up: what a quota and the nodes must have room for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def size_line(job: dict[str, Any]) -> str:
    """Cores, memory and GPUs of a RayJob of ours, for people."""
    cores = gib = gpus = 0.0
    for limits, times in _containers(job["spec"]):
        cores += times * _cores(limits["cpu"])
        gib += times * float(limits["memory"].removesuffix("Gi"))
        gpus += times * int(limits.get("nvidia.com/gpu", 0))
    with_gpus = f", {gpus:.0f} GPU{'s' * (gpus > 1)}" if gpus else ""
    return f"{cores:g} cores, {gib:g} GiB{with_gpus}: room in the quota and on the nodes when all its pods are up"


def _containers(spec: dict[str, Any]) -> Iterator[tuple[dict[str, str], int]]:
    """The limits of each container, and how many of it there are at most."""
    cluster = spec["rayClusterSpec"]
    pods = [(cluster["headGroupSpec"]["template"], 1), (spec["submitterPodTemplate"], 1)]
    pods += [(group["template"], group["maxReplicas"]) for group in cluster["workerGroupSpecs"]]
    for pod, times in pods:
        for container in pod["spec"]["containers"]:
            yield container["resources"]["limits"], times
    if "autoscalerOptions" in cluster:
        yield cluster["autoscalerOptions"]["resources"]["limits"], 1


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
