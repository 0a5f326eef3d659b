"""The pods as the operator builds them, of all that ships, without a finding; and our reading of its source."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import manifest_checks as checks
import operator_parts as parts
import pytest
import yaml
from built_checks import affinity_findings, built_findings, environment, has_gpu, is_ray, start_options
from operator_pods import Built, built_pods
from quota import quota_findings
from test_shipped_manifests import OPTIONS, OVERLAYS, SPECS, by_kind, clouds_for

from runner.kubernetes.manifest import render
from runner.kubernetes.options import RenderOptions
from runner.spec import load_spec

WEIGHTS, COPYING = "tutelage-weights", "tutelage-volume"


def rendered(spec: Path, cloud: str, **options: Any) -> dict[str, Any]:
    return render(load_spec(spec), RenderOptions(cloud=cloud, **options)).objects[1]


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return rendered(checks.ROOT / "specs" / "financial-sentiment.yaml", "gke")


def named(job: dict[str, Any], name: str) -> Built:
    (found,) = [built for built in built_pods(job) if built.name == name]
    return found


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("spec", "cloud"),
    [(spec, cloud) for spec in SPECS for cloud in clouds_for(spec)],
    ids=lambda one: one.stem if isinstance(one, Path) else one,
)
def test_the_pods_of_a_shipped_spec_are_without_a_finding(spec: Path, cloud: str, options: str) -> None:
    pods = list(built_pods(rendered(spec, cloud, **OPTIONS[options])))
    names = {built.name for built in pods}
    assert names >= {"head", "submitter"} and ("redis-cleanup" in names) == (options == "redis")
    assert [line for built in pods for line in built_findings(built)] + affinity_findings(pods) == []


@pytest.mark.parametrize("options", OPTIONS)
def test_what_the_operator_adds_fits_kubernetes_own_schema(options: str) -> None:
    job = rendered(checks.ROOT / "specs" / "financial-sentiment.yaml", "aks", **OPTIONS[options])
    assert [line for built in built_pods(job) for line in checks.core_findings(built.pod)] == []


@pytest.mark.parametrize("options", OPTIONS)
def test_the_case_study_is_within_the_quota_with_all_options(options: str) -> None:
    """Redis' Job and a queue's fixed size are in none of the overlays."""
    quota = yaml.safe_load((checks.ROOT / "k8s" / "base" / "quota.yaml").read_text(encoding="utf-8"))
    job = rendered(checks.ROOT / "specs" / "financial-sentiment.yaml", "gke", **OPTIONS[options])
    sizes = [(built.name, built.pod["spec"], built.most) for built in built_pods(job)]
    assert quota_findings(quota["spec"]["hard"], sizes) == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
class TestOverlay:
    @pytest.fixture
    def objects(self, overlay: Path) -> list[dict[str, Any]]:
        return checks.kustomize(overlay, yaml.CSafeLoader)

    @pytest.fixture
    def pods(self, objects: list[dict[str, Any]]) -> list[Built]:
        return [built for one in objects for built in built_pods(one)]

    @pytest.mark.slow("subprocess")
    def test_its_pods_are_without_a_finding(self, pods: list[Built]) -> None:
        assert {WEIGHTS, COPYING, "head", "submitter"} <= {built.name for built in pods}
        assert [line for built in pods for line in built_findings(built)] + affinity_findings(pods) == []
        assert [line for built in pods for line in checks.core_findings(built.pod)] == []

    @pytest.mark.slow("subprocess")
    def test_all_that_may_be_up_at_once_is_within_the_quota(
        self, objects: list[dict[str, Any]], pods: list[Built]
    ) -> None:
        (quota,) = by_kind(objects, "ResourceQuota")
        # The weights are fetched before the job is released; the pod for copying may be there at any time.
        before = [built for built in pods if built.name in (WEIGHTS, COPYING)]
        during = [built for built in pods if built.name != WEIGHTS]
        for phase in (before, during):
            sizes = [(built.name, built.pod["spec"], built.most) for built in phase]
            assert quota_findings(quota["spec"]["hard"], sizes) == []

    @pytest.mark.slow("subprocess")
    def test_every_image_is_of_the_overlays_registry(self, overlay: Path, pods: list[Built]) -> None:
        images = yaml.safe_load((overlay / "kustomization.yaml").read_text(encoding="utf-8"))["images"]
        assert [one["name"] for one in images] == ["tutelage", "tutelage-head"]
        wanted = {f"{one.get('newName', one['name'])}:{one['newTag']}" for one in images}
        assert {container["image"] for built in pods for container in built.containers} == wanted

    @pytest.mark.slow("subprocess")
    def test_each_pod_has_an_account_that_is_there(self, objects: list[dict[str, Any]], pods: list[Built]) -> None:
        accounts = {one["metadata"]["name"] for one in by_kind(objects, "ServiceAccount")}
        assert {built.pod["spec"]["serviceAccountName"] for built in pods} == accounts


def test_the_head_gets_the_autoscaler_beside_it(job: dict[str, Any]) -> None:
    head = named(job, "head")
    ray, autoscaler = head.pod["spec"]["containers"]
    assert autoscaler["image"] == ray["image"] and head.pod["spec"]["restartPolicy"] == "Never"
    assert "--no-monitor" in ray["args"][0] and "--head" in ray["args"][0]
    assert {one["mountPath"] for one in autoscaler["volumeMounts"]} >= {"/tmp/ray", "/tmp"}
    fixed = rendered(checks.ROOT / "specs" / "financial-sentiment.yaml", "gke", queue="research")
    assert [one["name"] for one in named(fixed, "head").pod["spec"]["containers"]] == ["ray-head"]


def test_a_worker_waits_for_the_head_in_a_container_that_is_a_copy_of_its_own(job: dict[str, Any]) -> None:
    worker = named(job, "teacher")
    (waiting,), (container,) = worker.pod["spec"]["initContainers"], worker.pod["spec"]["containers"]
    assert waiting["securityContext"] == container["securityContext"] and waiting["image"] == container["image"]
    assert waiting["resources"]["limits"] == parts.SMALL
    assert environment(waiting).items() <= environment(container).items()
    assert "/dev/shm" not in {one["mountPath"] for one in waiting["volumeMounts"]}
    address = start_options(worker)["address"]
    assert address in waiting["args"][0] and environment(container)["RAY_ADDRESS"] == address


def test_the_kubelet_asks_at_the_port_that_ray_is_told(job: dict[str, Any]) -> None:
    for built in filter(is_ray, built_pods(job)):
        container = built.pod["spec"]["containers"][0]
        asked = {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")}
        assert asked == {int(start_options(built)["dashboard-agent-listen-port"])}


def test_everything_that_speaks_with_ray_has_the_token_of_the_clusters_secret(job: dict[str, Any]) -> None:
    long = copy.deepcopy(job)
    long["metadata"]["name"] = "a" * checks.LONGEST_RAYJOB_NAME
    for one, secret in ((job, "financial-sentiment-x7k2p"), (long, "a" * 44 + "-x7k2p")):
        for built in built_pods(one):
            for container in built.containers:
                (token,) = [each for each in container["env"] if each["name"] == "RAY_AUTH_TOKEN"]
                assert token["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "auth_token"}


def test_the_operators_own_labels_cannot_be_overridden(job: dict[str, Any]) -> None:
    changed = copy.deepcopy(job)
    template = changed["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    template["metadata"]["labels"] |= {"ray.io/node-type": "worker", "app.kubernetes.io/created-by": "me"}
    labels = named(changed, "head").labels
    assert labels["ray.io/node-type"] == "head" and labels["app.kubernetes.io/created-by"] == "me"
    assert labels["app.kubernetes.io/name"] == "tutelage"


# The first and the last are of the operator's own tests (TestBuildPod and TestGenerateRayStartCommand in pod_test.go).
COMMANDS: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("worker", {"port": "6379"}, {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "3"}, "1 1073741824 3"),
    ("head", {"num-cpus": "0"}, {"cpu": "1500m", "memory": "8Gi"}, "0 8589934592 None"),
    ("head", {}, {"cpu": "1500m", "memory": "8Gi"}, "2 8589934592 None"),
    ("head", {"resources": "{"}, {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}, "1 1073741824 None"),
]


@pytest.mark.parametrize(("kind", "params", "limits", "expected"), COMMANDS)
def test_ray_is_told_the_limits_where_nothing_else_is_said(
    kind: str, params: dict[str, str], limits: dict[str, str], expected: str
) -> None:
    words = dict(
        word.removeprefix("--").split("=", 1)
        for word in parts.ray_start(kind, dict(params), limits).split()
        if "=" in word
    )
    assert " ".join(str(words.get(name)) for name in ("num-cpus", "memory", "num-gpus")) == expected


def test_a_switch_has_no_value_and_one_that_is_off_is_left_out() -> None:
    params = {"block": "true", "no-monitor": "false", "include-dashboard": "false"}
    command = parts.ray_start("head", params, {"cpu": "1", "memory": "1Gi"})
    assert command.split()[3:5] == ["--block", "--include-dashboard=false"] and "no-monitor" not in command


CONSTANTS = {
    "DefaultGcsServerPort": parts.GCS_PORT,
    "DefaultDashboardPort": parts.DASHBOARD_PORT,
    "DefaultMetricsPort": parts.METRICS_PORT,
    "DefaultDashboardAgentListenPort": parts.AGENT_PORT,
    "KUBERAY_VERSION": f'"{parts.KUBERAY}"',
    "RayNodeHealthPath": '"/api/healthz"',
    "DefaultLivenessProbeFailureThreshold": 120,
    "DefaultLivenessProbeInitialDelaySeconds": 30,
    "DefaultReadinessProbeFailureThreshold": 10,
    "DefaultReadinessProbeInitialDelaySeconds": 10,
    "DefaultHeadLivenessProbeTimeoutSeconds": 5,
    "DefaultReadinessProbeTimeoutSeconds": 2,
}


NOT_FOR_A_RAY_JOB = {
    *("RAY_TIMEOUT_MS_TASK_WAIT_FOR_DEATH_INFO", "RAY_GCS_SERVER_REQUEST_TIMEOUT_SECONDS", "RAY_SERVE_KV_TIMEOUT_S"),
    *("RAY_ENABLE_RAY_EVENT", "RAY_ENABLE_CORE_WORKER_RAY_EVENT_TO_AGGREGATOR"),
}
"""A RayService's, and the history server's: its further ones begin with RAY_DASHBOARD_AGGREGATOR."""


def test_the_source_that_was_read_is_this_versions(job: dict[str, Any]) -> None:
    """Its constants are ours, and each variable that it sets in a Ray container is one that the built pods have."""
    folder = checks.kuberay_source() / "ray-operator" / "controllers" / "ray"
    constants = dict(re.findall(r"^\s*(\w+)\s*=\s*(\S+)", (folder / "utils" / "constant.go").read_text(), re.MULTILINE))
    assert {name: constants[name] for name in CONSTANTS} == {name: str(value) for name, value in CONSTANTS.items()}
    source = (folder / "common" / "pod.go").read_text(encoding="utf-8")
    (body,) = re.findall(r"^func setContainerEnvVars.*?^}", source, re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"Name:\s*utils\.(\w+)", body)) - NOT_FOR_A_RAY_JOB
    names = {name for name in names if not name.startswith("RAY_DASHBOARD_AGGREGATOR")}
    worker, head = (environment(named(job, name).pod["spec"]["containers"][0]) for name in ("teacher", "head"))
    assert len(names) > 10 and {constants[name].strip('"') for name in names} <= worker.keys() | head.keys()


BREAKS: dict[str, Any] = {
    "may be evicted": lambda pod: pod["metadata"]["annotations"].clear(),
    "terminationGracePeriodSeconds": lambda pod: pod["spec"].update(terminationGracePeriodSeconds=30),
    "mounts what is no volume": lambda pod: pod["spec"]["volumes"].pop(),
    "ports twice": lambda pod: pod["spec"]["containers"][0]["ports"].append({"name": "metrics", "containerPort": 1}),
    "labels": lambda pod: pod["metadata"]["labels"].update(a="x" * 64),
    "num-gpus": lambda pod: pod["spec"]["containers"][0]["resources"]["limits"].update({"nvidia.com/gpu": "7"}),
    "variables twice": lambda pod: pod["spec"]["containers"][0]["env"].append({"name": "HOME", "value": "/cache"}),
    "nothing can be written": lambda pod: pod["spec"]["containers"][0]["env"][0].update(value="/home/x"),
    "Pod Security": lambda pod: pod["spec"]["initContainers"][0].pop("securityContext"),
    "asks for no ephemeral": lambda pod: pod["spec"]["containers"][0]["resources"]["requests"].pop("ephemeral-storage"),
    "the operator cannot read": lambda pod: pod["spec"]["containers"][0].update(
        args=['ulimit -n 1; ray start  --num-gpus=1  --resources="{\\"a\\": 1}"']
    ),
}


@pytest.mark.parametrize("said", BREAKS)
def test_what_is_broken_is_found(job: dict[str, Any], said: str) -> None:
    built = named(job, "student")
    assert has_gpu(built) and is_ray(built) and built_findings(built) == []
    BREAKS[said](built.pod)
    assert any(said in line for line in built_findings(built))


def test_a_quota_counts_all_at_once_and_wants_sizes_said() -> None:
    size = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    first = {"name": "first", "resources": {"requests": {"cpu": "3", "memory": "1Mi"}, "limits": {"cpu": "3"}}}
    spec = {"containers": [{"name": "a", "resources": size}] * 2, "initContainers": [first]}
    assert quota_findings({"requests.cpu": "6", "pods": "2", "limits.nvidia.com/gpu": "0"}, [("p", spec, 2)]) == []
    assert quota_findings({"requests.cpu": "5", "pods": "1"}, [("p", spec, 2)]) == [
        "requests.cpu: 6 of 5",
        "pods: 2 of 1",
    ]
    (unsaid,) = quota_findings({"limits.memory": "10Gi"}, [("p", spec, 2)])
    assert unsaid.startswith("p/first: does not say limits.memory")
