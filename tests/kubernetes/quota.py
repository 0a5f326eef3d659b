"""What pods take of a namespace's quota, as Kubernetes counts it, and what it refuses for saying too little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

MUST_BE_SAID = ("cpu", "memory")
"""What each container has to ask for where a quota has it; of all else none is none."""

UNITS = {"Ti": 2**40, "Gi": 2**30, "Mi": 2**20, "Ki": 2**10, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def quantity(text: str) -> Decimal:
    """Kubernetes' way to write amounts, as far as manifests of ours use it."""
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return Decimal(text.removesuffix(unit)) * factor
    return Decimal(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def quota_findings(hard: dict[str, str], pods: Iterable[tuple[str, dict[str, Any], int]]) -> list[str]:
    """All the pods at once, each by its name, its spec and how many there are, against ``spec.hard`` of a quota."""
    used: dict[str, Decimal] = {}
    found = []
    for name, spec, count in pods:
        found += [f"{name}/{line}" for line in _unsaid(hard, spec)]
        for key, amount in pod_usage(spec).items():
            used[key] = used.get(key, Decimal(0)) + amount * count
    for key, limit in hard.items():
        amount = used.get(_canonical(key), Decimal(0))
        if amount > quantity(limit):
            found.append(f"{key}: {amount:f} of {limit}")
    return found


def pod_usage(spec: dict[str, Any]) -> dict[str, Decimal]:
    """Of one pod: all its containers together, or the largest of its init containers where that is more."""
    used = {"pods": Decimal(1)}
    for part in ("requests", "limits"):
        running = [one["resources"].get(part, {}) for one in spec["containers"]]
        first = [one["resources"].get(part, {}) for one in spec.get("initContainers", [])]
        for name in {name for sizes in (*running, *first) for name in sizes}:
            together = sum((quantity(sizes.get(name, "0")) for sizes in running), Decimal(0))
            largest = max((quantity(sizes.get(name, "0")) for sizes in first), default=Decimal(0))
            used[f"{part}.{name}"] = max(together, largest)
    return used


def _canonical(key: str) -> str:
    return f"requests.{key}" if key in ("cpu", "memory", "ephemeral-storage") else key


def _unsaid(hard: dict[str, str], spec: dict[str, Any]) -> Iterator[str]:
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        for key in hard:
            part, _, name = _canonical(key).partition(".")
            if name in MUST_BE_SAID and name not in container.get("resources", {}).get(part, {}):
                yield f"{container['name']}: does not say {part}.{name}, which the quota wants of each container"
