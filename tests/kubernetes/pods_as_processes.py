"""The pods of a rendered job as processes of this machine: the operator's own commands and environment, Ray with its
token, dashboard and jobs.

Three things differ from pods. What they mount is a folder here; ports are free ones, as all share one network; and
what an image would bring along is this Python.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import manifest_checks as checks
import operator_parts
import operator_pods
from processes import free_ports, marked

from runner.kubernetes.manifest import render
from runner.kubernetes.options import RenderOptions
from runner.spec import load_spec

START_SECONDS = 180.0
GRACE_SECONDS = 30
"""That Kubernetes waits between SIGTERM and SIGKILL, where a pod does not say."""
NODE_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
    "node-manager-port",
    "object-manager-port",
)
SMALL = {"min-worker-port": "0", "max-worker-port": "0", "object-store-memory": "100000000"}


def wait_until(ready: Callable[[], object], what: Callable[[], str], seconds: float = START_SECONDS) -> None:
    """Until ``ready``; ``what`` is said if it takes longer."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, what()
        time.sleep(0.1)


class Namespace:
    """What outlives a cluster: the volume, the ConfigMap, and the rendered RayJob."""

    def __init__(self, root: Path, spec: str) -> None:
        self.root = root
        self.mounts = {"/mnt/tutelage": root / "volume", "/etc/tutelage": root / "etc", "/cache": root / "cache"}
        for folder in (*self.mounts.values(), self.volume / "data"):
            folder.mkdir(exist_ok=True)
        (root / "spec.yaml").write_text(spec, encoding="utf-8")
        config_map, job = render(load_spec(root / "spec.yaml"), RenderOptions()).objects
        for name, text in config_map["data"].items():
            (self.mounts["/etc/tutelage"] / name).write_text(self.here(text), encoding="utf-8")
        self.job: dict[str, Any] = json.loads(self.here(json.dumps(job)))

    @property
    def volume(self) -> Path:
        return self.mounts["/mnt/tutelage"]

    def here(self, text: str) -> str:
        """With the folders in the place of what pods mount."""
        for mount, folder in self.mounts.items():
            text = text.replace(mount, str(folder))
        return text


class Pod:
    """A container's command at work, with all that it starts; ``said`` is what `kubectl logs` would show."""

    def __init__(self, container: dict[str, Any], values: dict[str, str], folder: Path, grace: int) -> None:
        self.folder, self.grace = folder, grace
        self.environment = {one["name"]: _value(one, values) for one in container["env"]}
        self._pre_stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        self._log = open(folder / "log", "wb")  # noqa: SIM115 (open as long as the pod is there)
        self.process = subprocess.Popen(
            [*container["command"], *container["args"]],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=self._variables,
            start_new_session=True,
            # A shell starts background jobs with Ctrl-C ignored, and children inherit that; containers do not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @property
    def _variables(self) -> dict[str, str]:
        return _image() | self.environment | {"TEST_POD": str(self.folder)}

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def ended(self, seconds: float) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {seconds} s: {self.said[-3000:]}") from None

    def delete(self) -> float:
        """As `kubectl delete pod`: its hook, SIGTERM to its first process, SIGKILL for all after the grace; how long it
        took."""
        begun = time.monotonic()
        if self._pre_stop:
            subprocess.run(self._pre_stop, env=self._variables, timeout=self.grace, check=True)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0, self.grace - (time.monotonic() - begun)))
        taken = time.monotonic() - begun
        self.kill()
        return taken

    def kill(self) -> None:
        """Everything at once, as a machine dies, and as all of a pod ends with its first process."""
        end = time.monotonic() + 30
        while left := list(marked(str(self.folder))):
            for pid, _ in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < end, left
            time.sleep(0.05)
        self.process.wait(10)
        self._log.close()


def _value(variable: dict[str, Any], values: dict[str, str]) -> str:
    if "value" in variable:
        return str(variable["value"])
    ((kind, reference),) = variable["valueFrom"].items()
    return values[reference["key"] if kind == "secretKeyRef" else reference["fieldPath"]]


def _image() -> dict[str, str]:
    """What the image's environment stands for; nothing else of this process is passed on."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return {"PATH": ":".join(folders), "PYTHONPATH": str(checks.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


class Cluster:
    """One RayCluster of the job: a head, workers as they are asked for, and submitters."""

    def __init__(self, namespace: Namespace) -> None:
        self.token = secrets.token_hex(32)
        self.folder = Path(tempfile.mkdtemp(prefix="pods-", dir="/tmp"))  # short: Ray's sockets lie in it
        self.pods: dict[str, Pod] = {}
        self._job = copy.deepcopy(namespace.job)
        self.submission = operator_pods.cluster_name(self._job)
        gcs, dashboard, client = map(str, free_ports(3))
        self.dashboard = f"127.0.0.1:{dashboard}"
        self._ports = {"port": gcs, "dashboard-port": dashboard, "ray-client-server-port": client}

    def __enter__(self) -> Cluster:
        try:
            self.head = self._start_node("head")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods.values():
            pod.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_worker(self, name: str = "worker") -> Pod:
        """A pod of the first group, once it is ready."""
        return self._start_node(name)

    def submit(self, name: str = "submitter") -> Pod:
        """The pod that submits the job and follows it, at work."""
        pod = self._built(self._job)["submitter"]
        return self._run(name, pod, pod["containers"][0])

    def _start_node(self, name: str) -> Pod:
        """A node of Ray, once the operator's init container and probe are content."""
        job = copy.deepcopy(self._job)
        spec = job["spec"]["rayClusterSpec"]
        # A pod has a network and a disk of its own; here each gets ports and a folder instead.
        ports = dict(zip(NODE_PORTS, map(str, free_ports(len(NODE_PORTS))), strict=True))
        own = {**ports, **SMALL, "temp-dir": str(self.folder / name / "ray")}
        spec["headGroupSpec"]["rayStartParams"] |= self._ports | own
        spec["workerGroupSpecs"][0]["rayStartParams"] |= own
        built = self._built(job)["head" if name == "head" else spec["workerGroupSpecs"][0]["groupName"]]
        for container in built.get("initContainers", []):
            init = self._run(f"{name}-init", built, container)
            assert init.ended(START_SECONDS) == 0, init.said
        (container, *_) = built["containers"]
        pod, probe = self._run(name, built, container), container["readinessProbe"]["httpGet"]

        def ready() -> bool:
            assert pod.process.poll() is None, pod.said
            return ask(f"http://127.0.0.1:{probe['port']}{probe['path']}")[0] == 200

        wait_until(ready, lambda: f"{name} does not come up: {pod.said}")
        return pod

    def _built(self, job: dict[str, Any]) -> dict[str, Any]:
        """The operator's pods, which find the head on this machine."""
        metadata = {"name": operator_pods.cluster_name(job), "namespace": job["metadata"]["namespace"]}
        service = operator_parts.head_service({"metadata": metadata})
        places = {f"{service}:{operator_parts.DASHBOARD_PORT}": self.dashboard, service: "127.0.0.1"}
        built = {}
        for one in operator_pods.built_pods(job):
            text = json.dumps(one.pod["spec"])
            for name, place in places.items():
                text = text.replace(name, place)
            built[one.name] = json.loads(text)
        return built

    def _run(self, name: str, pod: dict[str, Any], container: dict[str, Any]) -> Pod:
        folder = self.folder / name
        folder.mkdir()
        values = {"auth_token": self.token, "metadata.name": f"{self.submission}-{name}"}
        values |= {"metadata.namespace": "tutelage", "metadata.labels['ray.io/cluster']": self.submission}
        values |= {"metadata.labels['ray.io/group']": name}
        self.pods[name] = Pod(container, values, folder, pod.get("terminationGracePeriodSeconds", GRACE_SECONDS))
        return self.pods[name]

    def ask(self, path: str, method: str = "GET") -> Any:
        """What the dashboard answers to whoever has the token, as the operator has it."""
        status, body = ask(f"http://{self.dashboard}{path}", self.token, method)
        assert status == 200, (status, body)
        return json.loads(body)

    def job_status(self) -> dict[str, Any]:
        """The job as the operator sees it."""
        status: dict[str, Any] = self.ask(f"/api/jobs/{self.submission}")
        return status

    def everything_said(self) -> str:
        """All logs, those of Ray too, which its dashboard shows; and the command lines, which every process sees."""
        logs = [path.read_text(errors="replace") for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join([*logs, *(command for _, command in marked(str(self.folder)))])


def ask(url: str, token: str = "", method: str = "GET") -> tuple[int, str]:
    """Status and body; 0 where nobody answers."""
    request = urllib.request.Request(url, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
