"""The checks find what they are there for: each breaks one thing in a manifest that is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manifest_checks as checks
import pytest

from runner.kubernetes.manifest import render
from runner.kubernetes.options import RenderOptions
from runner.spec import load_spec

Break = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def right() -> dict[str, Any]:
    spec = load_spec(checks.ROOT / "specs" / "financial-sentiment.yaml")
    job = render(spec, RenderOptions(cloud="gke")).objects[1]
    assert checks.findings(job) == []
    return job


def broken(right: dict[str, Any], change: Break) -> dict[str, Any]:
    job = copy.deepcopy(right)
    change(job["spec"])
    return job


def pod(spec: dict[str, Any], group: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = spec["rayClusterSpec"]["workerGroupSpecs"][group]["template"]["spec"]
    return found


def test_the_manifest_that_is_broken_here_is_right(right: dict[str, Any]) -> None:
    assert checks.definition_findings(right) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(ttlSecondsAfterFinish=1),
        lambda spec: spec.update(backoffLimit="2"),
        lambda spec: spec["rayClusterSpec"]["authOptions"].update(mode="tokens"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].update(maxReplica=3),
        lambda spec: pod(spec).update(toleration=[]),
        lambda spec: pod(spec)["containers"][0].update(securitycontext={}),
        lambda spec: spec["rayClusterSpec"]["headGroupSpec"].pop("template"),
    ],
)
def test_the_schema_finds_a_wrong_field(right: dict[str, Any], change: Break) -> None:
    assert len(checks.schema_findings(broken(right, change))) == 1


def test_the_schema_finds_nothing_wrong_with_replicas_that_have_a_default(right: dict[str, Any]) -> None:
    assert not checks.schema_findings(
        broken(right, lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].pop("minReplicas"))
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: pod(spec).update(restartPolicies="Never"),
        lambda spec: pod(spec)["containers"][0]["env"][0].update(vale="x"),
    ],
)
def test_kubernetes_own_schema_finds_a_wrong_field(right: dict[str, Any], change: Break) -> None:
    assert len(checks.core_findings(broken(right, change))) == 1


def test_the_definition_has_cel_rules() -> None:
    assert {path[-1] for path, _, _ in checks.cel_rules()} >= {"deletionStrategy", "condition", "managedBy", "backend"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec.update(managedBy="me"), "managedBy"),
        (lambda spec: spec.update(deletionStrategy={}), "deletionStrategy requires"),
        (
            lambda spec: spec.update(
                deletionStrategy={
                    "deletionRules": [
                        {"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}}
                    ]
                }
            ),
            "cannot be used together",
        ),
    ],
)
def test_a_cel_rule_finds_what_no_schema_does(right: dict[str, Any], change: Break, said: str) -> None:
    job = broken(right, change)
    assert not checks.schema_findings(job)
    (found,) = checks.cel_findings(job)
    assert said in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.update(suspend=True, shutdownAfterJobFinishes=False, ttlSecondsAfterFinished=0), "suspend needs"),
        (lambda s: s.update(shutdownAfterJobFinishes=False), "ttlSecondsAfterFinished needs"),
        (lambda s: s.update(clusterSelector={"ray.io/cluster": "x"}, backoffLimit=0), "exactly one"),
        (lambda s: s.update(submissionMode="InteractiveMode"), "no backoffLimit"),
        (lambda s: s.update(submissionMode="SidecarMode"), "SidecarMode"),
        (lambda s: s.update(activeDeadlineSeconds=0), "deadlines"),
        (lambda s: s["rayClusterSpec"].update(rayVersion="2.55.0"), "priority needs"),
        (lambda s: s["rayClusterSpec"].update(networkPolicy={}), "feature gates"),
        (lambda s: s["rayClusterSpec"].update(gcsFaultToleranceOptions={"backend": "rocksdb"}), "rocksdb"),
        (lambda s: pod(s).update(restartPolicy="Always"), "restart no pod"),
        (lambda s: s["rayClusterSpec"]["workerGroupSpecs"][0].update(resources={"CPU": "1"}), "not in both"),
        (lambda s: s["rayClusterSpec"]["workerGroupSpecs"][0].update(minReplicas=9), "minReplicas is"),
    ],
)
def test_the_operators_rules_find_what_it_would_refuse(right: dict[str, Any], change: Break, said: str) -> None:
    (found,) = checks.operator_findings(broken(right, change))
    assert said in found


def test_the_operators_rules_find_what_needs_an_autoscaler_or_a_version(right: dict[str, Any]) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["rayClusterSpec"].update(enableInTreeAutoscaling=False)
        spec["rayClusterSpec"].pop("rayVersion")
        spec["rayClusterSpec"]["workerGroupSpecs"][0].pop("maxReplicas")

    found = checks.operator_findings(broken(right, change))
    said = ("tokens need", "without an autoscaler", "priority needs", "idleTimeoutSeconds needs")
    assert len(found) == len(said)
    assert all(any(words in one for one in found) for words in said)


@pytest.mark.parametrize("name", ["x" * 48, "Big", "9lives", "a.b", "-a", "a-"])
def test_the_operators_rules_find_a_name_that_it_would_refuse(right: dict[str, Any], name: str) -> None:
    job = copy.deepcopy(right)
    job["metadata"]["name"] = name
    assert len(checks.operator_findings(job)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: pod(spec)["containers"][0]["securityContext"].pop("capabilities"),
        lambda spec: pod(spec)["containers"][0]["resources"]["limits"].update(cpu="64"),
        lambda spec: pod(spec).update(automountServiceAccountToken=True),
        lambda spec: pod(spec).pop("serviceAccountName"),
        lambda spec: [
            pod(spec)["containers"][0]["resources"][at].pop("ephemeral-storage") for at in ("requests", "limits")
        ],
        lambda spec: spec["submitterPodTemplate"]["spec"]["containers"][0].pop("env"),
        lambda spec: pod(spec)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
        lambda spec: spec["rayClusterSpec"]["autoscalerOptions"].pop("securityContext"),
    ],
)
def test_a_pod_that_is_not_hardened_is_found(right: dict[str, Any], change: Break) -> None:
    assert checks.pod_findings(broken(right, change))


def test_without_the_definitions_the_check_is_skipped_and_says_what_it_wants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBERAY_CRDS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="KUBERAY_CRDS"):
        checks.crds()
