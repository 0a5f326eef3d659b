"""Where teachers are put on a real Ray cluster, whose nodes declare GPUs that they do not have.

The label stage asks Ray as ever, with the model, the resources and the replicas of a spec; in its workers stands the
engine without a model, behind the real actor, and each notes what Ray gave it. Nothing here runs on a GPU. The longer
ones are of `make test-cluster`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow("ray")

REPOSITORY = Path(__file__).parents[2]
KIND = "GPUX"  # no kind that anybody knows: nothing is to be said of its memory
SPEC = """\
version: 1
name: small
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence.
data:
  train: {{path: train.csv}}
  test: {{path: test.csv, label: label}}
teacher:
  engine: vllm
  model: {model}
  batch_size: 4
  max_context: 1024
  calibration: none
  resources: {{accelerator: GPUX, gpus: {gpus}, cpus: 1, replicas: {replicas}}}
student: {{model: "catalog:all-minilm-l6-v2"}}
"""
DRIVER = """\
import json, os, sys, time
from dataclasses import replace
import runner.teacher.generate as generate
from runner.commands.cli import main
from runner.teacher.worker import Labeller

NOTES = sys.argv[1]


class Seen(Labeller):
    def __init__(self, **arguments):
        import ray

        self._made = time.time()
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        note = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id(), "visible": given}
        note |= {"gpus": ray.get_runtime_context().get_accelerator_ids()["GPU"], "made": self._made}
        note |= {"asked": arguments["settings"].gpus}
        with open(f"{NOTES}/{os.getpid()}.json", "w") as handle:
            json.dump(note, handle)
        settings = replace(arguments["settings"], options={"seconds": 0.3})
        super().__init__(**{**arguments, "engine": "noop", "settings": settings})

    def __call__(self, batch):
        with open(f"{NOTES}/calls", "a") as handle:
            handle.write(f"{os.getpid()} {time.time()}\\n")
        return super().__call__(batch)


generate.Labeller = Seen
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def cluster(nodes_class: Any) -> Iterator[Any]:
    """Two nodes, of four GPUs and of five: nine, and on none of them six."""
    cluster = nodes_class({"HF_HUB_OFFLINE": "1"})
    try:
        cluster.add("four", cpus=8, gpus=4, **{KIND: 1})
        cluster.add("five", cpus=8, gpus=5, **{KIND: 1})
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generative model of two small layers; its weights are never loaded."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model") / "llm"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


class Placed:
    """A job's workers as they noted themselves, and how the job ended."""

    def __init__(self, done: subprocess.CompletedProcess[str], notes: Path) -> None:
        self.status, self.said = done.returncode, done.stdout + done.stderr
        self.workers = [json.loads(path.read_text()) for path in notes.glob("*.json")]
        calls = notes / "calls"
        self.calls = [line.split() for line in calls.read_text().splitlines()] if calls.exists() else []

    def by_node(self) -> list[list[set[str]]]:
        """The GPUs of each worker, as it sees them, node by node."""
        nodes = defaultdict(list)
        for one in self.workers:
            nodes[one["node"]].append(set(one["visible"].split(",")))
        return sorted(nodes.values(), key=len)


def placed(cluster: Any, model: Path, root: Path, gpus: int, replicas: list[int], rows: int) -> Placed:
    """Label some rows; each batch of four takes more than a second, so that no worker comes too late."""
    notes = root / "notes"
    notes.mkdir()
    (root / "train.csv").write_text("\n".join(["text", *(f"Sales of unit {n} rose." for n in range(rows))]))
    (root / "test.csv").write_text("text,label\nUp.,positive\nDown.,negative\n")
    (root / "spec.yaml").write_text(SPEC.format(model=model, gpus=gpus, replicas=replicas))
    (root / "driver.py").write_text(DRIVER)
    arguments = ["plan", str(root / "spec.yaml"), "--probe", str(rows), "--runs-dir", str(root / "runs")]
    done = subprocess.run(
        [sys.executable, str(root / "driver.py"), str(notes), *arguments, "--address", cluster.gcs, "--wait", "3"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=root,
        env=cluster.environment | {"PYTHONPATH": str(REPOSITORY)},
    )
    return Placed(done, notes)


def test_two_replicas_a_node_and_no_gpu_twice(cluster: Any, model: Path, tmp_path: Path) -> None:
    found = placed(cluster, model, tmp_path, gpus=2, replicas=[4, 4], rows=203)
    assert found.status == 0, found.said
    nodes = found.by_node()
    assert [len(workers) for workers in nodes] == [2, 2], "the fifth GPU of a node is of no use to a pair"
    for workers in nodes:
        assert all(len(visible) == 2 for visible in workers)
        assert not set.intersection(*workers), "each GPU has one owner"
        assert set.union(*workers) <= set("01234")
    answers = (tmp_path / "runs").glob("small/answers/*/*.parquet")
    ids = [id_ for file in answers for id_ in pq.read_table(file).column("id").to_pylist()]
    assert len(ids) == len(set(ids)) == 203, "every row once, however Ray cuts the batches"
    for one in found.workers:
        assert one["visible"].split(",") == one["gpus"], "CUDA sees what Ray gave"
        assert one["asked"] == 2


@pytest.mark.cluster
def test_replicas_come_as_there_is_work_and_never_more_than_allowed(cluster: Any, model: Path, tmp_path: Path) -> None:
    found = placed(cluster, model, tmp_path, gpus=2, replicas=[1, 3], rows=1_000)
    assert found.status == 0, found.said
    assert 1 < len(found.workers) <= 3, "there is room for a fourth"
    made = sorted(one["made"] for one in found.workers)
    first_call = min(float(when) for _, when in found.calls)
    assert made[0] < first_call
    assert len({pid for pid, _ in found.calls}) > 1, "those that came later have worked"


@pytest.mark.cluster
def test_tensor_parallelism_never_spans_nodes(cluster: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "more").mkdir()
    found = placed(cluster, model, tmp_path / "whole", gpus=5, replicas=[1, 2], rows=40)
    assert found.status == 0, found.said
    assert found.by_node() == [[set("01234")]], "nine GPUs hold five once, on the node that has them"
    refused = placed(cluster, model, tmp_path / "more", gpus=6, replicas=[1, 1], rows=40)
    assert refused.status == 1 and not refused.workers
    assert "teacher.resources asks for 6 GPUs (GPUX) and 1 processor core on one node" in refused.said
    assert "8 cores, 5 GPUs GPUX" in refused.said and "Traceback" not in refused.said


def test_nothing_is_left_behind(cluster: Any) -> None:
    alive = [one for one in cluster.state("actors") if one["state"] == "ALIVE" and "Seen" in one["class_name"]]
    assert not alive
    assert not os.environ.get("CUDA_VISIBLE_DEVICES")
