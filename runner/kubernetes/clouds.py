"""The nodes that have an accelerator, on each cloud: which label tells them, and which taint keeps others away.

The labels are those that the clouds put on their nodes themselves; ``plain`` goes by NVIDIA's own labels, which its
GPU operator (or its feature discovery alone) puts on any node. Which node has what stands in the table of accelerators
(runner/system/accelerators.yaml). Nothing here was tried on the clouds themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.system.accelerators import accelerators, known

_GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"


@dataclass(frozen=True)
class Cloud:
    """``nodes``: for each accelerator of the table, the label's values, each with the most GPUs of such a node."""

    name: str
    label: str
    nodes: Mapping[str, Mapping[str, int]]
    tolerations: tuple[Mapping[str, str], ...] = (_GPU_TAINT,)


def _nodes(cloud: str) -> dict[str, Mapping[str, int]]:
    """The nodes of a cloud, by the kind of GPU that they have."""
    return {
        name: accelerator.clouds[cloud] for name, accelerator in accelerators().items() if cloud in accelerator.clouds
    }


CLOUDS: dict[str, Cloud] = {
    "gke": Cloud("gke", "cloud.google.com/gke-accelerator", _nodes("gke")),
    "eks": Cloud("eks", _INSTANCE_TYPE, _nodes("eks")),
    "aks": Cloud(
        "aks",
        _INSTANCE_TYPE,
        _nodes("aks"),
        # The taint that Azure's own instructions put on GPU nodes.
        (_GPU_TAINT, {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}),
    ),
    "plain": Cloud("plain", "nvidia.com/gpu.product", _nodes("plain")),
}


def lack(cloud: Cloud, accelerator: str | None, gpus: int) -> tuple[str, str, str] | None:
    """The field of a part's resources that no node of the cloud can give, with code and message; None where there are
    such nodes."""
    if not gpus or accelerator is None:
        return None
    nodes = _of(cloud, accelerator)
    if nodes is None:
        names = ", ".join(cloud.nodes)
        return (
            "accelerator",
            "kubernetes.accelerator-not-offered",
            (
                f"no node of {cloud.name} with {accelerator!r} is known here, but with {names}: "
                "ask for one of these, or render for another --cloud"
            ),
        )
    if (most := max(nodes.values())) < gpus:
        return (
            "gpus",
            "kubernetes.too-many-gpus",
            f"no node of {cloud.name} has {gpus} {accelerator} ({most} at most), and all must be on one",
        )
    return None


def _of(cloud: Cloud, accelerator: str) -> Mapping[str, int] | None:
    """The nodes with an accelerator, by any name that it has."""
    gpu = known(accelerator)
    return cloud.nodes.get(gpu.name) if gpu else None


def placement(cloud: Cloud, accelerator: str | None, gpus: int) -> dict[str, Any]:
    """The part of a pod that puts it on a node with ``gpus`` of ``accelerator``; None: on any node that has GPUs."""
    if not gpus:
        return {}
    tolerations = {"tolerations": [dict(toleration) for toleration in cloud.tolerations]}
    if accelerator is None:
        return tolerations
    values = [value for value, most in (_of(cloud, accelerator) or {}).items() if most >= gpus]
    if len(values) == 1:
        return {"nodeSelector": {cloud.label: values[0]}, **tolerations}
    term = {"matchExpressions": [{"key": cloud.label, "operator": "In", "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}, **tolerations}
