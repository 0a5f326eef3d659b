"""What the manifests say that decides about a RayJob's life: its RayJob, and the spec in its ConfigMap."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

GRACE = 30  # Kubernetes' terminationGracePeriodSeconds
TOLERATED = 300  # Kubernetes' DefaultTolerationSeconds, for a node that is not ready or not reachable


class Facts:
    """Of one job; ``mode`` in place of its submissionMode."""

    def __init__(self, objects: list[dict[str, Any]], mode: str | None = None) -> None:
        (self.rayjob,) = [one for one in objects if one["kind"] == "RayJob"]
        self.others = [one for one in objects if one["kind"] != "RayJob"]
        if mode:
            self.rayjob = {**self.rayjob, "spec": {**self.rayjob["spec"], "submissionMode": mode}}
        self.spec = self.rayjob["spec"]
        self.cluster = self.spec["rayClusterSpec"]
        self.scales = self.cluster.get("enableInTreeAutoscaling", False)
        self.groups = self.cluster["workerGroupSpecs"]
        self.head = self.cluster["headGroupSpec"]["template"]["spec"]
        self.words = shlex.split(self.spec["entrypoint"])
        (text,) = [one["data"]["spec.yaml"] for one in objects if "spec.yaml" in one.get("data", {})]
        self.job = yaml.safe_load(text)

    @property
    def restarts_in_place(self) -> bool:
        """Not with autoscaler v2 (common/pod.go, DefaultHeadPodTemplate): KubeRay makes another pod."""
        second = self.cluster.get("autoscalerOptions", {}).get("version") == "v2"
        return not (self.scales and second) and self.head.get("restartPolicy", "Always") != "Never"

    @property
    def grace(self) -> int:
        pods = [self.head, *(group["template"]["spec"] for group in self.groups)]
        return max(int(pod.get("terminationGracePeriodSeconds", GRACE)) for pod in pods)

    @property
    def head_grace(self) -> int:
        return int(self.head.get("terminationGracePeriodSeconds", GRACE))

    @property
    def stops_the_run(self) -> bool:
        """Whether the head's pod stops the run before it ends."""
        return "preStop" in self.head["containers"][0].get("lifecycle", {})

    @property
    def wait(self) -> int:
        """How long the run waits for its pods."""
        return int(self.words[self.words.index("--wait") + 1])

    @property
    def durable(self) -> bool:
        """Whether the run folder outlives the cluster: behind a URL, or on a volume that is claimed."""
        place = self.words[self.words.index("--runs-dir") + 1]
        claims = {one["name"] for one in self.head["volumes"] if "persistentVolumeClaim" in one}
        mounts = [one["mountPath"] for one in self.head["containers"][0]["volumeMounts"] if one["name"] in claims]
        return "://" in place or any(place.startswith(f"{mount}/") for mount in mounts)

    @property
    def gpus(self) -> bool:
        return any(group["rayStartParams"].get("num-gpus", "0") != "0" for group in self.groups)

    @property
    def submitter(self) -> dict[str, Any]:
        pod: dict[str, Any] = self.spec["submitterPodTemplate"]["spec"]
        return pod

    @property
    def placements(self) -> set[bool]:
        """Whether the submitter may be on the head's node (True), or on another one (False)."""
        affinity = self.submitter.get("affinity", {}).get("podAffinity", {})
        if "ray.io/node-type" in str(affinity.get("requiredDuringSchedulingIgnoredDuringExecution")):
            return {True}
        preferred = "ray.io/node-type" in str(affinity.get("preferredDuringSchedulingIgnoredDuringExecution"))
        return {True, False} if preferred else {False}

    @property
    def submitter_grace(self) -> int:
        return int(self.submitter.get("terminationGracePeriodSeconds", GRACE))

    @property
    def submitter_tolerates(self) -> int:
        """Seconds on a node that is not there any more, until the pod is marked for deletion."""
        keys = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
        own = [one for one in self.submitter.get("tolerations", []) if one.get("key") in keys]
        return max((int(one["tolerationSeconds"]) for one in own), default=TOLERATED)

    @property
    def probe(self) -> int | None:
        """After how many seconds without an answer from the head the kubelet ends the submitter."""
        probe = self.submitter["containers"][0].get("livenessProbe")
        if probe is None:
            return None
        grace = probe.get("terminationGracePeriodSeconds", self.submitter_grace)
        return int(probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3) + grace)

    @property
    def hourly(self) -> float:
        """USD an hour with all groups at their most, by the spec's own prices."""
        job, most = self.job, {group["groupName"]: group["maxReplicas"] for group in self.groups}
        prices = {"teacher": job["teacher"]["price_per_hour"], "student": job["benchmark"]["price_per_hour"]}
        further = {f"benchmark-{at + 1}": one["price_per_hour"] for at, one in enumerate(job["benchmark"]["hardware"])}
        return sum(int(most[name]) * float(price or 0) for name, price in (prices | further).items() if name in most)

    def usd(self, seconds: int) -> float:
        """Of all groups at their most."""
        return self.hourly * seconds / 3600

    @property
    def stop_seconds(self) -> int:
        """Between Ray's signal to the run and its SIGKILL (3 by default: job_supervisor.py)."""
        environment = {one["name"]: one.get("value") for one in self.head["containers"][0]["env"]}
        return int(environment.get("RAY_JOB_STOP_WAIT_TIME_S") or 3)

    @property
    def promised(self) -> float | None:
        """The USD that the annotation names as the most that may be spent; None where it knows no price."""
        said = self.rayjob["metadata"]["annotations"]["tutelage/cost"]
        return max((float(one.replace(",", "")) for one in re.findall(r"USD ([\d,]+(?:\.\d+)?)", said)), default=None)
