"""The train stage under Ray Train, in processes of its own that are really killed.

Every run has one thread for each worker, so that what a killed one ends with can be held against an undisturbed
one to the bit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from runner.student.fit import PACE

pytestmark = pytest.mark.slow("ray")

SCRIPT = '''
"""Run a job up to training. Where there is a file named disturb-RANK, the worker of that rank kills itself or stands
still at its third checkpoint, once, as the file says; with one named disturb-start, a worker kills itself when it is
handed its work."""
import os, signal, sys, time
from pathlib import Path

sys.modules.update(torch=None, transformers=None, vllm=None)  # as on the head of a cluster, whose image has none

from runner.stages import pipeline
from runner.cluster.cluster import Cluster
from runner.system.errors import TutelageError
from runner.observe.progress import Progress
from runner.spec import load_spec
from runner.stages.contract import Context
from runner.student import training_runs as train
from runner.rundir.folder import Folder

root, overrides = Path(sys.argv[1]), sys.argv[2:]
undisturbed = train.train_loop


def disturbed(config, report, **worker):
    keep, kept = worker["save_checkpoint"], []
    order = root / f"disturb-{worker['rank']}"

    def counted(write):
        keep(write)
        kept.append(write)
        if len(kept) == 3 and order.exists():
            what = order.read_text()
            order.rename(root / f"{what}-done")
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)

    return undisturbed(config, report, **worker | {"save_checkpoint": counted})


class Loop:
    """As the function. A worker unpacks it twice: among its settings, and when it is handed its work."""

    def __call__(self, *arguments, **worker):
        return disturbed(*arguments, **worker)

    def __getstate__(self):
        return {"root": str(root)}

    def __setstate__(self, state):
        order = Path(state["root"]) / "disturb-start"
        if b"RayTrainWorker" not in Path("/proc/self/cmdline").read_bytes() or not order.exists():
            return
        if os.environ.setdefault("UNPACKED_FIRST", str(id(self))) != str(id(self)):
            order.rename(order.with_name("start-done"))
            os.kill(os.getpid(), signal.SIGKILL)


train.train_loop, train.CHECKPOINT_SECONDS = Loop(), 0.0
spec = load_spec(root / "spec.yaml", overrides)
run, cluster = Folder(str(root / "runs" / "small")), Cluster()
try:
    for step in pipeline.steps(spec, run):
        if not step.cached:
            progress = Progress(sys.stdout, "plain")
            pipeline.run_step(step, Context(spec, run, step.folder, step.inputs, cluster, progress))
        if step.stage.NAME == train.STAGE:
            break
except TutelageError as error:
    sys.exit(f"error: {error}")
finally:
    cluster.stop()
'''
BATCH = 8
SECOND_CHECKPOINT = (PACE + 1) * BATCH
"""Texts that were learned by then. Whoever is killed at the third loses at most the time between two."""
WORDS = {"positive": "Profit rose", "negative": "Profit fell", "neutral": "It stayed"}


class Training:
    """A job whose train stage is run in a process of its own."""

    def __init__(self, job: Any, model: Path, workers: int) -> None:
        self.root, self.job = job.root, job
        (self.root / "train.py").write_text(SCRIPT)
        rows = [
            (f"{words} in the year {1900 + year}.", "", *[label] * 3)
            for year in range(40)
            for label, words in WORDS.items()
        ]
        job.csv("train.csv", rows)
        self.command = [sys.executable, str(self.root / "train.py"), str(self.root)]
        wanted = {"model": model, "epochs": 3, "batch_size": BATCH, "precision": "fp32", "learning_rate": 0.01}
        wanted["recipe"] = "fast"  # these texts are easy: a head alone would be enough, and leave no checkpoint
        self.command += [f"student.{name}={value}" for name, value in wanted.items()]
        self.command.append(f"student.resources={{cpus: 1, workers: {workers}}}")

    def start(self) -> subprocess.Popen[str]:
        """Start it, with a controller that looks at its workers often."""
        environment = os.environ | {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment,
        )

    def finish(self) -> str:
        """Run it to its end; what it said."""
        process = self.start()
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    def result(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The stage's summary and the student's weights; the checkpoints must be gone."""
        assert not (self.root / "runs" / "small" / "checkpoints").exists()
        [marker] = (self.root / "runs" / "small" / "train").glob("*/done.json")
        assert {path.name for path in marker.parent.iterdir()} == {"done.json", "rows.parquet", "student"}
        return json.loads(marker.read_text())["summary"], load_file(marker.parent / "student" / "model.safetensors")


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout: what is left does not depend on how a batch is divided."""
    folder = tmp_path_factory.mktemp("model") / "plain"
    shutil.copytree(tiny_model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def undisturbed(model: Path, job_in: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    training = Training(job_in(tmp_path_factory.mktemp("undisturbed")), model, 1)
    training.finish()
    return training.result()


def went_on_at(said: str) -> int:
    """How many texts were learned when it went on."""
    found = re.search(r"train: going on from a checkpoint, at (\d+) of \d+ texts", said)
    assert found, said
    return int(found[1])


def same(one: Any, other: Any) -> bool:
    """Whether two trainings ended alike, to the bit: the weights, and the figures but for the times."""
    (said, weights), (again, found) = one, other
    times = {"seconds", "texts_per_second"}
    losses, others = ([{k: e[k] for k in e.keys() - times} for e in s["history"]] for s in (said, again))
    return losses == others and all(torch.equal(weights[name], found[name]) for name in weights)


def test_a_killed_worker_goes_on_from_its_last_checkpoint(undisturbed: Any, job: Any, model: Path) -> None:
    """Killed twice: while it is started, and between two checkpoints."""
    training = Training(job, model, 1)
    for moment in ("start", "0"):
        (job.root / f"disturb-{moment}").write_text("kill")
    said = training.finish()
    assert (job.root / "start-done").exists() and (job.root / "kill-done").exists()
    assert went_on_at(said) >= SECOND_CHECKPOINT
    assert training.result()[0]["resumes"] == 1
    assert undisturbed[0]["resumes"] == 0
    assert same(training.result(), undisturbed)


def test_a_killed_run_goes_on_from_its_last_checkpoint(undisturbed: Any, job: Any, model: Path) -> None:
    """The driver and all that belongs to it; the next run is started at once."""
    training = Training(job, model, 1)
    (job.root / "disturb-0").write_text("wait")
    process = training.start()
    end = time.monotonic() + 300
    while not (job.root / "wait-done").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the training did not get that far"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    checkpoints = list((job.root / "runs" / "small" / "checkpoints").glob("*/student/train/checkpoint_2*"))
    assert 1 <= len(checkpoints) <= 2
    assert not list((job.root / "runs" / "small" / "train").glob("*/done.json"))
    assert went_on_at(training.finish()) >= SECOND_CHECKPOINT
    assert training.result()[0]["resumes"] == 1
    assert same(training.result(), undisturbed)


def test_two_workers_learn_what_one_learns_though_one_is_killed(undisturbed: Any, job: Any, model: Path) -> None:
    training = Training(job, model, 2)
    (job.root / "disturb-1").write_text("kill")
    assert went_on_at(training.finish()) >= SECOND_CHECKPOINT
    (one, weights), (two, found) = undisturbed, training.result()
    assert (two["workers"], two["resumes"]) == (2, 1)
    for alone, both in zip(one["history"], two["history"], strict=True):
        assert both["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
        assert both["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
    start = load_file(model / "model.safetensors")
    moved = max(float((weights[f"bert.{name}"] - start[name]).abs().max()) for name in start)
    apart = max(float((weights[name] - found[name]).abs().max()) for name in weights)
    assert apart < 0.01 * moved
