"""Ray's own code against a rendered cluster: what its autoscaler takes for a node, and where our requests go."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from typing import Any

import manifest_checks as checks
import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources, cores_beside
from runner.kubernetes.manifest import render
from runner.kubernetes.options import RenderOptions
from runner.spec import Spec, load_spec

GIB = 2**30


@pytest.fixture(scope="module")
def spec() -> Spec:
    return load_spec(checks.ROOT / "specs" / "financial-sentiment.yaml")


@pytest.fixture(scope="module")
def cluster(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = render(spec, RenderOptions(cloud="gke")).objects[1]["spec"]["rayClusterSpec"]
    return found


def asked(part: Any) -> dict[str, float]:
    """What a worker of a part of the spec asks of Ray."""
    return {
        "CPU": part.cpus or cores_beside(part.gpus),
        "GPU": part.gpus,
        f"accelerator_type:{part.accelerator}": 0.001,
    }


def test_the_autoscaler_knows_nodes_that_satisfy_the_spec_before_there_are_any(
    spec: Spec, cluster: dict[str, Any]
) -> None:
    found = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "x", "namespace": "y"}, "spec": cluster})
    nodes = found["available_node_types"]
    head = nodes["headgroup"]["resources"]
    assert head["CPU"] == 0 and not head.get("GPU")
    assert nodes["teacher"]["resources"] == {"CPU": 6, "GPU": 2, "memory": 320 * GIB, "accelerator_type:H100": 1}
    assert nodes["student"]["resources"] == {"CPU": 4, "GPU": 1, "memory": 20 * GIB, "accelerator_type:T4": 1}
    assert (nodes["teacher"]["min_workers"], nodes["teacher"]["max_workers"]) == (0, 4)
    assert (nodes["student"]["min_workers"], nodes["student"]["max_workers"]) == (0, 1)
    for name, part in (("teacher", spec.teacher.resources), ("student", spec.student.resources)):
        fits = [kind for kind, node in nodes.items() if fit(node["resources"], asked(part))]
        assert fits == [name]
        # One replica or worker fills a node: nothing else is put beside it.
        left = {key: value - asked(part).get(key, 0) for key, value in nodes[name]["resources"].items()}
        assert left["CPU"] == 0 and left["GPU"] == 0


def test_a_shell_ray_and_kuberay_read_the_same_resources(cluster: dict[str, Any]) -> None:
    """KubeRay writes them into a command line for bash, and strips quotes to read them (``getResourcesMap``)."""
    found = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "x", "namespace": "y"}, "spec": cluster})
    for group in cluster["workerGroupSpecs"]:
        written = group["rayStartParams"]["resources"]
        (word,) = shlex.split(f"--resources={written}")
        of_the_shell = json.loads(word.removeprefix("--resources="))
        assert json.loads(written.strip("'\"` ")) == of_the_shell
        node = found["available_node_types"][group["groupName"]]["resources"]
        assert of_the_shell.items() <= node.items() and len(of_the_shell) == 1


def fit(has: dict[str, float], wants: dict[str, float]) -> bool:
    return all(has.get(name, 0) >= amount for name, amount in wants.items())


@pytest.mark.parametrize(
    ("wants", "count", "started"),
    [
        ({"CPU": 4, "GPU": 2, "accelerator_type:H100": 0.001}, 1, {"teacher": 1}),
        ({"CPU": 4, "GPU": 2, "accelerator_type:H100": 0.001}, 9, {"teacher": 4}),
        ({"CPU": 4, "GPU": 1, "accelerator_type:T4": 0.001}, 2, {"student": 1}),  # as many as the spec has workers
        ({"CPU": 1}, 1, {"student": 1}),  # a teacher's node could do it too, for many times the price
        ({"CPU": 4, "GPU": 1, "accelerator_type:A100": 0.001}, 1, {}),
    ],
)
def test_the_autoscaler_starts_the_group_that_is_asked_for(
    cluster: dict[str, Any], wants: dict[str, float], count: int, started: dict[str, int]
) -> None:
    found = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "x", "namespace": "y"}, "spec": cluster})
    config = AutoscalingConfig(found, skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(wants)] * count),
    )
    reply = ResourceDemandScheduler().schedule(request)
    assert {one.instance_type: one.count for one in reply.to_launch} == started


@pytest.fixture
def nodes(cluster: dict[str, Any]) -> Iterator[Any]:
    """A Ray cluster of the rendered groups, one node each, started with their own parameters."""
    from ray.cluster_utils import Cluster as Nodes

    # Another test's Ray may have left a token behind, and these nodes are of one machine.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    params = {group["groupName"]: group["rayStartParams"] for group in cluster["workerGroupSpecs"]}
    head = cluster["headGroupSpec"]["rayStartParams"]
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": int(head["num-cpus"]), "include_dashboard": False})
    try:
        names = {}
        for name, param in params.items():
            node = nodes.add_node(
                num_cpus=int(param["num-cpus"]),
                num_gpus=int(param["num-gpus"]),
                resources=json.loads(*shlex.split(param["resources"])),
            )
            names[node.node_id] = name
        nodes.names = names
        yield nodes
    finally:
        nodes.shutdown()
        os.environ.pop("RAY_AUTH_MODE")


@pytest.mark.slow("ray")
@pytest.mark.timeout(180)
def test_each_request_of_the_spec_runs_on_the_group_that_is_meant_for_it(nodes: Any, spec: Spec) -> None:
    def where() -> str:  # within: Ray sends it along, and its workers do not find this file
        import ray

        return str(ray.get_runtime_context().get_node_id())

    cluster = Cluster(nodes.address)
    try:
        for name, part in (("teacher", spec.teacher.resources), ("student", spec.student.resources)):
            wanted = Resources(part.cpus, part.gpus, part.accelerator)
            assert nodes.names[cluster.call(where, wanted)] == name
        assert nodes.names[cluster.call(where, Resources(1))] in ("teacher", "student")  # never the head
    finally:
        cluster.stop()
