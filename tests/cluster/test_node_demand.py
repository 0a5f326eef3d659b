"""When nodes are asked for: all at first where they are there anyway, each stage's just before it where they cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import node_demand
from runner.cluster.cluster import Cluster
from runner.cluster.node_types import NodeType, could_hold
from runner.cluster.resources import Resources
from runner.observe.progress import Progress
from runner.planning import shared_models
from runner.stages import pipeline
from runner.system.errors import ModelError, UserError

FURTHER = "benchmark.hardware=[{name: big, cpus: 4, price_per_hour: 1}]"


@dataclass
class Refusing(Cluster):
    """A cluster that notes what is asked of it, and has nothing of the name ``lacks``."""

    asked: list[str] = field(default_factory=list)
    lacks: str = "student.resources"

    def check_reachable(self) -> None:
        return

    @property
    def starts_on_demand(self) -> bool:
        return self.address is not None and self.on_demand

    def foresee(self, wanted: Resources, who: str, workers: int = 1) -> None:
        """Nobody knows which nodes could start."""

    def require(
        self, wanted: Resources, who: str, workers: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.asked.append(f"{who} x {workers}")
        if self.lacks in who:
            raise UserError("cluster.no-room", f"{who}: not there")


def finished(job: Any) -> list[str]:
    """The stages that the run folder has markers of."""
    return sorted(place.parts[-3] for place in Path(job.run.url).glob("*/*/done.json"))


def execute(job: Any, cluster: Cluster, *overrides: str) -> None:
    with pytest.raises(UserError, match="not there"):
        pipeline.execute(job.spec(*overrides), job.run, cluster, Progress(job.said, "plain"))


def test_in_a_fixed_cluster_all_nodes_are_looked_at_before_anything_is_spent(job: Any) -> None:
    cluster = Refusing("somewhere:6379", lacks="big")
    execute(job, cluster, FURTHER, "student.resources={cpus: 1, workers: 2}")
    assert cluster.asked == ["student.resources x 2", "benchmark.hardware 'big' x 1"]
    assert finished(job) == ["load"]


def test_where_nodes_start_on_demand_the_students_are_asked_for_when_labels_are_there(job: Any) -> None:
    cluster = Refusing("somewhere:6379", on_demand=True)
    execute(job, cluster, FURTHER, "student.resources={cpus: 1, workers: 2}")
    assert cluster.asked == ["student.resources x 2"], "the benchmark's machine is not asked for yet"
    assert finished(job) == ["label", "load", "vote"]


def test_what_follows_a_training_that_is_there_asks_for_one_worker(job: Any) -> None:
    spec = job.spec("student.resources={cpus: 1, workers: 2}")
    for step in pipeline.steps(spec, job.run):
        if step.stage.NAME in ("load", "label", "vote"):
            pipeline.run_step(step, job.context(step.stage.NAME, spec))
        elif step.stage.NAME == "train":
            step.folder.finish({"stage": "train", "fingerprint": step.fingerprint, "seconds": 1.0, "summary": {}})
    cluster = Refusing("somewhere:6379", on_demand=True)
    execute(job, cluster, "student.resources={cpus: 1, workers: 2}")
    assert cluster.asked == ["student.resources x 1"]


def test_the_variable_says_later_or_nothing() -> None:
    assert node_demand.starts_on_demand({"TUTELAGE_NODES": "later"})
    assert not node_demand.starts_on_demand({}) and not node_demand.starts_on_demand({"TUTELAGE_NODES": ""})
    with pytest.raises(UserError, match="TUTELAGE_NODES: expected 'later' or nothing, not 'now'"):
        node_demand.starts_on_demand({"TUTELAGE_NODES": "now"})
    assert not Cluster(None, on_demand=True).starts_on_demand, "this machine has what it has"


@pytest.fixture
def shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty model cache that all nodes have, and no network, as in a rendered job."""
    for name, value in {
        "TUTELAGE_CACHE": str(tmp_path / "cache"),
        "TUTELAGE_CACHE_SHARED": "1",
        "HF_HUB_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)


def test_a_model_that_no_node_can_have_is_said_before_any_is_asked_for(job: Any, shared_cache: None) -> None:
    cluster = Refusing("somewhere:6379")
    with pytest.raises(ModelError, match=r"student.model: catalog:all-minilm-l6-v2 is not in the model cache that all"):
        pipeline.execute(job.spec(), job.run, cluster, Progress(job.said, "plain"))
    assert (cluster.asked, finished(job)) == ([], ["load"])


@pytest.mark.parametrize("unset", ["TUTELAGE_CACHE_SHARED", "HF_HUB_OFFLINE"])
def test_where_nodes_may_have_or_fetch_it_nothing_is_said_of_a_model(
    job: Any, shared_cache: None, monkeypatch: pytest.MonkeyPatch, unset: str
) -> None:
    monkeypatch.setenv(unset, "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    cluster = Refusing("somewhere:6379")
    execute(job, cluster)
    assert cluster.asked


def test_a_model_that_nobody_needs_any_more_may_be_gone(job: Any, shared_cache: None) -> None:
    shared_models.check(job.spec(), {"evaluate"})
    with pytest.raises(ModelError, match=r"student\.model"):
        shared_models.check(job.spec(), {"train"})


T4 = NodeType("t4", {"CPU": 4, "GPU": 1, "accelerator_type:T4": 1}, 2)


@pytest.mark.parametrize(
    ("types", "bundle", "workers", "could"),
    [
        ([T4], {"CPU": 4.0, "GPU": 1.0, "accelerator_type:T4": 0.001}, 2, True),
        ([T4], {"CPU": 4.0, "GPU": 1.0, "accelerator_type:T4": 0.001}, 3, False),
        ([T4], {"CPU": 4.0, "GPU": 2.0}, 1, False),
        ([T4, NodeType("cores", {"CPU": 8}, None)], {"CPU": 8.0}, 50, True),
        ([NodeType("off", {"CPU": 8}, 0)], {"CPU": 1.0}, 1, False),
    ],
)
def test_what_an_autoscaler_could_start_is_counted_by_whole_nodes(
    types: list[NodeType], bundle: dict[str, float], workers: int, could: bool
) -> None:
    assert could_hold(types, bundle, workers) is could


@pytest.fixture(scope="module")
def nodes(nodes_class: Any) -> Iterator[Any]:
    """A head without cores."""
    made = nodes_class()
    yield made
    made.close()


def told_by_an_autoscaler(address: str, *types: NodeType) -> None:
    """What an autoscaler that knows its nodes reports to Ray's control store."""
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import ClusterConfig

    config = ClusterConfig()
    for one in types:
        group = config.node_group_configs.add(name=one.name, max_count=-1 if one.most is None else one.most)
        group.resources.update({name: int(has) for name, has in one.resources.items()})
    GcsClient(address).report_cluster_config(config.SerializeToString())


def waiting_for_nodes(address: str) -> list[Any]:
    """What an autoscaler would start nodes for."""
    from ray._raylet import GcsClient
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(GcsClient(address))
    return [*state.pending_gang_resource_requests, *state.pending_resource_requests]


@pytest.mark.slow("ray")
@pytest.mark.timeout(180)
def test_a_real_cluster_is_asked_late_and_what_it_could_never_start_is_said_at_once(
    nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(nodes.gcs, patience=60.0)
    try:
        assert not cluster.starts_on_demand, "Ray's own monitor reports no node types"
        cluster.foresee(Resources(1), "student.resources")  # nobody knows: it passes
        told_by_an_autoscaler(nodes.gcs, NodeType("small", {"CPU": 2}, 1))
        nodes_there = cluster.capacity.nodes
        monkeypatch.setattr(cluster.capacity, "nodes", lambda: [{"CPU": 2.0}])
        cluster.foresee(Resources(2), "student.resources", 2)  # one that is there, of no type, and one more
        monkeypatch.setattr(cluster.capacity, "nodes", nodes_there)
        assert cluster.starts_on_demand
        cluster.foresee(Resources(2), "student.resources")
        with pytest.raises(UserError, match=r"2 times, and the cluster could start no nodes .* 1 x \(2 cores\)"):
            cluster.foresee(Resources(2), "student.resources", 2)
        assert not waiting_for_nodes(nodes.gcs), "no node was asked for"

        said: list[str] = []
        starter = threading.Thread(target=start_when_asked, args=(nodes, said))
        starter.start()
        cluster.require(Resources(2), "student.resources", say=said.append)
        starter.join()
        assert said[0] == (
            "student.resources asks for 2 processor cores on one node: waiting up to 60 s for the cluster's nodes"
        )
    finally:
        cluster.stop()


def start_when_asked(nodes: Any, said: list[str]) -> None:
    end = time.monotonic() + 30
    while not (said and waiting_for_nodes(nodes.gcs)) and time.monotonic() < end:
        time.sleep(0.05)
    nodes.add("late", 2)
