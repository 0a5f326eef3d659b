"""The nodes that have an accelerator, on each cloud: which label tells them, and which taint keeps others away.

The labels are those that the clouds put on their nodes themselves; ``plain`` goes by NVIDIA's own labels, which its
GPU operator (or its feature discovery alone) puts on any node. Nothing here was tried on the clouds themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_ANY_NUMBER = 64


@dataclass(frozen=True)
class Cloud:
    """``nodes``: for each accelerator as Ray names it, the label's values, each with the most GPUs of such a node."""

    name: str
    label: str
    nodes: Mapping[str, Mapping[str, int]]
    tolerations: tuple[Mapping[str, str], ...] = (_GPU_TAINT,)


def _each(most: int, *values: str) -> dict[str, int]:
    return dict.fromkeys(values, most)


def _sizes(family: str, four: tuple[str, ...], eight: tuple[str, ...]) -> dict[str, int]:
    """An AWS family with one GPU in its middle sizes; the smallest has too few cores for a pod of ours."""
    one = ("2xlarge", "4xlarge", "8xlarge", "16xlarge")
    return {f"{family}.{size}": gpus for gpus, sizes in ((1, one), (4, four), (8, eight)) for size in sizes}


_AZURE_A100_80G = {
    "Standard_NC24ads_A100_v4": 1,
    "Standard_NC48ads_A100_v4": 2,
    "Standard_NC96ads_A100_v4": 4,
    "Standard_ND96amsr_A100_v4": 8,
}
_NVIDIA_A100_80G = _each(_ANY_NUMBER, "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe")

CLOUDS: dict[str, Cloud] = {
    "gke": Cloud(
        "gke",
        "cloud.google.com/gke-accelerator",
        {
            "T4": _each(4, "nvidia-tesla-t4"),
            "L4": _each(8, "nvidia-l4"),
            "A100": _each(16, "nvidia-tesla-a100"),
            "A100-80G": _each(8, "nvidia-a100-80gb"),
            "H100": _each(8, "nvidia-h100-80gb"),
            "H200": _each(8, "nvidia-h200-141gb"),
        },
    ),
    "eks": Cloud(
        "eks",
        _INSTANCE_TYPE,
        {
            "T4": _sizes("g4dn", ("12xlarge",), ("metal",)),
            "L4": _sizes("g6", ("12xlarge", "24xlarge"), ("48xlarge",)),
            "A10G": _sizes("g5", ("12xlarge", "24xlarge"), ("48xlarge",)),
            "A100": _each(8, "p4d.24xlarge", "p4de.24xlarge"),
            "A100-80G": _each(8, "p4de.24xlarge"),
            "H100": {"p5.4xlarge": 1, "p5.48xlarge": 8},
            "H200": _each(8, "p5e.48xlarge", "p5en.48xlarge"),
        },
    ),
    "aks": Cloud(
        "aks",
        _INSTANCE_TYPE,
        {
            "T4": {"Standard_NC8as_T4_v3": 1, "Standard_NC16as_T4_v3": 1, "Standard_NC64as_T4_v3": 4},
            "A100": {"Standard_ND96asr_v4": 8, **_AZURE_A100_80G},
            "A100-80G": _AZURE_A100_80G,
            "H100": {
                "Standard_NC40ads_H100_v5": 1,
                "Standard_NC80adis_H100_v5": 2,
                "Standard_ND96isr_H100_v5": 8,
            },
            "H200": _each(8, "Standard_ND96isr_H200_v5"),
        },
        # The taint that Azure's own instructions put on GPU nodes.
        (_GPU_TAINT, {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}),
    ),
    "plain": Cloud(
        "plain",
        "nvidia.com/gpu.product",
        {
            "T4": _each(_ANY_NUMBER, "Tesla-T4"),
            "L4": _each(_ANY_NUMBER, "NVIDIA-L4"),
            "A10G": _each(_ANY_NUMBER, "NVIDIA-A10G"),
            "A100": _each(_ANY_NUMBER, "NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB") | _NVIDIA_A100_80G,
            "A100-80G": _NVIDIA_A100_80G,
            "H100": _each(_ANY_NUMBER, "NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
            "H200": _each(_ANY_NUMBER, "NVIDIA-H200", "NVIDIA-H200-NVL"),
        },
    ),
}


def lack(cloud: Cloud, accelerator: str | None, gpus: int) -> tuple[str, str] | None:
    """The field of a part's resources that no node of the cloud can give, and why; None where there are such nodes."""
    if not gpus or accelerator is None:
        return None
    nodes = cloud.nodes.get(accelerator)
    if nodes is None:
        known = ", ".join(cloud.nodes)
        return "accelerator", (
            f"no node of {cloud.name} with {accelerator!r} is known here, but with {known}: "
            "ask for one of these, or render for another --cloud"
        )
    if (most := max(nodes.values())) < gpus:
        return "gpus", f"no node of {cloud.name} has {gpus} {accelerator}, but {most} at most, and one node has to do"
    return None


def placement(cloud: Cloud, accelerator: str | None, gpus: int) -> dict[str, Any]:
    """The part of a pod that puts it on a node with ``gpus`` of ``accelerator``; None: on any node that has GPUs."""
    if not gpus:
        return {}
    tolerations = {"tolerations": [dict(one) for one in cloud.tolerations]}
    if accelerator is None:
        return tolerations
    values = [value for value, most in cloud.nodes[accelerator].items() if most >= gpus]
    if len(values) == 1:
        return {"nodeSelector": {cloud.label: values[0]}, **tolerations}
    term = {"matchExpressions": [{"key": cloud.label, "operator": "In", "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}, **tolerations}
