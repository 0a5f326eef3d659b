"""Writes what pods of a rendered job are started with: rendered.py MANIFEST FOLDER; a check of images runs it in one.

The commands are as KubeRay makes them of ``rayStartParams`` (ray-operator/controllers/ray/common/pod.go,
generateRayStartCommand and setMissingRayStartParams), but for the memory of a node, which Ray finds itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

COMPLETED = {"block": "true", "dashboard-agent-listen-port": "52365", "metrics-export-port": "8080"}


def command(params: dict[str, str], **more: str) -> str:
    """``ray start`` with a group's parameters; such as are "true" are flags."""
    words = [
        f"--{name}" if value == "true" else f"--{name}={value}" for name, value in (COMPLETED | more | params).items()
    ]
    return f"ulimit -n 65536; exec ray start {' '.join(words)}\n"


def environment(group: dict[str, Any]) -> str:
    container = group["template"]["spec"]["containers"][0]
    return "".join(f"{entry['name']}={entry['value']}\n" for entry in container["env"] if "value" in entry)


def main(manifest: Path, folder: Path) -> None:
    config_map, job = (one for one in yaml.safe_load_all(manifest.read_text(encoding="utf-8")) if one)
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    worker = max(cluster["workerGroupSpecs"], key=lambda group: int(group["rayStartParams"]["num-cpus"]))
    files = config_map["data"] | {
        "head.sh": command(head["rayStartParams"], head="true", **{"dashboard-host": "0.0.0.0"}),
        "worker.sh": command(worker["rayStartParams"], address="10.213.1.1:6379"),
        "head.env": environment(head),
        "worker.env": environment(worker),
        "entrypoint": job["spec"]["entrypoint"] + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
