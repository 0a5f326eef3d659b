"""The pods that KubeRay's operator makes of a RayJob: a template of ours is only the half of each.

Written after KubeRay 1.7.0's source, ``ray-operator/controllers/ray``:

=============================  ========================================================================
``common/pod.go``              head and workers: labels, environment, tokens, volumes, probes, command;
                               the init container ``wait-gcs-ready``, the autoscaler's container
``common/job.go``              the command line that submits
``rayjob_controller.go``       the submitter's Job, and the cluster's name
``raycluster_controller.go``   the Job that cleans Redis up
``utils/util.go``              names and the shell
=============================  ========================================================================

What is off unless somebody turns it on is not here: feature gates (TLS, history server, RocksDB), sidecars and defaults
of the operator's own configuration, a login shell, a command of one's own in a Ray container.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import operator_parts as parts

SUFFIX = "x7k2p"
"""Where the operator draws five letters."""

NOT_OVERRIDABLE = ("ray.io/node-type", "ray.io/group", "ray.io/cluster")


@dataclass(frozen=True)
class Built:
    """A pod as the server gets it, and how many of its kind there are at most."""

    name: str
    pod: dict[str, Any]
    most: int = 1

    @property
    def containers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.pod["spec"]["containers"] + self.pod["spec"].get("initContainers", [])
        return found

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.pod["metadata"]["labels"]
        return found


def built_pods(thing: dict[str, Any]) -> Iterator[Built]:
    """Every pod that comes of an object: of a RayJob all that the operator makes, of a Job its own, a Pod itself."""
    if thing["kind"] == "Pod":
        yield Built(thing["metadata"]["name"], thing)
    if thing["kind"] == "Job":
        yield Built(thing["metadata"]["name"], of_job(thing["metadata"], thing["spec"]["template"]))
    if thing["kind"] == "RayJob":
        yield from _of_ray_job(thing)


def _of_ray_job(job: dict[str, Any]) -> Iterator[Built]:
    cluster = copy.deepcopy(job["spec"]["rayClusterSpec"])
    cluster["metadata"] = {"name": cluster_name(job), "namespace": job["metadata"]["namespace"]}
    head = _head(cluster)
    yield Built("head", head)
    for group in cluster.get("workerGroupSpecs", []):
        yield Built(group["groupName"], _worker(cluster, group), group["maxReplicas"] * group.get("numOfHosts", 1))
    if job["spec"].get("submissionMode", "K8sJobMode") == "K8sJobMode":
        yield Built("submitter", _submitter(job, cluster))
    if cluster.get("gcsFaultToleranceOptions"):
        yield Built("redis-cleanup", _redis_cleanup(cluster, head))


def cluster_name(job: dict[str, Any]) -> str:
    return f"{job['metadata']['name']}-{SUFFIX}"


def of_job(metadata: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    """A Job's pod: Kubernetes puts the Job's name on it as a label, by which its log is asked for."""
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    pod["metadata"] |= {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]}
    pod["metadata"].setdefault("labels", {})
    for label in ("job-name", "batch.kubernetes.io/job-name"):
        pod["metadata"]["labels"][label] = metadata["name"]
    return pod


def _head(cluster: dict[str, Any]) -> dict[str, Any]:
    group = cluster["headGroupSpec"]
    params = group.setdefault("rayStartParams", {})
    pod = _pod_of(cluster, group["template"], "head", "headgroup", f"{cluster['metadata']['name'][:50]}-head-")
    container = pod["spec"]["containers"][0]
    params.setdefault("dashboard-host", "0.0.0.0")
    _complete(params)
    if parts.scales(cluster):
        params["no-monitor"] = "true"
        spec = pod["spec"]
        spec["serviceAccountName"] = parts.check_name(spec.get("serviceAccountName") or cluster["metadata"]["name"])
        spec["containers"].append(parts.autoscaler(cluster, container["image"]))
        parts.put(container, "RAY_enable_autoscaler_v2", str(parts.is_v2(cluster)).lower())
        if parts.is_v2(cluster):
            spec["restartPolicy"] = "Never"
    pod["metadata"]["annotations"]["ray.io/ft-enabled"] = str(bool(cluster.get("gcsFaultToleranceOptions"))).lower()
    if options := cluster.get("gcsFaultToleranceOptions"):
        parts.add_redis(container, params, options)
    _finish(cluster, pod, params, "head")
    return pod


def _worker(cluster: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    params = group.setdefault("rayStartParams", {})
    prefix = f"{cluster['metadata']['name']}-{group['groupName']}"[:50]
    pod = _pod_of(cluster, group["template"], "worker", group["groupName"], f"{prefix}-worker-")
    container = pod["spec"]["containers"][0]
    pod["spec"].setdefault("initContainers", []).append(parts.wait_gcs_ready(cluster, container))
    params.setdefault("address", parts.gcs_address(cluster))
    _complete(params)
    if cluster.get("gcsFaultToleranceOptions"):
        parts.put(container, "RAY_gcs_rpc_server_reconnect_timeout_s", "600", keep=True)
    if parts.is_v2(cluster):
        pod["spec"]["restartPolicy"] = "Never"
    _finish(cluster, pod, params, "worker")
    return pod


def _pod_of(cluster: dict[str, Any], template: dict[str, Any], kind: str, group: str, name: str) -> dict[str, Any]:
    """The template as a pod, with the operator's labels: ours win, but for the three that it selects by."""
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    owner = cluster["metadata"]["name"]
    labels = {
        "ray.io/is-ray-node": "yes",
        "ray.io/cluster": owner,
        "ray.io/node-type": kind,
        "ray.io/group": group,
        "ray.io/identifier": f"{owner}-{kind}"[-63:],
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }
    ours = {key: text for key, text in pod["metadata"].get("labels", {}).items() if key not in NOT_OVERRIDABLE}
    pod["metadata"] |= {"generateName": name.lower(), "namespace": cluster["metadata"]["namespace"]}
    pod["metadata"]["labels"] = labels | ours
    pod["metadata"].setdefault("annotations", {})
    return pod


def _complete(params: dict[str, str]) -> None:
    params.setdefault("metrics-export-port", str(parts.METRICS_PORT))
    params.setdefault("dashboard-agent-listen-port", str(parts.AGENT_PORT))
    params["block"] = "true"


def _finish(cluster: dict[str, Any], pod: dict[str, Any], params: dict[str, str], kind: str) -> None:
    """What head and workers have in common (the end of the two templates, and ``BuildPod``)."""
    container = pod["spec"]["containers"][0]
    ports = container.setdefault("ports", [])
    if not any(port.get("name") == "metrics" for port in ports):
        ports.append({"name": "metrics", "containerPort": parts.METRICS_PORT})
    for one in (container, *pod["spec"].get("initContainers", [])):
        if one is container or one["name"] == "wait-gcs-ready":
            parts.add_token(cluster, one)
    memory = container["resources"]["limits"]["memory"]
    parts.add_volume(pod, container, "shared-mem", "/dev/shm", {"medium": "Memory", "sizeLimit": memory})
    if kind == "head" and parts.scales(cluster):
        for one in pod["spec"]["containers"]:
            if one is container or one["name"] == "autoscaler":
                parts.add_volume(pod, one, "ray-logs", "/tmp/ray", {})
    command = parts.ray_start(kind, params, container["resources"]["limits"])
    container["command"] = parts.BASH
    container["args"] = [f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {command}"]
    for one in pod["spec"].get("initContainers", []):
        parts.add_address(cluster, one)
    parts.add_environment(cluster, container, kind, command)
    parts.add_probes(container, kind, params)


def _submitter(job: dict[str, Any], cluster: dict[str, Any]) -> dict[str, Any]:
    """The pod of the Job that has the RayJob's own name: our template with the operator's command and address."""
    template = copy.deepcopy(job["spec"].get("submitterPodTemplate")) or parts.default_submitter(cluster)
    template.setdefault("metadata", {})
    container = template["spec"]["containers"][0]
    container.setdefault("env", [])
    address = f"{parts.head_service(cluster)}:{parts.DASHBOARD_PORT}"
    number = f"{job['metadata']['name']}-{SUFFIX}"
    if not container.get("command"):
        container["command"] = parts.BASH_STRICT
        container["args"] = [parts.submit(f"http://{address}", number, job["spec"]["entrypoint"])]
    parts.put(container, "PYTHONUNBUFFERED", "1")
    parts.put(container, "RAY_DASHBOARD_ADDRESS", address)
    parts.put(container, "RAY_JOB_SUBMISSION_ID", number)
    parts.add_token(cluster, container)
    template["metadata"].setdefault("labels", {}).update(
        {
            "ray.io/originated-from-cr-name": job["metadata"]["name"],
            "ray.io/originated-from-crd": "RayJob",
            "app.kubernetes.io/created-by": "kuberay-operator",
        }
    )
    return of_job(job["metadata"], template)


def _redis_cleanup(cluster: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    """The head's pod once more, with the Ray container alone and a size and a command of its own."""
    pod = copy.deepcopy(head)
    container = pod["spec"]["containers"][0]
    for probe in ("livenessProbe", "readinessProbe"):
        container.pop(probe)
    container["command"], container["args"] = parts.BASH, [parts.REDIS_CLEANUP]
    container["resources"] = {"requests": dict(parts.SMALL), "limits": dict(parts.SMALL)}
    parts.put(container, "RAY_redis_db_connect_retries", "120")
    parts.put(container, "RAY_redis_db_connect_wait_milliseconds", "500")
    pod["spec"] |= {"containers": [container], "restartPolicy": "Never"}
    pod["metadata"]["labels"]["ray.io/node-type"] = "redis-cleanup"
    return of_job({"name": f"{cluster['metadata']['name']}-redis-cleanup"[-63:], **_namespace(cluster)}, pod)


def _namespace(cluster: dict[str, Any]) -> dict[str, str]:
    return {"namespace": cluster["metadata"]["namespace"]}
