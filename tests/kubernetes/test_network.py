"""Who reaches whom in each overlay, with nothing left out: what is not named here does not get through."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import manifest_checks as checks
import pytest
import yaml
from network import End, passes, selected
from operator_pods import Built, built_pods
from test_shipped_manifests import OVERLAYS, by_kind, with_component

NAMESPACE = "tutelage"
OPERATOR = End("operator", "kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"})
PROMETHEUS = End("Prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
DNS = End("DNS", "kube-system", {"k8s-app": "kube-dns"})
STRANGERS = (
    End("a stranger", "default", {"app.kubernetes.io/name": "kuberay-operator", "ray.io/node-type": "head"}),
    End("beside the operator", "kuberay-system", {"app.kubernetes.io/name": "else"}),
    End("beside Prometheus", "monitoring", {"app.kubernetes.io/name": "grafana"}),
)
NODE = End("the kubelet", is_node=True)

# The ranges of each overlay as it ships. On EKS one range holds both: the endpoints of S3 and STS are in the VPC too.
API = {"local-cpu": "172.16.0.0/12", "gke-h100-t4": "172.16.0.0/28", "eks": "10.0.0.0/16"}
STORAGE: dict[str, dict[str, tuple[int, ...]]] = {
    "local-cpu": {},
    "gke-h100-t4": {"199.36.153.8/30": (443,), "169.254.169.252/32": (80, 988), "169.254.169.254/32": (80, 988)},
    "eks": {"10.0.0.0/16": (443,)},
}
DNS_ON_THE_NODE = "169.254.20.10"
"""GKE's cache of names."""
ADDRESSES = (
    *("8.8.8.8", "199.36.153.9", "169.254.169.254", DNS_ON_THE_NODE, "192.168.7.7"),
    *("10.99.1.1", "10.0.33.3", "172.16.0.2", "172.31.1.1", "100.64.0.1"),
)

PORTS = (22, 53, 80, 443, 988, 6379, 6443, 8000, 8080, 8265, 10001, 10250, 52365)
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")


def end_of(built: Built) -> End:
    return End(built.name, built.pod["metadata"]["namespace"], built.labels)


class Map:
    """An overlay's pods and rules, and what is expected of each way between them and the rest."""

    def __init__(self, overlay: str, objects: list[dict[str, Any]], watched: bool = False) -> None:
        self.overlay, self.watched = overlay, watched
        self.policies = by_kind(objects, "NetworkPolicy")
        self.inside = [end_of(built) for one in objects for built in built_pods(one)]
        self.outside = [OPERATOR, PROMETHEUS, DNS, *STRANGERS, *(End(one, address=one) for one in ADDRESSES)]

    def open_ways(self) -> set[tuple[str, str, int, str]]:
        everybody = [*self.inside, *self.outside]
        return {
            (sender.name, receiver.name, port, protocol)
            for sender in everybody
            for receiver in everybody
            for port in PORTS
            for protocol in ("TCP", "UDP")
            if sender in self.inside or receiver in self.inside
            if passes(self.policies, sender, receiver, port, protocol)
        }

    def expected(self) -> set[tuple[str, str, int, str]]:
        """By the table of docs/kubernetes.md, "What is closed"."""
        names = [one.name for one in self.inside]
        jobs = [one.name for one in self.inside if one.labels.get("app.kubernetes.io/name") == "tutelage"]
        nodes = [one.name for one in self.inside if one.labels.get("ray.io/node-type") in ("head", "worker")]
        ways = {(one, other, port, way) for one in names for other in names for port in PORTS for way in ("TCP", "UDP")}
        ways |= {(one, DNS.name, 53, way) for one in names for way in ("TCP", "UDP")}
        ways |= {(OPERATOR.name, "head", 8265, "TCP")}
        if self.overlay == "gke-h100-t4":
            ways |= {(one, DNS_ON_THE_NODE, 53, way) for one in names for way in ("TCP", "UDP")}
        for address in ADDRESSES:
            if within(address, API[self.overlay]):
                ways |= {("head", address, port, "TCP") for port in (443, 6443)}
            if not any(within(address, one) for one in PRIVATE):
                ways |= {("tutelage-weights", address, 443, "TCP")}
            for block, ports in STORAGE[self.overlay].items():
                if within(address, block):
                    ways |= {(one, address, port, "TCP") for one in jobs for port in ports}
        if self.watched:
            ways |= {(PROMETHEUS.name, one, 8080, "TCP") for one in nodes}
        return ways


def within(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
@pytest.mark.parametrize("watched", [False, True], ids=["plain", "watched"])
class TestOverlay:
    @pytest.fixture
    def network(self, overlay: Path, watched: bool, tmp_path: Path) -> Map:
        folder = with_component(overlay, "monitoring", tmp_path) if watched else overlay
        objects = checks.kustomize(folder, yaml.CSafeLoader)
        return Map(overlay.name, objects, watched)

    @pytest.mark.slow("subprocess")
    def test_what_is_open_is_what_the_docs_name(self, network: Map) -> None:
        found, expected = network.open_ways(), network.expected()
        assert sorted(found - expected) == [] and sorted(expected - found) == []
        assert {("operator", "head", 8265, "TCP"), ("teacher", "head", 6379, "TCP")} <= found
        assert ("submitter", "head", 8265, "TCP") in found and ("submitter", "head", 6443, "UDP") in found

    @pytest.mark.slow("subprocess")
    def test_the_kubelet_gets_to_every_probe(self, network: Map) -> None:
        assert all(passes(network.policies, NODE, one, 52365) for one in network.inside)

    @pytest.mark.slow("subprocess")
    def test_who_reaches_the_internet_has_no_role_of_the_cloud_and_sees_no_data(
        self, overlay: Path, network: Map
    ) -> None:
        objects = checks.kustomize(overlay, yaml.CSafeLoader)
        pods = {built.name: built.pod["spec"] for one in objects for built in built_pods(one)}
        internet = End("internet", address="8.8.8.8")
        free = [one.name for one in network.inside if passes(network.policies, one, internet, 443)]
        accounts = by_kind(objects, "ServiceAccount")
        roles = {one["metadata"]["name"]: one["metadata"].get("annotations", {}) for one in accounts}
        assert free == ["tutelage-weights"]
        for name in free:
            assert roles[pods[name]["serviceAccountName"]] == {}
            mounted = [mount for one in pods[name]["containers"] for mount in one["volumeMounts"]]
            assert [mount["subPath"] for mount in mounted if mount["name"] == "storage"] == ["models"]
        mine = {pods[name]["serviceAccountName"] for name in free}
        assert not mine & {pods[name]["serviceAccountName"] for name in pods.keys() - set(free)}


def test_the_operators_chart_labels_its_pods_so() -> None:
    chart = checks.kuberay_source() / "helm-chart" / "kuberay-operator"
    assert yaml.safe_load((chart / "values.yaml").read_text())["nameOverride"] == "kuberay-operator"
    template = (chart / "templates" / "deployment.yaml").read_text()
    assert 'app.kubernetes.io/name: {{ include "kuberay-operator.name" . }}' in template.split("template:")[1]


def policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "a"}, "spec": {"podSelector": {"matchLabels": {"app": "x"}}, **spec}}


HERE, BESIDE, AWAY = End("x", "a", {"app": "x"}), End("y", "a", {"app": "y"}), End("z", "b", {"app": "y"})
WEB = End("web", address="203.0.113.9")
ALL_BUT_WEB = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}


@pytest.mark.parametrize(
    ("rules", "sender", "receiver", "port", "expected"),
    [
        ([], AWAY, HERE, 1, True),
        ([policy(policyTypes=["Ingress"])], BESIDE, HERE, 1, False),
        ([policy(policyTypes=["Ingress"])], HERE, BESIDE, 1, True),
        ([policy()], WEB, HERE, 1, False),
        ([policy(ingress=[{}])], WEB, HERE, 1, True),
        ([policy(ingress=[{"from": [{"podSelector": {}}]}])], BESIDE, HERE, 1, True),
        ([policy(ingress=[{"from": [{"podSelector": {}}]}])], AWAY, HERE, 1, False),
        ([policy(ingress=[{"from": [{"namespaceSelector": {}}]}])], AWAY, HERE, 1, True),
        ([policy(ingress=[{"from": [{"namespaceSelector": {}}]}])], WEB, HERE, 1, False),
        ([policy(ingress=[{"ports": [{"port": 5, "endPort": 7}]}])], AWAY, HERE, 6, True),
        ([policy(ingress=[{"ports": [{"port": 5, "protocol": "UDP"}]}])], AWAY, HERE, 5, False),
        ([policy(), policy(ingress=[{"ports": [{"port": 5}]}])], AWAY, HERE, 5, True),
        ([policy(egress=[{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}])], HERE, WEB, 1, True),
        (
            [policy(egress=[{"to": [ALL_BUT_WEB]}])],
            HERE,
            WEB,
            1,
            False,
        ),
        ([policy(egress=[{"to": [ALL_BUT_WEB]}])], HERE, AWAY, 1, False),
    ],
)
def test_policies_are_read_as_kubernetes_reads_them(
    rules: list[dict[str, Any]], sender: End, receiver: End, port: int, expected: bool
) -> None:
    assert passes(rules, sender, receiver, port) == expected


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("In", "a", True),
        ("In", None, False),
        ("NotIn", None, True),
        ("NotIn", "a", False),
        ("Exists", "b", True),
        ("Exists", None, False),
        ("DoesNotExist", None, True),
        ("DoesNotExist", "a", False),
    ],
)
def test_each_operator_of_a_selector(operator: str, value: str | None, expected: bool) -> None:
    selector = {"matchExpressions": [{"key": "k", "operator": operator, "values": ["a"]}]}
    assert selected(selector, {} if value is None else {"k": value}) == expected
