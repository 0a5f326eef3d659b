"""Who reaches whom: NetworkPolicies as a plug-in that enforces them all would read them.

A connection passes where the sender's egress and the receiver's ingress both allow it. A pod that no policy of a kind
selects is open in that direction. What comes from the node of a pod (the kubelet's probes) always passes. An `ipBlock`
speaks of addresses outside the cluster, so none ever stands for a pod here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

NAME = "kubernetes.io/metadata.name"
"""The label that every namespace has by itself."""


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod by namespace and labels, an address outside, or the node that a pod runs on."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    is_node: bool = False


def passes(policies: Iterable[dict[str, Any]], sender: End, receiver: End, port: int, protocol: str = "TCP") -> bool:
    if sender.is_node:
        return True
    rules = list(policies)
    return _allows(rules, "Egress", sender, receiver, port, protocol) and _allows(
        rules, "Ingress", receiver, sender, port, protocol
    )


def _allows(policies: list[dict[str, Any]], direction: str, pod: End, other: End, port: int, protocol: str) -> bool:
    """What the policies of one direction say about the pod. An address outside has none."""
    mine = [one for one in policies if _selects(one, pod) and direction in _types(one["spec"])]
    if pod.address or not mine:
        return True
    key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        _matches_port(rule.get("ports"), port, protocol)
        and (not rule.get(peers) or any(_matches(peer, one["metadata"]["namespace"], other) for peer in rule[peers]))
        for one in mine
        for rule in one["spec"].get(key) or []
    )


def _types(spec: dict[str, Any]) -> list[str]:
    types: list[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return types


def _selects(policy: dict[str, Any], pod: End) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and selected(policy["spec"]["podSelector"], pod.labels)


def _matches(peer: dict[str, Any], namespace: str, other: End) -> bool:
    if block := peer.get("ipBlock"):
        return bool(other.address) and _inside(other.address, block)
    if other.address:
        return False
    if "namespaceSelector" in peer:
        right = selected(peer["namespaceSelector"], {NAME: other.namespace})
    else:
        right = other.namespace == namespace
    return right and selected(peer.get("podSelector", {}), other.labels)


def _inside(address: str, block: dict[str, Any]) -> bool:
    there = ipaddress.ip_address(address)
    excepted = any(there in ipaddress.ip_network(one) for one in block.get("except", []))
    return there in ipaddress.ip_network(block["cidr"]) and not excepted


def _matches_port(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        one.get("protocol", "TCP") == protocol
        and ("port" not in one or one["port"] <= port <= one.get("endPort", one["port"]))
        for one in ports
    )


def selected(selector: dict[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one takes all."""
    wanted = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return wanted and all(_holds(one, labels) for one in selector.get("matchExpressions", []))


def _holds(expression: dict[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"no operator of a selector: {expression['operator']}")
