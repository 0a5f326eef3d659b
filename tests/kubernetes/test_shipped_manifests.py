"""The manifests that ship, and those of every spec that ships: in step with `render`, and without a finding."""

from __future__ import annotations

import os
import resource
import shlex
from pathlib import Path
from typing import Any

import manifest_checks as checks
import pytest
import yaml
from network import selected

from runner.commands.cli import main
from runner.kubernetes.clouds import CLOUDS
from runner.kubernetes.manifest import render
from runner.kubernetes.names import TAKEN
from runner.kubernetes.options import RenderOptions
from runner.spec import load_spec

pytestmark = pytest.mark.slow("long")  # all of it together: seconds

SPECS = sorted((checks.ROOT / "specs").glob("*.yaml"))
OVERLAYS = sorted(path.parent for path in (checks.ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"))
COMMANDS = [
    shlex.split(line)[1:]
    for line in (checks.ROOT / "k8s" / "render.sh").read_text(encoding="utf-8").splitlines()
    if line.startswith("tutelage render")
]
OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "s3, a secret": {"runs_dir": "s3://bucket/runs", "data_dir": "s3://bucket/data", "secrets": ("hub", "bucket")},
    "queue": {"queue": "research"},
    "redis": {"gcs_redis": "redis.tutelage:6379", "secrets": ("redis",)},
}
SECONDS = 2.0
KUBERAY_METRICS_PORT = 8080
"""Which KubeRay gives each pod of Ray, with the name `metrics`, and `ray start` as --metrics-export-port."""


def by_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def clouds_for(spec: Path) -> list[str]:
    """A spec without GPUs is the same on all of them."""
    loaded = load_spec(spec)
    wanted = {loaded.teacher.resources.accelerator, loaded.student.resources.accelerator} - {None}
    return [name for name, cloud in CLOUDS.items() if wanted <= set(cloud.nodes)] if wanted else ["plain"]


def test_there_are_specs_and_overlays() -> None:
    assert len(SPECS) >= 4
    assert {path.name for path in OVERLAYS} >= {"gke-h100-t4", "eks", "local-cpu"}
    assert len(COMMANDS) == len(OVERLAYS)


@pytest.fixture(params=OPTIONS)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return OPTIONS[request.param]


@pytest.fixture(
    params=[(spec, cloud) for spec in SPECS for cloud in clouds_for(spec)], ids=lambda one: f"{one[0].stem}-{one[1]}"
)
def rendered(request: pytest.FixtureRequest, options: dict[str, Any]) -> list[dict[str, Any]]:
    spec, cloud = request.param
    return list(yaml.safe_load_all(render(load_spec(spec), RenderOptions(cloud=cloud, **options)).yaml))


def test_a_shipped_spec_renders_without_a_finding(rendered: list[dict[str, Any]]) -> None:
    assert [one["kind"] for one in rendered] == ["ConfigMap", "RayJob"]
    assert [line for one in rendered for line in checks.findings(one)] == []


def test_a_shipped_spec_fits_kuberays_definition(rendered: list[dict[str, Any]]) -> None:
    assert checks.definition_findings(rendered[1]) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: Path(command[-1]).parent.name)
def test_the_jobs_that_ship_are_what_render_writes(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checks.ROOT)
    monkeypatch.delenv("TUTELAGE_DATA", raising=False)
    *words, shipped = command
    assert main([*words, str(tmp_path / "job.yaml")]) == 0
    rendered = (tmp_path / "job.yaml").read_text(encoding="utf-8")
    assert rendered == Path(shipped).read_text(encoding="utf-8"), "run `make manifests`"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
class TestOverlay:
    @pytest.mark.slow("subprocess")
    def test_is_built_quickly_and_without_a_finding(self, overlay: Path) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        objects = checks.kustomize(overlay)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS
        kinds = {one["kind"] for one in objects}
        assert kinds >= {"Namespace", "ServiceAccount", "ResourceQuota", "PersistentVolumeClaim", "NetworkPolicy"}
        assert kinds >= {"ConfigMap", "RayJob", "Job"}
        assert [line for one in objects for line in checks.findings(one)] == []

    @pytest.mark.slow("subprocess")
    def test_fits_kuberays_definition(self, overlay: Path) -> None:
        (job,) = by_kind(checks.kustomize(overlay), "RayJob")
        assert checks.definition_findings(job) == []

    @pytest.mark.slow("subprocess")
    def test_costs_nothing_until_it_is_released(self, overlay: Path) -> None:
        (job,) = by_kind(checks.kustomize(overlay), "RayJob")
        assert job["spec"]["suspend"] is True

    @pytest.mark.slow("subprocess")
    def test_everything_lies_in_the_one_namespace_which_refuses_pods_that_are_not_hardened(self, overlay: Path) -> None:
        objects = checks.kustomize(overlay)
        (namespace,) = by_kind(objects, "Namespace")
        others = [one for one in objects if one is not namespace]
        assert {one["metadata"]["namespace"] for one in others} == {namespace["metadata"]["name"]}
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

    @pytest.mark.slow("subprocess")
    def test_the_pod_for_copying_comes_alone_by_its_label(self, overlay: Path) -> None:
        """`kubectl apply -l` takes those with the label: the job would be suspended by being applied again."""
        (pod,) = [
            one
            for one in checks.kustomize(overlay)
            if one["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "tutelage-volume"
        ]
        assert (pod["kind"], pod["metadata"]["name"]) == ("Pod", "tutelage-volume")

    @pytest.mark.slow("subprocess")
    def test_no_job_has_the_name_that_the_submitter_would_have(self, overlay: Path) -> None:
        objects = checks.kustomize(overlay)
        jobs = {one["metadata"]["name"] for one in by_kind(objects, "Job")}
        assert jobs == TAKEN
        assert {one["metadata"]["name"] for one in by_kind(objects, "RayJob")}.isdisjoint(jobs)

    @pytest.mark.slow("subprocess")
    def test_what_the_job_refers_to_is_there(self, overlay: Path) -> None:
        objects = checks.kustomize(overlay)
        there = {(one["kind"], one["metadata"]["name"]) for one in objects}
        (job,) = by_kind(objects, "RayJob")
        for _, pod in checks.pods(job):
            assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in there
            for volume in pod["spec"]["volumes"]:
                if claim := volume.get("persistentVolumeClaim"):
                    assert ("PersistentVolumeClaim", claim["claimName"]) in there
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in there

    @pytest.mark.slow("subprocess")
    def test_the_weights_are_those_of_the_job_and_where_it_looks_for_them(
        self, overlay: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects = checks.kustomize(overlay)
        (command,) = [one for one in COMMANDS if Path(one[-1]).parent.name == overlay.name]
        overrides = [command[at + 1] for at, word in enumerate(command) if word == "--set"]
        needs = render(load_spec(checks.ROOT / command[1], overrides), RenderOptions()).needs
        (container,) = by_kind(objects, "Job")[0]["spec"]["template"]["spec"]["containers"]
        assert needs[-1].endswith(f"`tutelage models pull {' '.join(container['args'])}`")
        job = by_kind(objects, "RayJob")[0]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"][
            "containers"
        ][0]
        here, there = ({one["name"]: one.get("value") for one in each["env"]} for each in (container, job))
        assert {name: there[name] for name in here} == here

    @pytest.mark.slow("subprocess")
    def test_the_network_is_closed_but_for_what_is_named(self, overlay: Path) -> None:
        policies = {one["metadata"]["name"]: one["spec"] for one in by_kind(checks.kustomize(overlay), "NetworkPolicy")}
        assert policies.pop("deny-all") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        weights = policies.pop("weights-to-internet")
        assert weights["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "tutelage-weights"}}
        assert policies.keys() - {"storage"} == {"inside-and-dns", "operator-to-head", "head-to-kubernetes-api"}
        blocks = [
            peer["ipBlock"]["cidr"]
            for policy in policies.values()
            for rule in policy.get("egress", [])
            for peer in rule["to"]
            if "ipBlock" in peer
        ]
        assert blocks and not any(block.endswith("/0") or block.startswith("192.0.2.") for block in blocks)
        sources = [peer for policy in policies.values() for rule in policy.get("ingress", []) for peer in rule["from"]]
        assert {"podSelector": {}} in sources and len(sources) == 2
        assert not any("ipBlock" in peer for peer in sources)

    @pytest.mark.slow("subprocess")
    def test_the_accounts_have_no_right(self, overlay: Path) -> None:
        objects = checks.kustomize(overlay)
        assert not [one for one in objects if "Role" in one["kind"]]
        for account in by_kind(objects, "ServiceAccount"):
            assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
class TestMonitoring:
    """The component that lets Prometheus in, on top of each overlay."""

    @pytest.fixture
    def watched(self, overlay: Path, tmp_path: Path) -> list[dict[str, Any]]:
        return checks.kustomize(with_component(overlay, "monitoring", tmp_path))

    @pytest.mark.slow("subprocess")
    def test_it_adds_two_things_and_changes_nothing(self, overlay: Path, watched: list[dict[str, Any]]) -> None:
        plain = checks.kustomize(overlay)
        added = [one for one in watched if one not in plain]
        assert [one for one in plain if one not in watched] == []
        assert {(one["kind"], one["metadata"]["name"]) for one in added} == {
            ("NetworkPolicy", "prometheus-to-metrics"),
            ("PodMonitor", "tutelage"),
        }
        assert {one["metadata"]["namespace"] for one in added} == {"tutelage"}
        assert [line for one in by_kind(added, "NetworkPolicy") for line in checks.findings(one)] == []

    @pytest.mark.slow("subprocess")
    def test_prometheus_gets_to_rays_port_and_nowhere_else(self, watched: list[dict[str, Any]]) -> None:
        (policy,) = [one for one in watched if one["metadata"]["name"] == "prometheus-to-metrics"]
        (rule,) = policy["spec"]["ingress"]
        (peer,) = rule["from"]
        assert set(peer) == {"namespaceSelector", "podSelector"} and policy["spec"]["policyTypes"] == ["Ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": KUBERAY_METRICS_PORT}]

    @pytest.mark.slow("subprocess")
    def test_the_monitor_selects_the_pods_of_ray(self, watched: list[dict[str, Any]]) -> None:
        (monitor,) = by_kind(watched, "PodMonitor")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == "metrics"
        selector = monitor["spec"]["selector"]
        (job,) = by_kind(watched, "RayJob")
        for name, pod in checks.pods(job):
            labels = pod["metadata"]["labels"]
            if name != "submitter":
                labels = labels | {"ray.io/node-type": "head" if name == "head" else "worker"}  # KubeRay's own
            assert selected(selector, labels) == (name != "submitter")
            # With a port of that number and another name KubeRay's would clash.
            ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", [])]
            assert not any(port["containerPort"] == KUBERAY_METRICS_PORT for port in ports)


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_who_reaches_the_internet_is_granted_nothing(overlay: Path) -> None:
    objects = checks.kustomize(overlay)
    accounts = {one["metadata"]["name"]: one for one in by_kind(objects, "ServiceAccount")}
    outside = weights_policy(objects)["spec"]["podSelector"]["matchLabels"]
    pods = [pod for one in objects for _, pod in checks.pods(one)]
    theirs = {
        pod["spec"]["serviceAccountName"]
        for pod in pods
        if outside.items() <= pod["metadata"].get("labels", {}).items()
    }
    assert theirs == {"tutelage-weights"}
    assert "annotations" not in accounts["tutelage-weights"]["metadata"]
    granted = {name for name, one in accounts.items() if "annotations" in one["metadata"]}
    assert granted == ({"tutelage-head", "tutelage-worker"} if overlay.name == "eks" else set())


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_pull_secret_is_every_accounts_and_nothing_else_changes(overlay: Path, tmp_path: Path) -> None:
    with_secret = checks.kustomize(with_component(overlay, "pull-secret", tmp_path))
    accounts = by_kind(with_secret, "ServiceAccount")
    assert [one.pop("imagePullSecrets") for one in accounts] == [[{"name": "registry"}]] * 3
    assert with_secret == checks.kustomize(overlay)


def with_component(overlay: Path, name: str, folder: Path) -> Path:
    """A kustomization of an overlay with a component on top."""

    def path(there: Path) -> str:
        return os.path.relpath(there, folder)

    parts = {"resources": [path(overlay)], "components": [path(checks.ROOT / "k8s" / "components" / name)]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "tutelage"} | parts))
    return folder


def weights_policy(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (policy,) = [one for one in by_kind(objects, "NetworkPolicy") if one["metadata"]["name"] == "weights-to-internet"]
    return policy
