"""All of it together: the ConfigMap with the spec, and the RayJob that runs it (KubeRay 1.7, ``ray.io/v1``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.kubernetes.clouds import CLOUDS, lack
from runner.kubernetes.cost import cost_line, plan_line
from runner.kubernetes.groups import Group, groups_of, with_cpus
from runner.kubernetes.lifetime import HOUR_SECONDS, IDLE_SECONDS, NODE_SECONDS, TEACHER_IDLE_SECONDS, kept_seconds
from runner.kubernetes.names import kubernetes_name
from runner.kubernetes.options import RenderOptions
from runner.kubernetes.pods import (
    API_MOUNT,
    CONTAINER_SECURITY,
    SPEC_MOUNT,
    TMP_MOUNT,
    WITHOUT_GPU,
    environment,
    head_pod,
    resources,
    submitter_pod,
    worker_pod,
)
from runner.kubernetes.relocate import SPEC_FILE, RelocatedSpec, relocate_for_pods
from runner.kubernetes.size import size_line
from runner.kubernetes.yaml_text import documents
from runner.planning.check import check_models
from runner.spec import Spec
from runner.system.errors import SpecError

RAY_VERSION = "2.60.0"
"""Of the images; KubeRay wants to know it before it turns token authentication on."""

REDIS_PASSWORD_KEY = "redis-password"


@dataclass(frozen=True)
class Rendered:
    """``objects`` in the order in which they are applied; ``needs``: what must be in the cluster before."""

    objects: tuple[dict[str, Any], ...]
    needs: tuple[str, ...]

    @property
    def yaml(self) -> str:
        """The objects as YAML documents."""
        return documents(self.objects)


def render(spec: Spec, options: RenderOptions, with_plan: bool = False) -> Rendered:
    """The objects that run ``spec`` on Kubernetes. Nothing is written and no cluster is asked.

    :raises SpecError: when the cloud has no such accelerator, or no pod can reach a file or model.
    :raises UserError: when the spec does not fit into a ConfigMap, or the teacher into its GPUs.
    """
    spec = with_cpus(spec)
    _check_nodes(spec, options)
    relocated = relocate_for_pods(spec, options)
    _check_gpus_hold_teachers(spec)
    name = kubernetes_name(spec.name)
    config_map = {
        **_object("v1", "ConfigMap", f"{name}-spec", options, _labels(name)),
        "data": relocated.files,
    }
    labels = _labels(name) | ({"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {})
    job = _object("ray.io/v1", "RayJob", name, options, labels)
    job["metadata"]["annotations"] = {
        "tutelage/spec-name": spec.name,
        "tutelage/cost": cost_line(spec, options),
        **({"tutelage/plan": plan_line(spec)} if with_plan else {}),
    }
    job["spec"] = _job(relocated, options, name, f"{name}-spec")
    return Rendered((config_map, job), (*_needs_by_name(options), size_line(job), *relocated.needs))


def _needs_by_name(options: RenderOptions) -> Iterator[str]:
    """What the manifest names and does not hold. Kubernetes would let the pods wait for it."""
    for secret in options.secrets:
        yield f"{secret}: a Secret of the namespace {options.namespace}"
    if options.queue:
        yield f"{options.queue}: a LocalQueue of the namespace {options.namespace}"


def _check_nodes(spec: Spec, options: RenderOptions) -> None:
    problems = []
    for group in groups_of(spec):
        if lacking := lack(CLOUDS[options.cloud], group.accelerator, group.gpus):
            field, code, message = lacking
            problems.append(spec.places.problem((*group.place, field), code, message))
    if problems:
        raise SpecError(problems)


def _check_gpus_hold_teachers(spec: Spec) -> None:
    for each in spec.teachers():
        if not each.teacher.model.startswith("/"):  # a folder of the volume, of which nothing is known here
            check_models(each, elsewhere=True)


def _object(version: str, kind: str, name: str, options: RenderOptions, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": options.namespace, "labels": labels},
    }


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "tutelage", "app.kubernetes.io/instance": name}


def _job(relocated: RelocatedSpec, options: RenderOptions, name: str, config_map: str) -> dict[str, Any]:
    run_options = f"--address auto --wait {NODE_SECONDS} --runs-dir {options.runs_dir}"
    scales = _scales(options)
    groups = groups_of(relocated.spec, fixed=not scales)
    with_gpus = any(group.gpus for group in groups)
    return {
        # A fixed path: nothing of the spec gets near the shell that reads this line.
        "entrypoint": f"tutelage run {SPEC_MOUNT}/{SPEC_FILE} {run_options}",
        "submissionMode": "K8sJobMode",
        "backoffLimit": options.retries,
        "activeDeadlineSeconds": options.hours * HOUR_SECONDS,
        # A head that never comes up, for want of its image or of a node, is tried again rather than waited for.
        "preRunningDeadlineSeconds": NODE_SECONDS,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": kept_seconds(options),
        **({} if scales else {"suspend": True}),
        "submitterPodTemplate": submitter_pod(options.head_image_for(with_gpus), _labels(name)),
        "rayClusterSpec": _cluster(groups, with_gpus, options, config_map, _labels(name)),
    }


def _scales(options: RenderOptions) -> bool:
    """Kueue admits a job as one size and takes none that scales."""
    return options.queue is None


def _cluster(
    groups: tuple[Group, ...], with_gpus: bool, options: RenderOptions, config_map: str, labels: dict[str, str]
) -> dict[str, Any]:
    scales = _scales(options)
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": scales,
        **({"autoscalerOptions": _autoscaler()} if scales else {}),
        **_fault_tolerance(options),
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "enableIngress": False,
            # Left out, Ray would count for itself what the node has.
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
            "template": head_pod(options, options.head_image_for(with_gpus), config_map, labels, scales),
        },
        "workerGroupSpecs": [
            _workers(group, options, options.image_for(with_gpus), config_map, labels)
            | (_scaling(group) if scales else {})
            for group in groups
        ],
    }


def _scaling(group: Group) -> dict[str, Any]:
    # What several could do starts a node of the student's, not of the teacher's or the benchmark's.
    priority = {"priority": int(group.name == "student")}
    return priority | ({"idleTimeoutSeconds": TEACHER_IDLE_SECONDS} if group.name == "teacher" else {})


def _autoscaler() -> dict[str, Any]:
    return {
        "version": "v2",
        "idleTimeoutSeconds": IDLE_SECONDS,
        "imagePullPolicy": "IfNotPresent",
        "env": environment({"HOME": "/tmp", **WITHOUT_GPU}),
        "resources": resources("500m", "1Gi"),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [TMP_MOUNT, API_MOUNT],
    }


def _fault_tolerance(options: RenderOptions) -> dict[str, Any]:
    if options.gcs_redis is None:
        return {}
    redis: dict[str, Any] = {"backend": "redis", "redisAddress": options.gcs_redis}
    if options.secrets:
        reference = {"name": options.secrets[0], "key": REDIS_PASSWORD_KEY, "optional": True}
        redis["redisPassword"] = {"valueFrom": {"secretKeyRef": reference}}
    return {"gcsFaultToleranceOptions": redis}


def _workers(
    group: Group, options: RenderOptions, image: str, config_map: str, labels: dict[str, str]
) -> dict[str, Any]:
    return {
        "groupName": group.name,
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "rayStartParams": _ray_start(group),
        "template": worker_pod(group, options, image, config_map, labels),
    }


def _ray_start(group: Group) -> dict[str, str]:
    """What Ray is told of such a node. The autoscaler reads it too, before there is a node that could be asked."""
    params = {"num-cpus": str(group.ray_cpus), "num-gpus": str(group.gpus)}
    if group.accelerator:
        # KubeRay puts this between other words of a command line, hence the quotes. It and Ray's autoscaler strip them
        # and read the JSON.
        params["resources"] = f"'{json.dumps({f'accelerator_type:{group.accelerator}': 1})}'"
    return params
