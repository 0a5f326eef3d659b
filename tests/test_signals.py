"""Ctrl-C and SIGTERM in every stage, and a Ray that dies: a line, a status, no process, and the same command goes on.

One job goes through all stages, is stopped in each, and ends as one that was never stopped. `make test-signals` does
so five times for each signal.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import stopping

SIGNALS = {signal.SIGINT: (130, "KeyboardInterrupt"), signal.SIGTERM: (143, "Terminated")}
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


def stop_in(folder: Path, stage: str, number: int, delay: float, again: float | None = None) -> str:
    """Run until the stage has begun, send the signal, and look at all that is promised; what was said."""
    command = stopping.run(folder)
    try:
        assert command.until("stage_started", stage), command.said[-3000:]
        status, _ = stopping.stop(command, number, delay, again)
        assert command.all_gone() == []
        assert (status, command.said) == (SIGNALS[signal.Signals(number)][0], stopping.LINE)
    finally:
        command.kill()
    last = stopping.events(folder)[-2:]
    assert [one["event"] for one in last] == ["stage_failed", "run_failed"]
    assert {one["error"] for one in last} == {SIGNALS[signal.Signals(number)][1]}
    return command.said


def finish(folder: Path, undisturbed: dict[str, Any]) -> None:
    command = stopping.run(folder)
    assert command.ended(600) == 0, command.said[-3000:]
    assert command.said == ""
    assert stopping.outcome(folder) == undisturbed


@pytest.mark.signals
@pytest.mark.parametrize("repeat", range(5))
@pytest.mark.parametrize("number", list(SIGNALS))
def test_a_job_that_is_stopped_in_every_stage_ends_as_one_that_never_was(
    undisturbed: dict[str, Any], tmp_path: Path, number: int, repeat: int
) -> None:
    chance = random.Random(f"{number} {repeat}")
    stopping.write_job(tmp_path)
    for stage in stopping.STAGES:
        delay = 0.0 if stage in QUICK else chance.uniform(0, 3)
        stop_in(tmp_path, stage, number, delay, again=0.3 if repeat % 2 else None)
    finish(tmp_path, undisturbed)


@pytest.mark.signals
@pytest.mark.parametrize("what", ["raylet/raylet", "gcs_server"])
@pytest.mark.parametrize("stage", [stage for stage in stopping.STAGES if stage not in QUICK])
def test_a_ray_that_dies_is_said_in_every_stage(tmp_path: Path, stage: str, what: str) -> None:
    stopping.write_job(tmp_path)
    ray_dies_in(tmp_path, stage, what)


def ray_dies_in(folder: Path, stage: str, what: str) -> None:
    """Kill that process of Ray once the stage's work has begun."""
    command = stopping.run(folder)
    try:
        assert command.until("stage_started", stage), command.said[-3000:]
        while not (found := command.pids(what)) or not command.pids("ray::"):
            assert command.process.poll() is None
        os.kill(found[0], signal.SIGKILL)
        status = command.ended()
        assert command.all_gone() == []
        assert status == 1
        (line,) = command.said.splitlines()
        assert line.startswith("tutelage: Ray died under the run: ")
        assert line.endswith("what was finished is kept, the same command goes on from there")
    finally:
        command.kill()
    last = stopping.events(folder)[-2:]
    assert [(one["event"], one["stage"]) for one in last] == [("stage_failed", stage), ("run_failed", None)]
