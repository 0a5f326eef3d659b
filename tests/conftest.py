"""What many tests share: a small recorded job in a folder of its own, and the real data where it is."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import tiers
from processes import free_ports, marked

from runner.cluster.cluster import Cluster
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.spec import Spec, load_spec
from runner.stages import pipeline
from runner.stages.contract import Context

REPOSITORY = Path(__file__).parents[1]

# Tests run beside each other, with more threads than cores: one of OpenMP's that spins until another is done keeps it
# from its core (a small training took 3 instead of 32 s of processor time). Read when torch is loaded, and inherited.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out tests marked slow, and refuse what they stand for")
    parser.addoption("--write-seconds", action="store_true", help="write how long each file took to tests/seconds.json")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        config.pluginmanager.register(tiers.FastTier(config))
    if config.getoption("--write-seconds"):
        config.pluginmanager.register(tiers.FileTimes())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tiers.longest_files_first(items)


# A test must not fail because the machine is busy; those that guard against slowness count processor time.
hypothesis.settings.register_profile("tutelage", deadline=None)
hypothesis.settings.load_profile("tutelage")

SPEC = """\
version: 1
name: small
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence.
  examples:
    - {text: Sales doubled., label: positive, reason: More sales.}
data:
  train: {path: train.csv, text: text}
  test: {path: test.csv, text: text, label: label}
teacher: {engine: recorded, model: three people, columns: [anna, ben, carl]}
student: {model: "catalog:all-minilm-l6-v2"}
"""
HEADER = ("text", "label", "anna", "ben", "carl")
TRAIN = (
    ("Profit fell by half.", "negative", "negative", "negative", "negative"),
    ("The plant is in Turku.", "neutral", "neutral", "neutral", "positive"),
    ("Orders grew again.", "positive", "positive", "positive", "positive"),
    ("Costs rose sharply.", "negative", "neutral", "negative", "negative"),
)
TEST = (
    ("A loss was posted.", "negative", "negative", "negative", "neutral"),
    ("It makes paper.", "neutral", "neutral", "neutral", "neutral"),
    ("A record year.", "positive", "positive", "positive", "positive"),
)


class Job:
    """A recorded job: its spec and data files, and its run folder; the first three stages need no Ray."""

    def __init__(self, root: Path) -> None:
        self.root, self.path, self.runs_dir = root, root / "spec.yaml", root / "runs"
        self.run = Folder(str(self.runs_dir / "small"))
        self.said = io.StringIO()
        self.path.write_text(SPEC, encoding="utf-8")
        self.csv("train.csv", TRAIN)
        self.csv("test.csv", TEST)

    def csv(self, name: str, rows: Iterable[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
        """Write a csv file beside the spec."""
        with open(self.root / name, "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([header, *rows])
        return self.root / name

    def spec(self, *overrides: str) -> Spec:
        return load_spec(self.path, overrides)

    def context(self, stage: str, spec: Spec | None = None) -> Context:
        """What ``stage`` would be given; its inputs need not be there."""
        spec = spec or self.spec()
        step = next(step for step in pipeline.steps(spec, self.run) if stage == step.stage.NAME)
        progress = Progress(self.said, "plain")
        return Context(spec, self.run, step.folder, step.inputs, Cluster(), progress)

    def do(self, last: str, *overrides: str) -> Folder:
        """Run the stages up to ``last`` as the pipeline does; the folder of ``last``."""
        spec = self.spec(*overrides)
        for step in pipeline.steps(spec, self.run):
            context = self.context(step.stage.NAME, spec)
            if not step.cached:
                pipeline.run_step(step, context)
            assert not context.cluster.started
            if last == step.stage.NAME:
                return step.folder
        raise AssertionError(f"no stage {last}")

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the run folder but the lock, with its content."""
        files = (path for path in sorted(self.runs_dir.rglob("*")) if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(self.runs_dir)): path.read_bytes() for path in files}


@pytest.fixture(scope="module", autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """Engines and Ray set variables where they work: what a file leaves must not decide what the next one finds."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture(scope="session")
def job_in() -> type[Job]:
    """Makes a job in a folder, for fixtures that many tests share."""
    return Job


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data, which is not part of this repository."""
    given = os.environ.get("TUTELAGE_DATA")
    for folder in (Path(given) if given else None, REPOSITORY.parent / "shared" / "data"):
        if folder and (folder / "financial_phrasebank" / "test.csv").exists():
            return folder
    pytest.skip("the real data is not here: set TUTELAGE_DATA to the folder that holds financial_phrasebank/")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny models lose more by waiting for a second thread than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    with _one_thread():
        yield


@pytest.fixture(scope="module")
def one_thread_for_all() -> Iterator[None]:
    """For tests that share what tiny models have computed."""
    with _one_thread():
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of two small layers, with all-MiniLM-L6-v2's tokenizer: trains in a second."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from runner import models

    tokenizer = AutoTokenizer.from_pretrained(models.ensure("catalog:all-minilm-l6-v2"), local_files_only=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-model")
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


START_SECONDS = 90


class Nodes:
    """A Ray cluster of processes on this machine: a head without cores, and nodes that say they have this or that.

    Ports are free ones; everything else lies in a folder of its own. Each node is a process group, so that it can be
    killed as a machine dies: all at once, without a word.
    """

    def __init__(self, environment: dict[str, str] | None = None, token: str = "") -> None:
        self._token = token
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray's sockets lie in it
        self.environment = {**os.environ, "RAY_AUTH_MODE": "disabled", **(environment or {})}
        bin_folder = Path(sys.executable).parent
        self.environment |= {
            "PATH": f"{bin_folder}:{self.environment['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            # A dead node is noticed in seconds, and not in half a minute.
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        self.environment.pop("RAY_ADDRESS", None)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        gcs, dashboard = free_ports(2)
        self.gcs, self.address = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        head = [f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=0"]
        self._start("head", ["--head", "--include-dashboard=true", "--node-ip-address=127.0.0.1", *head])
        self._wait(lambda: self._answers("/api/version"), "head")

    def add(self, name: str, cpus: int, gpus: int = 0, **resources: float) -> None:
        """A node; returns once the cluster knows it."""
        before = len(self.node_names()) if self.processes.keys() - {"head"} else 0
        kinds = {f"accelerator_type:{kind}" if kind.isupper() else kind: have for kind, have in resources.items()}
        options = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--resources={json.dumps({name: 1, **kinds})}"]
        self._start(name, [f"--address={self.gcs}", "--node-ip-address=127.0.0.1", *options])
        self._wait(lambda: len(self.node_names()) > before, name)

    def _start(self, name: str, options: list[str]) -> None:
        agent, grpc, metrics, runtime, raylet, objects = free_ports(6)
        ports = [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}"]
        ports += [f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={runtime}"]
        ports += [f"--node-manager-port={raylet}", f"--object-manager-port={objects}"]
        ports += ["--min-worker-port=0", "--max-worker-port=0"]
        # Machines do not share a disk: with one folder for all, each node unpacks the job over that of the others.
        ports.append(f"--temp-dir={self.folder / name}")
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "ray"),
                    "start",
                    "--block",
                    "--disable-usage-stats",
                    *ports,
                    *options,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def _wait(self, ready: Any, name: str) -> None:
        end = time.monotonic() + START_SECONDS
        while not ready():
            said = (self.folder / f"{name}.log").read_text()[-2000:]
            assert self.processes[name].poll() is None, f"{name} ended: {said}"
            assert time.monotonic() < end, f"{name} does not come up: {said}"
            time.sleep(0.2)

    def _answers(self, path: str) -> bool:
        with suppress(OSError):
            self.ask(path)
            return True
        return False

    def ask(self, path: str) -> Any:
        """What the cluster's dashboard answers."""
        request = urllib.request.Request(self.address + path)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def state(self, what: str) -> list[dict[str, Any]]:
        """Actors or nodes, as Ray's state API lists them."""
        found: list[dict[str, Any]] = self.ask(f"/api/v0/{what}?detail=true&limit=10000")["data"]["result"]["result"]
        return found

    def node_names(self) -> dict[str, str]:
        """The names that were given to the living nodes, by Ray's ids."""
        return {
            node["node_id"]: next(name for name in self.processes if name in node["resources_total"])
            for node in self.state("nodes")
            if node["state"] == "ALIVE" and not node["is_head_node"]
        }

    def kill(self, name: str) -> None:
        """SIGKILL for the node and all that runs on it."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def close(self) -> None:
        """Kill all nodes, and what is left of them."""
        for name in list(self.processes):
            self.kill(name)
        end = time.monotonic() + 20
        while left := list(marked(str(self.folder))):
            for pid, _ in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < end, left
            time.sleep(0.2)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def nodes_class() -> type[Nodes]:
    """Starts a Ray cluster of processes; whoever makes one closes it."""
    return Nodes
