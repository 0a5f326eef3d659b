"""Ctrl-C and SIGTERM in every stage, and a Ray that dies: a line, a status, no process, and the same command goes on.

One job goes through all stages, is stopped in each, and ends as one that was never stopped. `make test-signals` does
so five times for each signal.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import stopping

QUICK = ("load", "vote")
"""Over in a moment: the signal is sent as they begin."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    stopping.write_job(folder)
    command = stopping.run(folder)
    assert command.ended(600) == 0, command.said[-3000:]
    assert command.all_gone() == []
    return stopping.outcome(folder)


def finish(folder: Path, undisturbed: dict[str, Any]) -> None:
    command = stopping.run(folder)
    assert command.ended(600) == 0, command.said[-3000:]
    assert command.said == ""
    assert stopping.outcome(folder) == undisturbed


@pytest.mark.signals
@pytest.mark.parametrize("repeat", range(5))
@pytest.mark.parametrize("number", list(stopping.SIGNALS))
def test_a_job_that_is_stopped_in_every_stage_ends_as_one_that_never_was(
    undisturbed: dict[str, Any], tmp_path: Path, number: int, repeat: int
) -> None:
    chance = random.Random(f"{number} {repeat}")
    stopping.write_job(tmp_path)
    for stage in stopping.STAGES:
        delay = 0.0 if stage in QUICK else chance.uniform(0, 3)
        stopping.stop_in(tmp_path, stage, number, delay, again=0.3 if repeat % 2 else None)
    finish(tmp_path, undisturbed)


@pytest.mark.signals
@pytest.mark.parametrize("what", ["raylet/raylet", "gcs_server"])
@pytest.mark.parametrize("stage", [stage for stage in stopping.STAGES if stage not in QUICK])
def test_a_ray_that_dies_is_said_in_every_stage(tmp_path: Path, stage: str, what: str) -> None:
    stopping.write_job(tmp_path)
    stopping.ray_dies_in(tmp_path, stage, what)
