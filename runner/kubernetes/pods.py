"""A hardened pod for each of the groups.

No root, no capabilities, a root file system that nobody writes to, and no token of the cluster in a process that runs
our code. What is written goes to ``/tmp`` and ``/cache``, which end with the pod, or to the shared volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.kubernetes.clouds import CLOUDS, placement
from runner.kubernetes.groups import Group
from runner.kubernetes.lifetime import GRACE_SECONDS, LOST_NODE_SECONDS
from runner.kubernetes.options import MOUNT, RenderOptions
from runner.kubernetes.relocate import MODELS_FOLDER

USER = 10001
"""The user of the project's own images; nothing depends on it but who owns the files on the shared volume."""
SPEC_MOUNT = "/etc/tutelage"
HEAD_ACCOUNT, WORKER_ACCOUNT = "tutelage-head", "tutelage-worker"
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}

WITHOUT_GPU = {"NVIDIA_VISIBLE_DEVICES": "void"}
"""For NVIDIA's container runtime, which may show all GPUs of a node to a container that asked for none."""

# What a cluster's autoscaler may not move to another node: it would start anew, and the head's end is the job's.
_STAYS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
_LOST_NODE: list[dict[str, Any]] = [
    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_SECONDS}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
]

CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
TMP_MOUNT = {"name": "tmp", "mountPath": "/tmp"}
_TMP_VOLUME: dict[str, Any] = {"name": "tmp", "emptyDir": {}}
API_MOUNT = {"name": "api-token", "mountPath": TOKEN_MOUNT, "readOnly": True}
# What Kubernetes would put into every container by itself; so it is in the one that needs it.
_API_VOLUME: dict[str, Any] = {
    "name": "api-token",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    },
}


def resources(cpu: str, memory: str, disk: str = "1Gi", gpus: int = 0) -> dict[str, Any]:
    """Requests equal to limits: what a pod was promised is what it may use, and it is the last to be evicted.

    ``disk`` is for logs and the folders that end with the pod.
    """
    amounts = {"cpu": cpu, "memory": memory, "ephemeral-storage": disk}
    amounts |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    return {"requests": amounts, "limits": dict(amounts)}


def environment(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Variables as Kubernetes wants them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def head_pod(
    options: RenderOptions, image: str, config_map: str, labels: Mapping[str, str], scales: bool
) -> dict[str, Any]:
    """Ray's head: the driver and Ray's own services, and none of the work."""
    more = {
        **WITHOUT_GPU,
        # Ray stops a job by a signal to the driver, and kills it three seconds later: too soon to leave things tidy.
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": "20",
        # The runner asks for a stage's nodes just before the stage, not all of them at the start.
        **({"TUTELAGE_NODES": "later"} if scales else {}),
        # All pods mount the same models: one that is missing for the head is missing for all.
        "TUTELAGE_CACHE_SHARED": "1",
        # An error that new nodes would not change is not tried again.
        "TUTELAGE_ATTEMPTS": str(options.retries + 1),
    }
    container = {
        **_ray_container("ray-head", options, image, resources("2", "8Gi", "10Gi"), more),
        "ports": [{"name": name, "containerPort": port} for name, port in HEAD_PORTS.items()],
        # A pod that is deleted or moved: `ray start` drains, and tells the driver nothing.
        "lifecycle": {"preStop": {"exec": {"command": ["python", "-m", "runner.kubernetes.pre_stop"]}}},
    }
    volumes = _volumes(options, config_map) + ([_API_VOLUME] if scales else [])
    return _ray_pod(_pod(labels, HEAD_ACCOUNT, container, volumes))


def worker_pod(
    group: Group, options: RenderOptions, image: str, config_map: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A pod of the group, on a node that has its accelerator."""
    size = resources(str(group.cores), f"{group.gib}Gi", "20Gi", group.gpus)
    container = _ray_container("ray-worker", options, image, size, {} if group.gpus else WITHOUT_GPU)
    pod = _pod(labels, WORKER_ACCOUNT, container, _volumes(options, config_map))
    placed = placement(CLOUDS[options.cloud], group.accelerator, group.gpus)
    pod["spec"]["tolerations"] += placed.pop("tolerations", [])
    pod["spec"] |= placed
    return _ray_pod(pod)


# A submitter waits for the job's next line without a time limit, and a head that is lost with its node closes nothing.
# So it ends after 40 seconds of silence, and its Job tries twice more: all within the five minutes after which the
# operator would give up for good. Then its failure is what the operator sees, and that is tried again. KubeRay
# sets the variable; the path asks for no token.
_ASK_THE_HEAD = (
    "import os, urllib.request as request; "
    "request.urlopen('http://' + os.environ['RAY_DASHBOARD_ADDRESS'] + '/api/gcs_healthz', timeout=5)"
)
_SILENCE = {"periodSeconds": 10, "timeoutSeconds": 6, "failureThreshold": 4}
SUBMITTER_GRACE_SECONDS = 5
"""The first process of its container is a shell, or Python, which ignores SIGTERM."""


def submitter_pod(image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The pod in which the operator submits the job to Ray; the operator gives it its command."""
    container = {
        "name": "ray-job-submitter",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment({"HOME": "/tmp", **WITHOUT_GPU}),
        "resources": resources("500m", "1Gi"),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [TMP_MOUNT],
        "livenessProbe": {"exec": {"command": ["python", "-c", _ASK_THE_HEAD]}, **_SILENCE},
    }
    pod = _pod(labels, WORKER_ACCOUNT, container, [_TMP_VOLUME])
    pod["spec"] |= {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": SUBMITTER_GRACE_SECONDS,
        "affinity": {"podAffinity": _beside_the_head(labels)},
    }
    return pod


def _beside_the_head(labels: Mapping[str, str]) -> dict[str, Any]:
    """Where there is room: the image is there already."""
    head = {"matchLabels": {**labels, "ray.io/node-type": "head"}}
    term = {"labelSelector": head, "topologyKey": "kubernetes.io/hostname"}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}


def _pod(
    labels: Mapping[str, str], account: str, container: dict[str, Any], volumes: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "metadata": {"labels": dict(labels), "annotations": dict(_STAYS)},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": _POD_SECURITY,
            "containers": [container],
            "volumes": volumes,
            "tolerations": [dict(toleration) for toleration in _LOST_NODE],
        },
    }


def _ray_pod(pod: dict[str, Any]) -> dict[str, Any]:
    pod["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    return pod


def _ray_container(
    name: str, options: RenderOptions, image: str, size: dict[str, Any], more: Mapping[str, str]
) -> dict[str, Any]:
    secrets = [{"secretRef": {"name": secret}} for secret in options.secrets]
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment({**_every_pods_environment(options), **more}),
        **({"envFrom": secrets} if secrets else {}),
        "resources": size,
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            TMP_MOUNT,
            {"name": "cache", "mountPath": "/cache"},
            {"name": "spec", "mountPath": SPEC_MOUNT, "readOnly": True},
            {"name": "storage", "mountPath": MOUNT},
        ],
    }


def _every_pods_environment(options: RenderOptions) -> dict[str, str]:
    return {
        "HOME": "/cache",
        "TUTELAGE_CACHE": MODELS_FOLDER,
        "HF_HOME": f"{MODELS_FOLDER}/huggingface",
        "HF_HUB_OFFLINE": "0" if options.online else "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # The runner sets these where it starts Ray itself; here Ray is there before it.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_worker_niceness": "0",
    }


def _volumes(options: RenderOptions, config_map: str) -> list[dict[str, Any]]:
    return [
        _TMP_VOLUME,
        {"name": "cache", "emptyDir": {}},
        {"name": "spec", "configMap": {"name": config_map}},
        {"name": "storage", "persistentVolumeClaim": {"claimName": options.claim}},
    ]
