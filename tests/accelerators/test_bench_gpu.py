"""`bench/gpu.py` as far as it goes without a GPU and without an engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.parametrize(
    ("product", "kind"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA A100 80GB PCIe", "A100-80G"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_products_are_the_kinds_of_a_spec(product: str, kind: str | None) -> None:
    from gpu_machine import kind_of

    from runner.system.accelerators import known

    assert kind_of(product) == kind
    assert kind is None or known(kind)


def test_a_stand_in_counts_as_the_real_model_and_takes_no_room(tmp_path: Path) -> None:
    from gpu_models import TEACHERS, teacher

    from runner import models

    found = {}
    for one in TEACHERS:
        folder, real = teacher(one, tmp_path)
        if not real:
            found[one.name] = models.describe(folder)
    assert found["qwen2.5-7b"].parameters == 7_615_616_512  # as on the model's card: 7.61 B
    assert found["mixtral-8x7b"].parameters == 46_702_792_704  # 46.7 B
    assert found["mixtral-8x7b"].kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    for file in tmp_path.rglob("*.safetensors"):
        assert file.stat().st_blocks * 512 < 10**6


@pytest.mark.slow("subprocess")
def test_without_a_gpu_it_prints_what_can_be_computed_of_each_kind() -> None:
    from runner.system.accelerators import accelerators

    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCH / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.startswith("torch sees no GPU here: nothing is measured")
    assert {line.split()[2] for line in lines} == set(accelerators())
    [line] = [line for line in lines if line.split()[:4] == ["2", "x", "H100", "mixtral-8x7b"]]
    assert " fits " in line and "vLLM: bfloat16, 1024 sequences, 16384 tokens a step" in line


def _record(rate: float, rehearsal: bool = False) -> dict[str, Any]:
    machine = {"count": 1, "product": "NVIDIA H200", "cpu": "a processor"}
    ours = {"contender": "ours", "direct": {"rows_per_second": rate, "tokens_per_second": rate}}
    one = {"name": "qwen2.5-7b", "gpus": 1, "weights": "random", "plan": {"memory": {"need_gib": 1}}, "ours": ours}
    return {
        "date": "2026-11-30T12:00:00+0000",
        "what": "measured on GPUs",
        "rehearsal": rehearsal,
        "machine": machine,
        "teachers": [one],
        "student": {"fp16": {"say": {"texts_per_second": {"ours": 2 * rate}}}} if rate > 1 else None,
    }


def _compared(root: Path, *records: dict[str, Any]) -> str:
    paths = []
    for number, record in enumerate(records):
        paths.append(str(root / f"{number}.json"))
        Path(paths[-1]).write_text(json.dumps(record))
    done = subprocess.run(
        [sys.executable, str(BENCH / "gpu.py"), "--compare", *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow("subprocess")
def test_two_records_are_compared_figure_by_figure(tmp_path: Path) -> None:
    said = _compared(tmp_path, _record(100.0), _record(150.0)).splitlines()
    assert said[0].startswith("A: ") and "1 x NVIDIA H200" in said[0]
    place = "qwen2.5-7b on 1, random > ours > direct > rows_per_second"
    [line] = [line for line in said if line.endswith(place)]
    assert line.split()[:3] == ["100", "150", "1.50"]
    assert not [line for line in said if "need_gib" in line], "what plan says is no figure of a machine"


@pytest.mark.slow("subprocess")
def test_a_rehearsal_is_never_taken_for_a_measurement(tmp_path: Path) -> None:
    said = _compared(tmp_path, _record(1.0), _record(150.0, rehearsal=True))
    assert "one of them is a rehearsal: nothing follows from a comparison" in said
    assert "only B: student > fp16 > say > texts_per_second > ours 300" in said


@pytest.mark.slow("subprocess")
def test_a_part_that_fails_or_is_late_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    import gpu

    session = gpu.Session(time.monotonic() + 100, True, {})
    assert session.part("student", {"tiny": True}, "student") is None  # the job lacks the numbers of rows
    assert session.left_out[0].startswith("student: ended with status 1: KeyError: 'train_rows'")
    monkeypatch.setattr(session, "end", time.monotonic() + 5)
    assert session.part("student", {}, "late") is None
    assert session.left_out[1] == "late: no time was left (--minutes)"
    found, reason = gpu._run("student", {"tiny": True}, 0.2)
    assert found is None and reason == "not done within the 0 s that were left"
