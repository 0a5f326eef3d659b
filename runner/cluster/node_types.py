"""What the nodes of a cluster hold, those that are there and those that an autoscaler could start. Knows no Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NodeType:
    """Nodes that an autoscaler could start: what each has, and the most of them; None: as many as are wanted."""

    name: str
    resources: Mapping[str, float]
    most: int | None


def count_placements(nodes: Iterable[Mapping[str, float]], bundle: Mapping[str, float]) -> int:
    """How many of ``bundle`` the nodes hold if nobody else uses them; one never spreads over two."""
    return sum(min(int(node.get(name, 0) / need) for name, need in bundle.items()) for node in nodes)


def could_hold(types: Iterable[NodeType], bundle: Mapping[str, float], workers: int) -> bool:
    """Whether ``workers`` bundles would have their places with as many nodes of each type as there may be."""
    places = (
        count_placements([kind.resources], bundle) * (workers if kind.most is None else kind.most) for kind in types
    )
    return sum(places) >= workers


def inventory(nodes: Iterable[Mapping[str, float]]) -> str:
    """What the nodes have, for people: equal ones together."""
    kinds = Counter(described(node) for node in nodes)
    return "; ".join(f"{count} x ({what})" for what, count in kinds.most_common()) or "no node"


def inventory_of_types(types: Iterable[NodeType]) -> str:
    """What could be started, for people."""
    told = (f"{'any number of' if kind.most is None else kind.most} x ({described(kind.resources)})" for kind in types)
    return "; ".join(told) or "no node"


def described(node: Mapping[str, float]) -> str:
    """A node's cores and GPUs."""
    kinds = [name.partition(":")[2] for name in node if name.startswith("accelerator_type:")]
    gpus = f", {int(node['GPU'])} GPUs" if node.get("GPU") else ""
    return f"{int(node.get('CPU', 0))} cores{gpus}{f' {sorted(kinds)[0]}' if kinds else ''}"
