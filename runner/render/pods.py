"""A hardened pod for each of the groups.

No root, no capabilities, a root file system that nobody writes to, and no token of the cluster in a process that runs
our code. What is written goes to ``/tmp`` and ``/cache``, which end with the pod, or to the shared volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.render.clouds import CLOUDS, placement
from runner.render.groups import Group
from runner.render.inside import MODELS_FOLDER
from runner.render.wish import MOUNT, Wish

USER = 10001
"""The user of the project's own images; nothing depends on it but who owns the files on the shared volume."""
SPEC_MOUNT = "/etc/tutelage"
HEAD_ACCOUNT, WORKER_ACCOUNT = "tutelage-head", "tutelage-worker"
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}

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


def resources(cpu: str, memory: str, gpus: int = 0) -> dict[str, Any]:
    """Requests equal to limits: what a pod was promised is what it may use, and it is the last to be evicted."""
    amounts = {"cpu": cpu, "memory": memory, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {"requests": amounts, "limits": dict(amounts)}


def head_pod(wish: Wish, image: str, config_map: str, labels: Mapping[str, str], scales: bool) -> dict[str, Any]:
    """Ray's head: the driver and Ray's own services, and none of the work."""
    container = {
        **_ray_container("ray-head", wish, image, resources("2", "8Gi")),
        "ports": [{"name": name, "containerPort": port} for name, port in HEAD_PORTS.items()],
    }
    volumes = _volumes(wish, config_map) + ([_API_VOLUME] if scales else [])
    return _pod(labels, HEAD_ACCOUNT, [container], volumes)


def worker_pod(group: Group, wish: Wish, image: str, config_map: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A pod of the group, on a node that has its accelerator."""
    size = resources(str(group.cores), f"{group.gib}Gi", group.gpus)
    container = _ray_container("ray-worker", wish, image, size)
    pod = _pod(labels, WORKER_ACCOUNT, [container], _volumes(wish, config_map))
    pod["spec"] |= placement(CLOUDS[wish.cloud], group.accelerator, group.gpus)
    return pod


def submitter_pod(image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The pod in which the operator submits the job to Ray; the operator gives it its command."""
    container = {
        "name": "ray-job-submitter",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": resources("500m", "1Gi"),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [TMP_MOUNT],
    }
    pod = _pod(labels, WORKER_ACCOUNT, [container], [_TMP_VOLUME])
    pod["spec"]["restartPolicy"] = "Never"
    return pod


def _pod(
    labels: Mapping[str, str], account: str, containers: list[dict[str, Any]], volumes: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": _POD_SECURITY,
            "containers": containers,
            "volumes": volumes,
        },
    }


def _ray_container(name: str, wish: Wish, image: str, size: dict[str, Any]) -> dict[str, Any]:
    secrets = [{"secretRef": {"name": secret}} for secret in wish.secrets]
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in _environment(wish).items()],
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


def _environment(wish: Wish) -> dict[str, str]:
    return {
        "HOME": "/cache",
        "TUTELAGE_CACHE": MODELS_FOLDER,
        "HF_HOME": f"{MODELS_FOLDER}/huggingface",
        "HF_HUB_OFFLINE": "0" if wish.online else "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # The runner sets these where it starts Ray itself; here Ray is there before it.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_worker_niceness": "0",
    }


def _volumes(wish: Wish, config_map: str) -> list[dict[str, Any]]:
    return [
        _TMP_VOLUME,
        {"name": "cache", "emptyDir": {}},
        {"name": "spec", "configMap": {"name": config_map}},
        {"name": "storage", "persistentVolumeClaim": {"claimName": wish.claim}},
    ]
