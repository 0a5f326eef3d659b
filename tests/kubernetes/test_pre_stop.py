"""The hook of the head's pod stops the run that is at work there, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.kubernetes.pre_stop import TOKEN

RUN = """
import os, signal, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print("up", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start a stand-in for the program, which is told apart by its command line and its token alone."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *words: str, token: str | None) -> subprocess.Popen[str]:
        (tmp_path / program).write_text(RUN, encoding="utf-8")
        environment = {name: text for name, text in os.environ.items() if name != TOKEN.decode()}
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / program), *words],
            env=environment | ({TOKEN.decode(): token} if token else {}),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def hook(token: str) -> int:
    """As Kubernetes runs it, with the container's environment; its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "runner.kubernetes.pre_stop"], env=os.environ | {TOKEN.decode(): token}
    ).returncode


@pytest.mark.slow("subprocess")
def test_the_run_of_this_pod_is_stopped_and_nothing_else(start: Any) -> None:
    mine = start("tutelage", "run", "spec.yaml", token="mine")
    others = [
        start("tutelage", "run", "spec.yaml", token="another"),
        start("tutelage", "run", "spec.yaml", token=None),
        start("tutelage", "predict", "run", token="mine"),
        start("something", "run", token="mine"),
    ]
    begun = time.monotonic()
    assert hook("mine") == 0
    assert mine.wait(5) == 130
    assert time.monotonic() - begun < 15
    assert [one.poll() for one in others] == [None] * 4


@pytest.mark.slow("subprocess")
def test_without_a_run_it_ends_at_once() -> None:
    begun = time.monotonic()
    assert hook("of nobody") == 0
    assert time.monotonic() - begun < 10


@pytest.mark.slow("subprocess")
def test_a_run_that_does_not_end_is_left_to_the_pods_end(start: Any) -> None:
    stubborn = start("runner", "run", "stubborn", token="mine")
    command = "from runner.kubernetes.pre_stop import stop_runs; print(stop_runs(longest=0.5))"
    done = subprocess.run(
        [sys.executable, "-c", command], env=os.environ | {TOKEN.decode(): "mine"}, capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
    assert stubborn.poll() is None
