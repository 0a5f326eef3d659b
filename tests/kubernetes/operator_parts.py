"""The parts of which the operator makes pods (see ``operator_pods.py``, which names the source)."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

from quota import quantity

KUBERAY = "v1.7.0"
BASH = ["/bin/bash", "-c", "--"]
BASH_STRICT = ["/bin/bash", "-ce", "--"]
GCS_PORT, DASHBOARD_PORT, METRICS_PORT, AGENT_PORT = 6379, 8265, 8080, 52365
SMALL = {"cpu": "200m", "memory": "256Mi"}
"""The size that is written into the operator for its init container and for the Job that cleans Redis up."""

BOOLEANS_WITH_A_VALUE = ("log-color", "include-dashboard", "include-log-monitor")
WAIT_FOR_GCS = """
SECONDS=0
while true; do
  if ray health-check --address {address} > /dev/null 2>&1; then break; fi
  echo "$SECONDS seconds elapsed: Waiting for GCS to be ready."
  sleep 5
done
"""
SUBMIT = (
    """until python -c "import urllib.request; r=urllib.request.urlopen('{address}/api/gcs_healthz', timeout=10); """
    """exit(0 if b'success' in r.read() else 1)" >/dev/null 2>&1 ; do echo "Waiting for {address}"; sleep 2; done; """
    "if ! ray job status --address {address} {number} >/dev/null 2>&1 ; then "
    "ray job submit --address {address} --no-wait --submission-id {number} -- {entrypoint} ; fi ; "
    "ray job logs --address {address} --follow {number}"
)
REDIS_CLEANUP = (
    """python -c "import os; from urllib.parse import urlparse; from ray._private.gcs_utils import """
    """cleanup_redis_storage; at = urlparse('redis://' + os.environ['RAY_REDIS_ADDRESS']); """
    """exit(not cleanup_redis_storage(host=at.hostname, port=at.port, password=os.getenv('REDIS_PASSWORD', ''), """
    """use_ssl=False, storage_namespace=os.environ['RAY_external_storage_namespace']))" """
)


def check_name(name: str) -> str:
    """``CheckName``: the last 50 characters, beginning with a letter; so Secret, Role and account are named."""
    name = name[-50:]
    return name if name[0].isalpha() else f"r{name[1:]}"


def head_service(cluster: dict[str, Any]) -> str:
    metadata = cluster["metadata"]
    return f"{metadata['name']}-head-svc.{metadata['namespace']}.svc.cluster.local"


def scales(cluster: dict[str, Any]) -> bool:
    return bool(cluster.get("enableInTreeAutoscaling"))


def is_v2(cluster: dict[str, Any]) -> bool:
    return scales(cluster) and cluster.get("autoscalerOptions", {}).get("version") == "v2"


def put(container: dict[str, Any], name: str, value: str, keep: bool = False) -> None:
    """A variable; with ``keep`` ours stays where there is one. The operator appends others, and the last one wins."""
    environment = container.setdefault("env", [])
    if not keep or all(one["name"] != name for one in environment):
        environment.append({"name": name, "value": value})


def _refer(container: dict[str, Any], name: str, field: str) -> None:
    container.setdefault("env", []).append({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}})


def add_token(cluster: dict[str, Any], container: dict[str, Any]) -> None:
    """Ray's token mode: the token is in the Secret that has the cluster's name."""
    if cluster.get("authOptions", {}).get("mode") != "token":
        return
    put(container, "RAY_AUTH_MODE", "token", keep=True)
    if all(one["name"] != "RAY_AUTH_TOKEN" for one in container["env"]):
        secret = {"name": check_name(cluster["metadata"]["name"]), "key": "auth_token"}
        container["env"].append({"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": secret}})


def add_volume(pod: dict[str, Any], container: dict[str, Any], name: str, path: str, source: dict[str, Any]) -> None:
    mounts = container.setdefault("volumeMounts", [])
    if any(mount["mountPath"] == path for mount in mounts):
        return
    volumes = pod["spec"].setdefault("volumes", [])
    if all(volume["name"] != name for volume in volumes):
        volumes.append({"name": name, "emptyDir": source})
    mounts.append({"name": name, "mountPath": path})


def add_address(cluster: dict[str, Any], container: dict[str, Any]) -> None:
    put(container, "FQ_RAY_IP", head_service(cluster))
    put(container, "RAY_IP", head_service(cluster).split(".")[0])


def add_environment(cluster: dict[str, Any], container: dict[str, Any], kind: str, command: str) -> None:
    """``setContainerEnvVars``, in its order."""
    if kind == "worker":
        add_address(cluster, container)
    _refer(container, "RAY_CLUSTER_NAME", "metadata.labels['ray.io/cluster']")
    _refer(container, "RAY_CLUSTER_NAMESPACE", "metadata.namespace")
    _refer(container, "RAY_CLOUD_INSTANCE_ID", "metadata.name")
    _refer(container, "RAY_NODE_TYPE_NAME", "metadata.labels['ray.io/group']")
    put(container, "KUBERAY_GEN_RAY_START_CMD", command)
    port = gcs_address(cluster).rpartition(":")[2]
    put(container, "RAY_PORT", port, keep=True)
    put(container, "RAY_ADDRESS", f"127.0.0.1:{port}" if kind == "head" else gcs_address(cluster), keep=True)
    put(container, "RAY_USAGE_STATS_KUBERAY_IN_USE", "1", keep=True)
    if kind == "head":
        put(container, "RAY_USAGE_STATS_EXTRA_TAGS", f"kuberay_version={KUBERAY};kuberay_crd=RayJob")
    put(container, "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE", "1", keep=True)


def add_probes(container: dict[str, Any], kind: str, params: dict[str, str]) -> None:
    """Those for Ray from 2.53 on: one address for all, asked by the kubelet."""
    shared = {"timeoutSeconds": 5 if kind == "head" else 2, "periodSeconds": 5, "successThreshold": 1}
    shared |= {"httpGet": {"path": "/api/healthz", "port": int(params["dashboard-agent-listen-port"])}}
    container.setdefault("livenessProbe", {"initialDelaySeconds": 30, "failureThreshold": 120, **shared})
    container.setdefault("readinessProbe", {"initialDelaySeconds": 10, "failureThreshold": 10, **shared})


def submit(address: str, number: str, entrypoint: str) -> str:
    """What the submitter runs. It asks first whether the job is there: a Job's pod may be started again."""
    return SUBMIT.format(address=address, number=number, entrypoint=entrypoint.strip())


def default_submitter(cluster: dict[str, Any]) -> dict[str, Any]:
    container = {
        "name": "ray-job-submitter",
        "image": cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "200Mi"}},
    }
    return {"metadata": {}, "spec": {"containers": [container], "restartPolicy": "Never"}}


def ray_start(kind: str, params: dict[str, str], limits: dict[str, str]) -> str:
    """``generateRayStartCommand``: what is not said is taken from the container's limits."""
    params.setdefault("num-cpus", str(math.ceil(quantity(limits["cpu"]))))
    params.setdefault("memory", str(math.ceil(quantity(limits["memory"]))))
    try:
        json.loads(params.get("resources", "{}").strip("'\"` "))
    except json.JSONDecodeError:
        pass  # it logs an error, and takes no GPUs from the limits
    else:
        for name in sorted(limits):
            if name.endswith("gpu") and quantity(limits[name]):
                params.setdefault("num-gpus", limits[name])
    words = ["ray start --head" if kind == "head" else "ray start"]
    for name in sorted(params):
        text = params[name]
        if text.lower() in ("true", "false") and name not in BOOLEANS_WITH_A_VALUE:
            words += [f"--{name}"] if text.lower() == "true" else []
        else:
            words.append(f"--{name}={text}")
    return "  ".join(words)


def gcs_address(cluster: dict[str, Any]) -> str:
    port = cluster["headGroupSpec"].get("rayStartParams", {}).get("port", GCS_PORT)
    return f"{head_service(cluster)}:{port}"


def wait_gcs_ready(cluster: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
    """A copy of the Ray container's environment, mounts and security; its size is written into the operator."""
    kept = ("image", "imagePullPolicy", "securityContext", "env", "volumeMounts")
    return {
        "name": "wait-gcs-ready",
        "command": BASH,
        "args": [WAIT_FOR_GCS.format(address=gcs_address(cluster))],
        "resources": {"requests": dict(SMALL), "limits": dict(SMALL)},
        **copy.deepcopy({key: container[key] for key in kept if key in container}),
    }


def autoscaler(cluster: dict[str, Any], image: str) -> dict[str, Any]:
    """The head's second container: its size, mounts and security are ours to say."""
    command = "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) --cluster-namespace $(RAY_CLUSTER_NAMESPACE)"
    container: dict[str, Any] = {
        "name": "autoscaler",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [],
        "command": BASH,
        "args": [command],
        "resources": {part: {"cpu": "500m", "memory": "512Mi"} for part in ("requests", "limits")},
    }
    _refer(container, "RAY_CLUSTER_NAME", "metadata.labels['ray.io/cluster']")
    _refer(container, "RAY_CLUSTER_NAMESPACE", "metadata.namespace")
    _refer(container, "RAY_HEAD_POD_NAME", "metadata.name")
    put(container, "KUBERAY_CRD_VER", "v1")
    put(container, "KUBERAY_GEN_AUTOSCALER_START_CMD", command)
    add_token(cluster, container)
    options = copy.deepcopy(cluster.get("autoscalerOptions", {}))
    for key in ("env", "envFrom", "volumeMounts"):
        if options.get(key):
            container[key] = container.get(key, []) + options[key]
    for key in ("resources", "image", "imagePullPolicy", "securityContext", "command", "args"):
        if options.get(key):
            container[key] = options[key]
    return container


def add_redis(container: dict[str, Any], params: dict[str, str], options: dict[str, Any]) -> None:
    put(container, "RAY_external_storage_namespace", options.get("externalStorageNamespace", "uid"), keep=True)
    put(container, "RAY_REDIS_ADDRESS", options["redisAddress"])
    for field, name in (("redisUsername", "REDIS_USERNAME"), ("redisPassword", "REDIS_PASSWORD")):
        if field in options:
            container["env"].append({"name": name, **options[field]})
            params[name.lower().replace("_", "-")] = f"${name}"
