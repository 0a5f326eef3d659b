"""A rendered job for real, without Kubernetes: its own command, ConfigMap and environment, on Ray nodes like its pods.

The pods' mounts are folders here, and nothing else is changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import manifest_checks as checks
import pytest

from runner.render import Wish, render
from runner.spec import load_spec

SPEC = """\
version: 1
name: small
task: {labels: [negative, positive]}
data:
  train: {path: train.csv, text: text}
  test: {path: test.csv, text: text, label: label}
teacher: {engine: noop, model: none}
student: {model: /mnt/tutelage/tiny, epochs: 2, max_length: 16, resources: {cpus: 1}}
benchmark: {batch_sizes: [8], rows: 8}
evaluate: {resamples: 100}
"""
PATIENCE = 240.0


class Pods:
    """Folders for what the pods mount, and nodes of Ray for the pods."""

    def __init__(self, root: Path, model: Path) -> None:
        self.mounts = {"/mnt/tutelage": root / "volume", "/etc/tutelage": root / "etc"}
        for folder in (*self.mounts.values(), self.volume / "data"):
            folder.mkdir()
        (self.volume / "tiny").symlink_to(model)
        rows = [f"text {number},{('negative', 'positive')[number % 2]}" for number in range(60)]
        for name, some in (("train", rows[:40]), ("test", rows[40:])):
            (self.volume / "data" / f"{name}.csv").write_text("\n".join(["text,label", *some]), encoding="utf-8")
        (root / "spec.yaml").write_text(SPEC, encoding="utf-8")
        config_map, job = render(load_spec(root / "spec.yaml"), Wish()).objects
        for name, text in config_map["data"].items():
            (self.mounts["/etc/tutelage"] / name).write_text(self._here(text), encoding="utf-8")
        self.cluster: dict[str, Any] = job["spec"]["rayClusterSpec"]
        self.entrypoint: str = self._here(job["spec"]["entrypoint"])

    @property
    def volume(self) -> Path:
        return self.mounts["/mnt/tutelage"]

    def _here(self, text: str) -> str:
        for mount, folder in self.mounts.items():
            text = text.replace(mount, str(folder))
        return text

    def environment(self) -> dict[str, str]:
        container = self.cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
        given = {one["name"]: self._here(one["value"]) for one in container["env"] if one["name"] != "HOME"}
        return given | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(checks.ROOT)}

    def start(self, address: str) -> subprocess.Popen[str]:
        """The entry point; there may be other clusters on this machine, so it is told which one is its own."""
        program, *words = self.entrypoint.replace("--address auto", f"--address {address}").split()
        assert program == "tutelage"
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | self.environment(),
        )

    def labelled(self) -> list[Path]:
        return list((self.volume / "runs" / "small" / "label").glob("*/done.json"))


@contextmanager
def ray_cluster(pods: Pods, patch: pytest.MonkeyPatch) -> Iterator[str]:
    from ray.cluster_utils import Cluster as Nodes

    for name, value in pods.environment().items():
        patch.setenv(name, value)
    head = pods.cluster["headGroupSpec"]["rayStartParams"]
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": int(head["num-cpus"]), "include_dashboard": False})
    try:
        for group in pods.cluster["workerGroupSpecs"]:
            for _ in range(group["maxReplicas"]):  # as the autoscaler would bring them up
                params = group["rayStartParams"]
                nodes.add_node(num_cpus=int(params["num-cpus"]), num_gpus=int(params["num-gpus"]))
        yield nodes.address
    finally:
        nodes.shutdown()


@pytest.mark.timeout(2 * PATIENCE)
def test_a_retry_in_a_new_cluster_goes_on_from_shared_storage(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = Pods(tmp_path, tiny_model)
    with ray_cluster(pods, monkeypatch) as address:
        first = pods.start(address)
        deadline = time.monotonic() + PATIENCE
        while not pods.labelled():
            assert first.poll() is None and time.monotonic() < deadline, first.communicate()[0]
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.communicate()
    marker = pods.labelled()[0].read_bytes()
    with ray_cluster(pods, monkeypatch) as address:
        second = pods.start(address)
        said, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, said
    assert any("label" in line and "unchanged, kept" in line for line in said.splitlines()), said
    assert pods.labelled()[0].read_bytes() == marker
    assert (pods.volume / "runs" / "small" / "report.html").is_file()
