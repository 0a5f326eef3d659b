"""Ray's own autoscaler (version 2) with KubeRay's own provider, over a cluster that is simulated second by second.

Real: the autoscaler, its scheduler and reconciler, the provider and its patches, the way from a RayCluster to node
types. Stand-ins: the API server and the operator (pods of a RayCluster, which take a while to come up), Ray's GCS
(what waits, what is where, what idles), and the clock. A node is idle while nothing is placed on it; objects that a
real one would keep in memory, which hold it longer, are not simulated.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from ray.autoscaler._private.kuberay import node_provider
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2 import scheduler
from ray.autoscaler.v2.autoscaler import Autoscaler
from ray.autoscaler.v2.instance_manager import common, reconciler
from ray.autoscaler.v2.instance_manager.cloud_providers.kuberay import cloud_provider
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, IConfigReader
from ray.autoscaler.v2.instance_manager.subscribers import cloud_resource_monitor
from ray.autoscaler.v2.instance_manager.subscribers.ray_stopper import RayStopper
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated import autoscaler_pb2 as messages

from runner.cluster import capacity

START_SECONDS = {"H100": 300, "T4": 300, None: 60}
"""From a pod's creation until Ray runs in it, by accelerator: a new node, its driver, and the pull of an image."""
STOP_SECONDS = 5
"""Until a pod is gone whose Ray has been drained."""
UPDATE_SECONDS = 5
"""Between two looks of the autoscaler (``AUTOSCALER_UPDATE_INTERVAL_S``)."""
SUBMIT_SECONDS = 30
"""From a cluster that is ready to a driver that runs: KubeRay starts a submitter's pod."""
HEAD, NAME = "headgroup", "job"

Bundle = Mapping[str, float]


@dataclass
class Clock:
    """Seconds since the job was created, for those who ask the ``time`` module; who sleeps makes the world go on."""

    now: float = 0.0
    sleep: Any = None

    def time(self) -> float:
        return 1e9 + self.now

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


@dataclass
class Pod:
    """A pod and its node. ``used``: seconds in which a stage's work was placed on it."""

    name: str
    group: str
    gpus: int
    total: Bundle
    created: float
    up: float
    gone: float | None = None
    dead: bool = False
    idle_since: float = 0.0
    used: int = 0

    def runs(self, now: float) -> bool:
        """Whether Ray runs there."""
        return now >= self.up and not self.dead and self.gone is None

    @property
    def node_id(self) -> bytes:
        return self.name.encode().ljust(28, b".")


@dataclass(eq=False)
class Claim:
    """What was asked of Ray: bundles that are placed together. ``works``: a stage computes in it, once it has room."""

    bundles: Sequence[Bundle]
    works: bool
    gang: bool
    since: float
    places: list[Pod] | None = None


@dataclass
class World:
    """A RayCluster (``rayClusterSpec``) in its simulated surroundings."""

    spec: Mapping[str, Any]
    start_seconds: Mapping[str | None, int] = field(default_factory=lambda: START_SECONDS)
    clock: Clock = field(default_factory=Clock)
    pods: list[Pod] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    constraint: Sequence[Bundle] = ()
    """What Ray Data wants the whole cluster to hold (``ray.autoscaler.sdk.request_resources``)."""

    def __post_init__(self) -> None:
        self.clock.sleep = self.advance
        cluster = copy.deepcopy(dict(self.spec))
        self.resource = {"metadata": {"name": NAME, "namespace": "tutelage"}, "spec": cluster}
        self.config = _derive_autoscaling_config_from_ray_cr(self.resource)
        self.node_types = self.config["available_node_types"]
        self.api = _ApiServer(self)
        self.pods.append(self._pod(HEAD, 0, None))
        self.operate()
        self._autoscaler: Autoscaler | None = None

    @property
    def now(self) -> float:
        return self.clock.now

    def nodes(self) -> list[Pod]:
        """Those where Ray runs."""
        return [pod for pod in self.pods if pod.runs(self.now)]

    def claim(self, bundles: Sequence[Bundle], works: bool, gang: bool = False) -> Claim:
        """Ask Ray for room; it is there once ``places`` is set."""
        self.claims.append(Claim(bundles, works, gang, self.now))
        self._place()
        return self.claims[-1]

    def release(self, claim: Claim) -> None:
        """Give back what was placed, or ask no more."""
        self.claims.remove(claim)
        for pod in claim.places or ():
            pod.idle_since = self.now

    def until_ready(self) -> None:
        """All first pods are up, as KubeRay waits for them, and the driver has been submitted."""
        while not all(pod.runs(self.now) for pod in self.pods):
            self.advance(1)
        self.advance(SUBMIT_SECONDS)

    def advance(self, seconds: float) -> None:
        """Let the world go on."""
        end = self.now + max(1.0, round(seconds))
        while self.now < end:
            self.clock.now += 1
            self._tick()

    def _tick(self) -> None:
        self.operate()
        self._place()
        if self.now % UPDATE_SECONDS == 0 and self.pods[0].runs(self.now):
            self._autoscaler = self._autoscaler or _autoscaler(self)
            assert self._autoscaler.update_autoscaling_state() is not None, "the autoscaler failed: its log says why"
            for one in self._autoscaler._instance_manager._status_update_subscribers:
                if isinstance(one, RayStopper):  # drains in a thread of its own
                    one._executor.submit(int).result()
        for pod in {id(pod): pod for claim in self.claims if claim.works for pod in claim.places or ()}.values():
            pod.used += 1

    def _place(self) -> None:
        for claim in self.claims:
            if claim.places is None:
                claim.places = self._room_for(claim.bundles)

    def _room_for(self, bundles: Sequence[Bundle]) -> list[Pod] | None:
        left = {pod.name: self.left(pod) for pod in self.nodes()}
        found = []
        for bundle in bundles:
            fits = (pod for pod in self.nodes() if all(left[pod.name].get(key, 0) >= bundle[key] for key in bundle))
            if (pod := next(fits, None)) is None:
                return None
            found.append(pod)
            left[pod.name] = {key: have - bundle.get(key, 0) for key, have in left[pod.name].items()}
        return found

    def left(self, pod: Pod) -> dict[str, float]:
        """What nobody uses of a node."""
        held = [
            bundle
            for claim in self.claims
            for bundle, place in zip(claim.bundles, claim.places or (), strict=False)
            if place is pod
        ]
        return {key: have - sum(bundle.get(key, 0) for bundle in held) for key, have in pod.total.items()}

    def is_idle(self, pod: Pod) -> bool:
        return not any(pod in (claim.places or ()) for claim in self.claims)

    def operate(self) -> None:
        """What the operator does: it deletes the pods that are named, and brings up as many as are asked for."""
        for group in self.resource["spec"]["workerGroupSpecs"]:
            named = group.get("scaleStrategy", {}).get("workersToDelete", ())
            mine = [pod for pod in self.pods if pod.group == group["groupName"]]
            for pod in mine:
                if pod.name in named and pod.gone is None:
                    pod.dead, pod.gone = True, self.now + STOP_SECONDS
            missing = group["replicas"] - sum(pod.gone is None for pod in mine)
            self.pods += [self._pod(group["groupName"], len(mine) + more, group) for more in range(missing)]

    def _pod(self, group: str, number: int, spec: Mapping[str, Any] | None) -> Pod:
        total = self.node_types[group]["resources"] | ({} if spec else {"node:__internal_head__": 1.0})
        kind = next((name.partition(":")[2] for name in total if name.startswith("accelerator_type:")), None)
        up = self.now + self.start_seconds[kind]
        return Pod(f"{group}-{number}", group, int(total.get("GPU", 0)), total, self.now, up, idle_since=up)

    # What the autoscaler asks the GCS.

    def get_cluster_resource_state(self) -> bytes:
        """The state of all nodes, and what waits for room."""
        waiting = [claim for claim in self.claims if claim.places is None]
        single = [bundle for claim in waiting if not claim.gang for bundle in claim.bundles]
        gangs = [[ResourceRequestUtil.make(dict(one)) for one in claim.bundles] for claim in waiting if claim.gang]
        state = messages.ClusterResourceState(
            node_states=[self._state(pod) for pod in self.pods if pod.gone is None and pod.up <= self.now],
            pending_resource_requests=_counted(single),
            pending_gang_resource_requests=[messages.GangResourceRequest(requests=gang) for gang in gangs],
            cluster_resource_constraints=[
                messages.ClusterResourceConstraint(resource_requests=_counted(self.constraint))
            ]
            if self.constraint
            else [],
        )
        reply = messages.GetClusterResourceStateReply(cluster_resource_state=state)
        return bytes(reply.SerializeToString())

    def _state(self, pod: Pod) -> messages.NodeState:
        idle = self.is_idle(pod)
        status = "DEAD" if pod.dead else "IDLE" if idle else "RUNNING"
        return messages.NodeState(
            node_id=pod.node_id,
            instance_id=pod.name,
            ray_node_type_name=pod.group,
            available_resources=self.left(pod),
            total_resources=pod.total,
            status=messages.NodeStatus.Value(status),
            idle_duration_ms=int((self.now - pod.idle_since) * 1000) if idle else 0,
        )

    def drain_node(self, node_id: str, **options: Any) -> tuple[bool, str]:
        """An idle node lets go of Ray; another one refuses."""
        pod = next(pod for pod in self.pods if pod.node_id.hex() == node_id)
        if not self.is_idle(pod):
            return False, "not idle"
        pod.dead = True
        return True, ""


def _counted(bundles: Sequence[Bundle]) -> Any:
    return ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(dict(one)) for one in bundles])


class _ApiServer(node_provider.IKubernetesHttpApiClient):
    """The Kubernetes API as far as KubeRay's provider asks it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, path: str) -> dict[str, Any]:
        if path == f"rayclusters/{NAME}":
            return copy.deepcopy(self._world.resource)
        assert path.startswith("pods?labelSelector="), path
        there = [pod for pod in self._world.pods if pod.gone is None or self._world.now < pod.gone]
        return {"metadata": {"resourceVersion": "1"}, "items": [self._item(pod) for pod in there]}

    def _item(self, pod: Pod) -> dict[str, Any]:
        kind = "head" if pod.group == HEAD else "worker"
        metadata = {"name": pod.name, "labels": {"ray.io/node-type": kind, "ray.io/group": pod.group}}
        state = "running" if self._world.now >= pod.up else "waiting"
        deleted = {"deletionTimestamp": "now"} if pod.gone is not None else {}
        return {"metadata": metadata | deleted, "status": {"containerStatuses": [{"state": {state: {}}}]}}

    def patch(self, path: str, payload: Any, content_type: str = "application/json-patch+json") -> dict[str, Any]:
        for change in payload:
            *way, last = change["path"].strip("/").split("/")
            place: Any = self._world.resource
            for step in way:
                place = place[int(step) if isinstance(place, list) else step]
            place[last] = change["value"]
        return self.get(path)

    def delete(self, path: str) -> dict[str, Any]:
        raise AssertionError(f"nobody deletes {path} here")


class _ReadOnce(IConfigReader):
    """What the autoscaler reads from the resource anew each time: nobody edits its bounds here, and checking them is
    most of an update."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = AutoscalingConfig(config)

    def get_cached_autoscaling_config(self) -> AutoscalingConfig:
        return self._config

    def refresh_cached_autoscaling_config(self) -> None:
        """Nothing is new."""


class _OverKubeRay(Autoscaler):
    """Ray's, whose provider talks to the simulated API server."""

    def _init_cloud_instance_provider(self, config: Any, config_reader: Any) -> None:
        world = self._gcs_client
        self._cloud_instance_provider = cloud_provider.KubeRayProvider(
            NAME, config.get_provider_config(), gcs_client=world, k8s_api_client=world.api
        )


def _autoscaler(world: World) -> Autoscaler:
    return _OverKubeRay("session", _ReadOnce(world.config), world)


@contextmanager
def simulated_time(clock: Clock) -> Iterator[None]:
    """The autoscaler and the runner's cluster see that clock within; the autoscaler's log is kept to warnings."""
    users = (reconciler, common, scheduler, cloud_provider, cloud_resource_monitor, capacity)
    log = logging.getLogger("ray.autoscaler")
    before = log.level
    log.setLevel(logging.ERROR)
    with ExitStack() as stack:
        for module in users:
            stack.enter_context(mock.patch.object(module, "time", clock))
        try:
            yield
        finally:
            log.setLevel(before)


def rays_words(world: World) -> Any:
    """As much of the module ``ray`` as the runner needs to ask for nodes, over that world."""

    def nodes() -> list[dict[str, Any]]:
        return [{"NodeID": pod.name, "Alive": True, "Resources": dict(pod.total)} for pod in world.nodes()]

    def placement_group(bundles: Sequence[Bundle], strategy: str) -> Claim:
        return world.claim(bundles, works=False, gang=True)

    util = SimpleNamespace(placement_group=placement_group, remove_placement_group=world.release)
    return SimpleNamespace(nodes=nodes, util=util)
