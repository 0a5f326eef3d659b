"""A small job that is stopped again and again: what the tests of signals and of a dying Ray share."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import processes
import pyarrow.parquet as pq

STAGES = ("load", "label", "vote", "train", "export", "evaluate", "benchmark", "apply")
SIGNALS = {signal.SIGINT: (130, "KeyboardInterrupt"), signal.SIGTERM: (143, "Terminated")}
LINE = "tutelage: stopped; what was finished is kept, the same command goes on from there\n"
SPEC = """\
version: 1
name: small
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence.
data:
  train: {path: train.csv, text: text}
  test: {path: test.csv, text: text, label: label}
  corpus: {path: corpus.csv, text: text}
teacher: {engine: noop, model: none, batch_size: 8, engine_options: {seconds: 0.05}}
student: {model: "catalog:all-minilm-l6-v2", epochs: 2, precision: fp32, export: [onnx]}
apply: {part_rows: 100}
benchmark: {texts: 1000}
"""


def write_job(folder: Path) -> None:
    """The spec and its data."""
    labels = ("negative", "neutral", "positive")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    _csv(folder / "train.csv", ("text",), [(f"Sales of unit {n} rose by {n % 97} %.",) for n in range(96)])
    test = [(f"Profit of plant {n} fell by {n % 7} %.", labels[n % 3]) for n in range(24)]
    _csv(folder / "test.csv", ("text", "label"), test)
    _csv(folder / "corpus.csv", ("text",), [(f"Orders of plant {n} fell by {n % 7} %.",) for n in range(2000)])


def _csv(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


class Command:
    """A command at work; all that it starts has its mark."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TEST_MARK": self.mark, **environment},
            start_new_session=True,
            # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._said: list[str] = []
        assert self.process.stderr is not None
        self._listener = threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True)
        self._listener.start()

    def _listen(self, stream: Any) -> None:
        self._said.extend(stream)

    @property
    def said(self) -> str:
        """What it wrote to standard error, once it has ended."""
        return "".join(self._said)

    def until(self, event: str, stage: str) -> bool:
        """Read what it tells until that event of that stage; False: it ended before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                self.events.append(json.loads(line))
                if self.events[-1].get("event") == event and self.events[-1].get("stage") == stage:
                    return True
        return False

    def ended(self, seconds: float = 60.0) -> int:
        """Its exit status."""
        assert self.process.stdout is not None
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        status = self.process.wait(seconds)
        self._listener.join(seconds)
        return status

    def pids(self, title: str = "") -> list[int]:
        """Its processes that live, with ``title`` in their command line."""
        return [pid for pid, command in processes.marked(self.mark) if title in command]

    def all_gone(self, seconds: float = 5.0) -> list[str]:
        """What still lives after so long."""
        end = time.monotonic() + seconds
        while (left := list(processes.marked(self.mark))) and time.monotonic() < end:
            time.sleep(0.1)
        return [f"{pid} {command}" for pid, command in left]

    def kill(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def events(folder: Path) -> list[dict[str, Any]]:
    """Those of the job's run folder."""
    text = (folder / "runs" / "small" / "events.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run found, whenever and however often it was stopped."""
    run = folder / "runs" / "small"
    record = json.loads((run / "run.json").read_text())
    places = {stage["name"]: run / stage["name"] / stage["fingerprint"] for stage in record["stages"]}
    applied = sorted((run / "applied").glob("*/part-*.parquet"))
    return {
        "stages": {name: place.name for name, place in places.items()},
        "votes": pq.read_table(places["vote"] / "votes.parquet").to_pylist(),
        "said": pq.read_table(places["evaluate"] / "predictions.parquet")
        .select(["id", "teacher_label", "student_label"])
        .to_pylist(),
        "applied": [(row["text"], row["label"]) for part in applied for row in pq.read_table(part).to_pylist()],
        "half": [str(path) for path in run.rglob("*.tmp")],
    }


def run(folder: Path, *words: str, **environment: str) -> Command:
    """`tutelage run`, which tells what it does."""
    return Command(folder, "run", "spec.yaml", "--json", *words, **environment)


def stop(command: Command, number: int, delay: float = 0.0, again: float | None = None) -> tuple[int, float]:
    """Send the signal after ``delay`` seconds, once more ``again`` seconds later; the status, and how long it took."""
    time.sleep(delay)
    begun = time.monotonic()
    command.process.send_signal(number)
    if again is not None:
        time.sleep(again)
        with suppress(ProcessLookupError):
            command.process.send_signal(number)
    status = command.ended()
    return status, time.monotonic() - begun


def stop_in(folder: Path, stage: str, number: int, delay: float, *words: str, again: float | None = None) -> None:
    """Run until the stage has begun, send the signal, and look at all that is promised."""
    command = run(folder, *words)
    try:
        assert command.until("stage_started", stage), command.said[-3000:]
        status, _ = stop(command, number, delay, again)
        assert command.all_gone() == []
        assert (status, command.said) == (SIGNALS[signal.Signals(number)][0], LINE)
    finally:
        command.kill()
    last = events(folder)[-2:]
    assert [one["event"] for one in last] == ["stage_failed", "run_failed"]
    assert {one["error"] for one in last} == {SIGNALS[signal.Signals(number)][1]}


def ray_dies_in(folder: Path, stage: str, what: str, *words: str) -> None:
    """Kill that process of Ray once the stage's work has begun."""
    command = run(folder, *words)
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
    last = events(folder)[-2:]
    assert [(one["event"], one["stage"]) for one in last] == [("stage_failed", stage), ("run_failed", None)]
