"""What the nodes have, against what workers ask for: before anything is spent, and while nodes are waited for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runner.cluster import private_api
from runner.cluster.node_types import NodeType, could_hold, count_placements, inventory, inventory_of_types
from runner.cluster.resources import Resources, cores_beside
from runner.system import accelerators, machine, nvml
from runner.system.accelerators import GIB
from runner.system.errors import UserError

NODE_POLL_SECONDS = 1.0
PROBE_SECONDS = 60.0
"""For all nodes to tell the memory of their GPUs."""


class Capacity:
    """The nodes of the Ray that ``connect`` returns: those of a cluster, else (``on_cluster`` false) this machine.

    ``patience`` are the seconds that a cluster may take to bring up nodes; ``on_demand`` says that its nodes are known
    to start when they are asked for.
    """

    def __init__(self, connect: Callable[[], Any], on_cluster: bool, patience: float, on_demand: bool) -> None:
        self._connect, self._on_cluster, self._patience, self._on_demand = connect, on_cluster, patience, on_demand

    @property
    def starts_on_demand(self) -> bool:
        """Whether nodes start when they are asked for, so that asking early is paying early.

        Either somebody has said so, or the autoscaler has told Ray what nodes it could start.
        """
        return self._on_cluster and (self._on_demand or self.node_types() is not None)

    def foresee(self, wanted: Resources, who: str, workers: int = 1) -> None:
        """As :meth:`require`, but no node is started: what cannot be known without that passes.

        :raises UserError: when the nodes that are there do not do, nor could those that the autoscaler knows.
        """
        types = self.node_types()
        if types is None or self._has_room(wanted, workers):
            return
        names = {wanted.accelerator, wanted.accelerator and accelerators.ray_name(wanted.accelerator)}
        bundles = [replace(wanted, accelerator=name).bundle(wanted.cpus or 1) for name in names]
        # Nodes that are there may be of no type: they count besides, some of them twice.
        nodes = self.nodes()
        if not any(could_hold(types, bundle, workers - count_placements(nodes, bundle)) for bundle in bundles):
            raise UserError(
                "cluster.no-node-type",
                f"{wanted.describe(who, workers)}, and the cluster could start no nodes for that. It knows: "
                f"{inventory_of_types(types)}. Ask for what is there, or let the cluster have more",
            )

    def require(
        self, wanted: Resources, who: str, workers: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """:raises UserError: when ``workers`` at once could never be given what is asked for: they would wait for ever.

        A cluster that scales itself may bring up what it has not got yet: it is told what is wanted, and has
        ``patience`` seconds; ``say`` is told what is waited for. What others use at the moment counts as there.
        """
        if not self._on_cluster:
            _require_here(wanted, who, workers)
            return
        if not self._has_room(wanted, workers):
            waiting = f"waiting up to {self._patience:.0f} s for the cluster's nodes"
            say(f"{wanted.describe(who, workers)}: {waiting}")
            self._wait_for_room(wanted, who, workers)
        if wanted.accelerator and self.by_node_names(wanted) != wanted:
            self._check_memory(wanted.accelerator, who)

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive, whoever uses them."""
        return [node["Resources"] for node in self._connect().nodes() if node["Alive"]]

    def node_types(self) -> list[NodeType] | None:
        """What the autoscaler could start, if it has told Ray; Ray's own autoscaler does not."""
        self._connect()
        try:
            config = private_api.cluster_config()
        except Exception:  # no public way tells it, and without it the answer is as before
            return None
        groups = config.node_group_configs if config is not None else ()
        types = [
            NodeType(group.name, dict(group.resources), None if group.max_count < 0 else group.max_count)
            for group in groups
        ]
        return types or None

    def by_node_names(self, wanted: Resources) -> Resources:
        """With the accelerator by the name that nodes have: Ray's own, which does not tell all kinds apart, where nodes
        have that alone; else the spec's, by which ``render`` tells the autoscaler of nodes before there are any.
        """
        if wanted.accelerator is None:
            return wanted
        by_ray = replace(wanted, accelerator=accelerators.ray_name(wanted.accelerator))
        nodes = self.nodes()
        has_specs, has_rays = (any(r.accelerator_resource in node for node in nodes) for r in (wanted, by_ray))
        return by_ray if has_rays and not has_specs else wanted

    def request(self, wanted: Resources) -> dict[str, Any]:
        """What is asked for, as the options of a Ray task or actor."""
        wanted = self.by_node_names(wanted)
        request: dict[str, Any] = {"num_cpus": wanted.cpus or self.cores_for(wanted), "num_gpus": wanted.gpus}
        if wanted.accelerator:
            request["accelerator_type"] = wanted.accelerator
        return request

    def cores_for(self, wanted: Resources) -> int:
        """All cores of the largest node that has what else is wanted; beside GPUs a few, and no more than their share
        of the node, so that cores never leave a GPU idle."""
        kinds = [
            name for name, asked in (("GPU", wanted.gpus), (wanted.accelerator_resource, wanted.accelerator)) if asked
        ]
        nodes = [node for node in self.nodes() if all(kind in node for kind in kinds)]
        if wanted.gpus:
            shares = [int(node.get("CPU", 0) * wanted.gpus / node["GPU"]) for node in nodes]
            return max(1, min(cores_beside(wanted.gpus), max(shares, default=1)))
        return max([1, *(int(node.get("CPU", 0)) for node in nodes)])

    def room(self, wanted: Resources) -> int:
        """How many workers that are given what they ask for the nodes hold, if nobody else uses them."""
        bundle = self.by_node_names(wanted).bundle(self.request(wanted)["num_cpus"])
        return count_placements(self.nodes(), bundle)

    def pool_sizes(self, wanted: Resources, replicas: tuple[int, int], batches: int) -> tuple[int, int, int]:
        """How many actors a pool has at least, at first and at most."""
        least, most = replicas[0], max(replicas[0], min(replicas[1], batches))
        if wanted.gpus and self.starts_on_demand:
            # Actors that wait for their place are what nodes of their kind start for. Ray Data itself would ask for
            # more by cores and GPUs alone, and be given nodes with other GPUs.
            return most, most, most
        # All that have room start at once: one after the other, each would wait for the start of the last.
        return least, max(least, min(most, self.room(wanted))), most

    def _has_room(self, wanted: Resources, workers: int) -> bool:
        bundle = self.by_node_names(wanted).bundle(wanted.cpus or 1)
        return count_placements(self.nodes(), bundle) >= workers

    def _wait_for_room(self, wanted: Resources, who: str, workers: int) -> None:
        ray = self._connect()
        end = time.monotonic() + self._patience
        # What waits for its place is what an autoscaler looks at.
        bundle = self.by_node_names(wanted).bundle(wanted.cpus or 1)
        waiting = ray.util.placement_group([bundle] * workers, strategy="PACK")
        try:
            while not self._has_room(wanted, workers):
                if time.monotonic() >= end:
                    raise UserError(
                        "cluster.no-room",
                        f"{wanted.describe(who, workers)}, and the cluster had no room for that in "
                        f"{self._patience:.0f} seconds (--wait). It has: {inventory(self.nodes())}. Add nodes, ask for "
                        "what is there, or wait longer where nodes are slow to come",
                    )
                time.sleep(min(NODE_POLL_SECONDS, max(0.0, end - time.monotonic())))
        finally:
            ray.util.remove_placement_group(waiting)

    def _check_memory(self, accelerator: str, who: str) -> None:
        """:raises UserError: where nodes that Ray calls the same have GPUs with less memory than that accelerator."""
        least, name = accelerators.least_bytes(accelerator), accelerators.ray_name(accelerator)
        label = json.dumps({f"accelerator_type:{accelerator}": 1})
        for memory in self.gpu_memory(f"accelerator_type:{name}") if least else ():
            if memory < least:
                has = f"with {memory / GIB:.0f} GiB" if memory else "whose memory could not be read"
                raise UserError(
                    "cluster.accelerator-unlabelled",
                    f"{who}.accelerator: the cluster has a node of type {name} {has}, which Ray does not tell from "
                    f"{accelerator}: start the nodes that are meant with `ray start --resources='{label}'`",
                )

    def gpu_memory(self, resource: str) -> list[int]:
        """The memory of a GPU of each node with that resource, in bytes as NVML tells it; 0 where it does not."""
        ray = self._connect()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and resource in node["Resources"]]
        on_nodes = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        probes = [ray.remote(num_cpus=0)(_first_gpu).options(scheduling_strategy=node).remote() for node in on_nodes]
        done, _ = ray.wait(probes, num_returns=len(probes), timeout=PROBE_SECONDS) if probes else ([], [])
        memory = []
        for probe in probes:
            try:
                memory.append(int(ray.get(probe)) if probe in done else 0)
            except Exception:  # a node that goes away while it is asked, in one of Ray's many ways
                memory.append(0)
        return memory


def _require_here(wanted: Resources, who: str, workers: int) -> None:
    """:raises UserError: when this machine does not have what ``workers`` at once ask for."""
    gpus, cpus = wanted.gpus * workers, (wanted.cpus or 1) * workers
    here = machine.gpus() if gpus else []
    kinds = ((f"GPUs{wanted.kind}", gpus, len(here)), ("processor cores", cpus, machine.usable_cores()))
    for what, asked, available in kinds:
        if available < asked:
            each = f" for {workers} workers" if workers > 1 else ""
            raise UserError(
                "cluster.machine-too-small",
                f"{who} asks for {asked} {what}{each}, this machine has {available or 'none'}; "
                "run it on a Ray cluster that has them (--address HOST:PORT), or ask for what is here",
            )
    if wanted.accelerator and here and (reason := _other_kind(wanted.accelerator, here)):
        raise UserError(
            "cluster.accelerator-absent",
            f"{who}.accelerator: {reason}; run it on a Ray cluster that has them (--address HOST:PORT), or ask for "
            "what is here",
        )


def _other_kind(accelerator: str, here: list[nvml.Gpu]) -> str | None:
    """Why Ray would never give this machine's GPUs to who asks for ``accelerator``; None where it would."""
    node = nvml.first() or here[0]
    kind = private_api.accelerator_type(node.name)
    if kind != accelerators.ray_name(accelerator):
        return f"{accelerator} is asked for, this machine's GPUs are {kind} ({node.name})"
    small = next((gpu for gpu in here if gpu.memory < accelerators.least_bytes(accelerator)), None)
    if small:
        has = f"has {small.memory / GIB:.0f} GiB" if small.memory else "does not tell its memory"
        return f"{accelerator} is asked for, {small.name} of this machine {has}"
    return None


def _first_gpu() -> int:
    """What a node tells of its first GPU's memory, in bytes; 0 where it tells nothing."""
    gpu = nvml.first()
    return gpu.memory if gpu else 0
