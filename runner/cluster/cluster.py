"""Ray: the one file that knows its API.

Embedded in the process by default, an existing cluster with an address. Ray Data streams batches through
a pool of actors, Ray Train trains, a Ray task runs a function on the machine that it is meant for. Ray starts
when the first stage asks for it, and never for a run that has nothing to do.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import re
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.cluster import health, quiet
from runner.cluster.node_types import NodeType, capacity, could_hold, inventory, inventory_of_types
from runner.observe.metrics import METRICS
from runner.planning.hardware import accelerators, nvml
from runner.planning.hardware.accelerators import GIB
from runner.rundir.folder import Folder
from runner.spec.model import Hardware, StudentResources, TeacherResources
from runner.system import machine, signals, surroundings
from runner.system.device_errors import is_device_error
from runner.system.errors import KEPT, EngineError, LostError, TutelageError, UserError, first_line

TRAIN_POLL_SECONDS = 0.5
RESTARTS = 20
"""Of an actor that dies, before the run gives up: a row that kills its engine each time must not go on for ever."""
TRAIN_NAME, SEARCH_NAME, TRIALS = "train", "search", "trials.json"
TRAIN_RESTARTS = 2
"""Of training workers that die, all together, before the run gives up; the next run goes on where they were."""
CONNECT_SECONDS = 5.0
NODE_POLL_SECONDS = 1.0
PROBE_SECONDS = 60.0
"""For all nodes to tell the memory of their GPUs."""
ACCELERATOR_SHARE = 0.001
"""Of an accelerator's mark on its node, as Ray itself takes it for ``accelerator_type``."""
METRICS_PORT = "TUTELAGE_METRICS_PORT"
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where a submitted job finds what belongs to it."""
LET_IN = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token (or RAY_AUTH_TOKEN to the "
    "token)"
)
"""What to do about a cluster that refuses."""


def cores_beside(gpus: int) -> int:
    """Cores for a worker with so many GPUs: its engine's process and one for each GPU of several are always busy, and
    texts are tokenised beside them."""
    return 2 + 2 * gpus


@dataclass(frozen=True)
class Resources:
    """What one worker asks for. ``cpus`` None means: all cores of the node without a GPU, else :func:`cores_beside`."""

    cpus: int | None = None
    gpus: int = 0
    accelerator: str | None = None

    @classmethod
    def of(cls, asked: TeacherResources | StudentResources | Hardware) -> Resources:
        """What one worker of the teacher or the student, or a machine of the benchmark, asks for in the spec."""
        return cls(asked.cpus, asked.gpus, asked.accelerator)


@dataclass
class Cluster:
    """A connection to Ray that is made when it is first needed."""

    address: str | None = None
    patience: float = 0.0
    """Seconds that a cluster may take to bring up nodes that are asked for."""
    run: str = ""
    """Whose metrics these are."""
    source: str = "--address"
    """Where the address comes from."""
    on_demand: bool = False
    """Whether its nodes are known to start when they are asked for."""
    _started: bool = field(default=False, repr=False)
    _health: health.Watch | None = field(default=None, repr=False)
    _metrics: dict[str, Any] = field(default_factory=dict, repr=False)
    _early: list[tuple[str, float, dict[str, str]]] = field(default_factory=list, repr=False)

    def start(self) -> Any:
        """Connect, or start Ray in this process. :raises UserError: when there is no cluster at the address."""
        if not self._started:
            # Ray must be told before it is imported.
            os.environ.setdefault("RAY_DEDUP_LOGS", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints even where it is told not to
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
            os.environ.setdefault("PYTHONSAFEPATH", "1")  # what workers start does not import from where they stand
            # Ray runs workers at nice 15 by default: whatever else runs beside a job would stop it.
            os.environ.setdefault("RAY_worker_niceness", "0")
            with _for_this_machine() if self.address is None else nullcontext():
                self._connect()
            self._started = True
            early, self._early = self._early, []
            for name, value, labels in early:
                self._measure(name, value, labels)
        import ray

        return ray

    def knock(self) -> None:
        """:raises UserError: within seconds, where there is an address and nobody listens there."""
        try:
            _knock(self.address)
        except OSError as error:
            raise UserError(_unreachable(self.address, error, self.source)) from error

    def _connect(self) -> None:
        self.knock()
        import ray
        import ray.data
        import ray.train

        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:
            # Without "local" Ray would join a cluster that happens to run on this machine.
            options |= {"address": "local", "num_cpus": machine.usable_cores(), "include_dashboard": False}
            options |= {"_metrics_export_port": _metrics_port()}
        else:
            options["address"] = self.address
        if RAY_JOB not in os.environ:
            # As a client's job: Ray adds the folder where the user stands to the path of all workers but theirs.
            paths = surroundings.own_folder()
            options["job_config"] = ray.job_config.JobConfig(_client_job=True, _py_driver_sys_path=paths)
        try:
            # Ray has handlers of its own for signals, and would have workers import from where the user stands.
            with signals.kept(), quiet.without_rays_lines(), _private_token():
                ray.init(**options)
        except Exception as error:  # Ray raises many kinds, and for some of its own troubles nothing more exact
            raise UserError(_unreachable(self.address, error, self.source)) from error
        # A worker that dies is counted by restarts(); Ray's own lines on it go to stdout, among ours.
        ray._private.worker._worker_logs_enabled = False
        # Once they are imported: each sets up a logger of its own.
        for name in ("ray", "ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self.address is None:
            self._health = health.Watch(ray._private.worker._global_node)

    def stop(self) -> None:
        """Let go of Ray, if it was started."""
        if self._started:
            import ray

            if self._health:
                self._health.close()
            if self._health and self._health.dead:
                ray._private.worker._global_node.kill_all_processes(check_alive=False, allow_graceful=False)
            else:
                ray.shutdown()
            self._started = False
            self._metrics.clear()

    def count(self, metric: str, amount: float, **labels: str) -> None:
        """Add to a counter of :data:`runner.observe.metrics.METRICS`, on the Prometheus endpoint of the driver's node.

        It stays where it is on a Ray without its agent (``ray[default]`` brings it), and while there is no Ray it
        waits for one.
        """
        if amount > 0:
            self._measure(metric, amount, labels)

    def gauge(self, metric: str, value: float, **labels: str) -> None:
        """Set a gauge, as :meth:`count` counts."""
        self._measure(metric, value, labels)

    def _measure(self, name: str, value: float, labels: dict[str, str]) -> None:
        if not self._started:
            self._early.append((name, value, labels))
            return
        from ray.util import metrics

        known = METRICS[name]
        if name not in self._metrics:
            kind = metrics.Counter if known.kind == "counter" else metrics.Gauge
            self._metrics[name] = kind(name, known.meaning, ("run", *known.labels))
        metric, labels = self._metrics[name], {"run": self.run, **labels}
        if known.kind == "counter":
            metric.inc(value, labels)
        else:
            metric.set(value, labels)

    def restarts(self) -> int:
        """How often Ray has started actors of this job again that had died."""
        if not self._started:
            return 0
        import ray

        try:
            # The public way asks the dashboard, which Ray in this process does not have.
            from ray._private.state import actors

            found = actors(job_id=ray.JobID.from_hex(ray.get_runtime_context().get_job_id()))
            return sum(int(one["NumRestarts"]) for one in found.values())
        except Exception:  # a courtesy, like progress: its loss must not end the run
            return 0

    @property
    def starts_on_demand(self) -> bool:
        """Whether nodes start when they are asked for, so that asking early is paying early.

        Either somebody has said so, or the autoscaler has told Ray what nodes it could start.
        """
        return self.address is not None and (self.on_demand or self._node_types() is not None)

    def foresee(self, wanted: Resources, who: str, workers: int = 1) -> None:
        """As :meth:`require`, but no node is started: what cannot be known without that passes.

        :raises UserError: when the nodes that are there do not do, nor could those that the autoscaler knows.
        """
        types = self._node_types()
        if types is None or self._has_room(wanted, workers):
            return
        names = {wanted.accelerator, wanted.accelerator and accelerators.ray_name(wanted.accelerator)}
        bundles = [_bundle(replace(wanted, accelerator=name), wanted.cpus or 1) for name in names]
        # Nodes that are there may be of no type: they count besides, some of them twice.
        nodes = self._nodes()
        if not any(could_hold(types, bundle, workers - capacity(nodes, bundle)) for bundle in bundles):
            raise UserError(
                f"{self._asked(wanted, who, workers)}, and the cluster could start no nodes for that. It knows: "
                f"{inventory_of_types(types)}. Ask for what is there, or let the cluster have more"
            )

    def _node_types(self) -> list[NodeType] | None:
        """What the autoscaler could start, if it has told Ray; Ray's own autoscaler does not."""
        ray = self.start()
        try:
            config = ray._private.state.state.get_cluster_config()
        except Exception:  # no public way tells it, and without it the answer is as before
            return None
        groups = config.node_group_configs if config is not None else ()
        found = [
            NodeType(one.name, dict(one.resources), None if one.max_count < 0 else one.max_count) for one in groups
        ]
        return found or None

    def require(
        self, wanted: Resources, who: str, workers: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """:raises UserError: when ``workers`` at once could never be given what is asked for: they would wait for ever.

        A cluster that scales itself may bring up what it has not got yet: it is told what is wanted, and has
        ``patience`` seconds; ``say`` is told what is waited for. What others use at the moment counts as there.
        """
        if self.address is not None:
            self._require_nodes(wanted, who, workers, say)
            return
        gpus, cpus = wanted.gpus * workers, (wanted.cpus or 1) * workers
        here = machine.gpus() if gpus else []
        have, cores = len(here), machine.usable_cores()
        for what, asked, found in ((f"GPUs{_kind(wanted)}", gpus, have), ("processor cores", cpus, cores)):
            if found < asked:
                each = f" for {workers} workers" if workers > 1 else ""
                raise UserError(
                    f"{who} asks for {asked} {what}{each}, this machine has {found or 'none'}; "
                    "run it on a Ray cluster that has them (--address HOST:PORT), or ask for what is here"
                )
        if wanted.accelerator and here and (reason := _other_kind(wanted.accelerator, here)):
            raise UserError(
                f"{who}.accelerator: {reason}; run it on a Ray cluster that has them (--address HOST:PORT), or ask for "
                "what is here"
            )

    def _require_nodes(self, wanted: Resources, who: str, workers: int, say: Callable[[str], None]) -> None:
        ray = self.start()
        if not self._has_room(wanted, workers):
            say(f"{self._asked(wanted, who, workers)}: waiting up to {self.patience:.0f} s for the cluster's nodes")
            self._wait_for_room(ray, wanted, who, workers)
        if wanted.accelerator and self._in_rays_words(wanted) != wanted:
            self._check_memory(wanted.accelerator, who)

    def _has_room(self, wanted: Resources, workers: int) -> bool:
        bundle = _bundle(self._in_rays_words(wanted), wanted.cpus or 1)
        return capacity(self._nodes(), bundle) >= workers

    def _room(self, wanted: Resources) -> int:
        """How many workers that are given what they ask for the nodes hold, if nobody else uses them."""
        return capacity(self._nodes(), _bundle(self._in_rays_words(wanted), self._request(wanted)["num_cpus"]))

    def _in_rays_words(self, wanted: Resources) -> Resources:
        """With the accelerator by the name that nodes have: Ray's own, which does not tell all kinds apart, where nodes
        have that alone; else the spec's, by which ``render`` tells the autoscaler of nodes before there are any.
        """
        if wanted.accelerator is None:
            return wanted
        other = replace(wanted, accelerator=accelerators.ray_name(wanted.accelerator))
        nodes = self._nodes()
        named, found = (any(_accelerator(one) in node for node in nodes) for one in (wanted, other))
        return other if found and not named else wanted

    def _check_memory(self, accelerator: str, who: str) -> None:
        """:raises UserError: where nodes that Ray calls the same have GPUs with less memory than that accelerator."""
        least, name = accelerators.least_bytes(accelerator), accelerators.ray_name(accelerator)
        label = json.dumps({f"accelerator_type:{accelerator}": 1})
        for memory in self._gpu_memory(f"accelerator_type:{name}") if least else ():
            if memory < least:
                found = f"with {memory / GIB:.0f} GiB" if memory else "whose memory could not be read"
                raise UserError(
                    f"{who}.accelerator: the cluster has a node of type {name} {found}, which Ray does not tell from "
                    f"{accelerator}: start the nodes that are meant with `ray start --resources='{label}'`"
                )

    def _gpu_memory(self, resource: str) -> list[int]:
        """The memory of a GPU of each node with that resource, in bytes as NVML tells it; 0 where it does not."""
        ray = self.start()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and resource in node["Resources"]]
        here = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
        asked = [ray.remote(num_cpus=0)(_first_gpu).options(scheduling_strategy=one).remote() for one in here]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=PROBE_SECONDS) if asked else ([], [])
        found = []
        for one in asked:
            try:
                found.append(int(ray.get(one)) if one in done else 0)
            except Exception:  # a node that goes away while it is asked, in one of Ray's many ways
                found.append(0)
        return found

    def _wait_for_room(self, ray: Any, wanted: Resources, who: str, workers: int) -> None:
        end = time.monotonic() + self.patience
        # What waits for its place is what an autoscaler looks at.
        bundle = _bundle(self._in_rays_words(wanted), wanted.cpus or 1)
        waiting = ray.util.placement_group([bundle] * workers, strategy="PACK")
        try:
            while not self._has_room(wanted, workers):
                if time.monotonic() >= end:
                    raise UserError(self._never(wanted, who, workers))
                time.sleep(min(NODE_POLL_SECONDS, max(0.0, end - time.monotonic())))
        finally:
            ray.util.remove_placement_group(waiting)

    def _asked(self, wanted: Resources, who: str, workers: int) -> str:
        gpus = f"{wanted.gpus} GPU{'s' * (wanted.gpus > 1)}{_kind(wanted)} and " if wanted.gpus else ""
        times, cores = f", {workers} times" if workers > 1 else "", wanted.cpus or 1
        return f"{who} asks for {gpus}{cores} processor core{'s' * (cores > 1)} on one node{times}"

    def _never(self, wanted: Resources, who: str, workers: int) -> str:
        return (
            f"{self._asked(wanted, who, workers)}, and the cluster had no room for that in {self.patience:.0f} seconds "
            f"(--wait). It has: {inventory(self._nodes())}. Add nodes, ask for what is there, or wait longer where "
            "nodes are slow to come"
        )

    def _request(self, wanted: Resources) -> dict[str, Any]:
        wanted = self._in_rays_words(wanted)
        request: dict[str, Any] = {"num_cpus": wanted.cpus or self._cores_for(wanted), "num_gpus": wanted.gpus}
        if wanted.accelerator:
            request["accelerator_type"] = wanted.accelerator
        return request

    def _cores_for(self, wanted: Resources) -> int:
        """All cores of the largest node that has what else is wanted; beside GPUs a few, and no more than their share
        of the node, so that cores never leave a GPU idle."""
        kinds = [name for name, asked in (("GPU", wanted.gpus), (_accelerator(wanted), wanted.accelerator)) if asked]
        nodes = [node for node in self._nodes() if all(kind in node for kind in kinds)]
        if wanted.gpus:
            shares = [int(node.get("CPU", 0) * wanted.gpus / node["GPU"]) for node in nodes]
            return max(1, min(cores_beside(wanted.gpus), max(shares, default=1)))
        return max([1, *(int(node.get("CPU", 0)) for node in nodes)])

    def _nodes(self) -> list[dict[str, float]]:
        """The resources of each node that is alive, whoever uses them."""
        return [node["Resources"] for node in self.start().nodes() if node["Alive"]]

    def map_batches(
        self,
        batches: list[pa.Table],
        worker: type,
        arguments: dict[str, Any],
        wanted: Resources,
        replicas: tuple[int, int],
        concurrent: int = 1,
        heard: Callable[[list[dict[str, Any]]], None] | None = None,
    ) -> Iterator[pa.Table]:
        """Stream ``batches`` through a pool of ``worker(**arguments)`` actors; results as they come.

        Each actor has ``concurrent`` batches in hand at once, in threads of its own. ``heard`` gets, now and then and
        in a thread of its own, the notes that workers have told with the ``tell`` that they are then given.
        Ray Data moves the blocks, scales the pool between ``replicas`` and restarts actors that die.
        :raises TutelageError: as raised by a worker.
        """
        ray = self.start()
        notes = ray.remote(num_cpus=0, max_restarts=-1)(_Notes).remote() if heard else None
        if notes is not None:
            arguments = arguments | {"tell": _Teller(notes)}
        with _data(ray):
            data = ray.data.from_arrow(batches)
            least, at_first, most = self._pool(wanted, replicas, len(batches))
            strategy = ray.data.ActorPoolStrategy(
                min_size=least,
                max_size=most,
                initial_size=at_first,
                max_concurrent_calls_per_actor=concurrent,
                max_tasks_in_flight_per_actor=2 * concurrent,
                enable_true_multi_threading=concurrent > 1,
            )
            # A batch is a block as it is; beside GPUs Ray Data wants the number of its rows, and none of ours has more.
            size = max(map(len, batches), default=1) if wanted.gpus else None
            results = self._through(data, worker, arguments, wanted, strategy, size)
        with _watched(ray, notes, lambda found: heard(found["notes"]) if heard else None):
            yield from _drained(ray, results)

    def _pool(self, wanted: Resources, replicas: tuple[int, int], batches: int) -> tuple[int, int, int]:
        """How many actors a pool has at least, at first and at most."""
        least, most = replicas[0], max(replicas[0], min(replicas[1], batches))
        if wanted.gpus and self.starts_on_demand:
            # Actors that wait for their place are what nodes of their kind start for. Ray Data itself would ask for
            # more by cores and GPUs alone, and be given nodes with other GPUs.
            return most, most, most
        # All that have room start at once: one after the other, each would wait for the start of the last.
        return least, max(least, min(most, self._room(wanted))), most

    def stream(
        self,
        items: pa.Table,
        reader: Callable[[pa.Table], Iterator[pa.Table]],
        worker: type,
        arguments: dict[str, Any],
        wanted: Resources,
        replicas: tuple[int, int],
    ) -> Iterator[pa.Table]:
        """Each row of ``items`` through ``reader`` in a task, each of its tables through a pool of actors.

        Both yield as they go: Ray Data holds the reader back when the actors fall behind, so that memory stays
        bounded however much is read. The reader's tables have one row each, and are what an actor is given.
        :raises TutelageError: as raised by the reader or a worker.
        """
        with _data(self.start()) as (ray, context):
            context.target_max_block_size = 1  # what is yielded goes on at once, and is not collected into a block
            # No processor is asked for: the actors have them all, and reading takes little.
            read = ray.data.from_arrow([items.slice(row, 1) for row in range(len(items))]).map_batches(
                reader,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0,
                compute=ray.data.TaskPoolStrategy(replicas[1]),
            )
            strategy = ray.data.ActorPoolStrategy(
                min_size=replicas[0], max_size=replicas[1], max_tasks_in_flight_per_actor=2
            )
            results = self._through(read, worker, arguments, wanted, strategy, 1)
        yield from _drained(ray, results)

    def _through(
        self, data: Any, worker: type, arguments: dict[str, Any], wanted: Resources, strategy: Any, size: int | None
    ) -> Any:
        """The data set behind a pool of ``worker(**arguments)`` actors, ``size`` rows (None: a block) at a time."""
        return data.map_batches(
            worker,
            fn_constructor_kwargs=arguments,
            batch_size=size,
            batch_format="pyarrow",
            compute=strategy,
            ray_remote_args_fn=lambda: {"max_restarts": RESTARTS, "max_task_retries": RESTARTS},
            **self._request(wanted),
        )

    def call(self, function: Callable[..., Any], wanted: Resources, *, fresh: bool = False, **arguments: Any) -> Any:
        """Run ``function(**arguments)`` in a worker process that has the resources asked for.

        ``fresh``: in one that has done nothing else before, and is gone afterwards.
        """
        ray = self.start()
        with _unwrapped(ray):
            once = {"max_calls": 1, "runtime_env": {"env_vars": {"TUTELAGE_FRESH": "1"}}} if fresh else {}
            task = ray.remote(**self._request(wanted), **once, max_retries=2)(function)
            return ray.get(task.remote(**arguments))

    def train(
        self,
        loop: Callable[..., dict[str, Any]],
        config: dict[str, Any],
        wanted: Resources,
        workers: int,
        storage: Folder,
        on_progress: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Run ``loop(config, report, rank=, size=, wrap=, keep=, restore=)`` on ``workers`` under Ray Train.

        Returns rank 0's result. ``keep`` leaves a checkpoint in ``storage``. A worker that dies is started again and
        finds it with ``restore``; so does a later call with the same ``storage``, which the caller clears.
        :raises TutelageError: as raised by a worker, or when workers died too often.
        """
        ray = self.start()
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

        from runner.cluster.process_group import ProcessGroup  # it imports Ray

        request, wanted = self._request(wanted), self._in_rays_words(wanted)
        cpus = wanted.cpus or max(1, min(request["num_cpus"], self._cores_for(Resources()) // workers))
        board = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()

        class Trainer(DataParallelTrainer):  # type: ignore[misc]  # Ray has no types
            def _register_sigint_handler(self, controller: Any) -> None:
                """Ray's own would end this process without a word; ours is there."""

        def trainer() -> Any:
            return Trainer(
                _train_worker,
                train_loop_config={"loop": loop, "config": config, "board": board},
                scaling_config=ScalingConfig(
                    num_workers=workers,
                    use_gpu=wanted.gpus > 0,
                    resources_per_worker={"CPU": cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})},
                    accelerator_type=wanted.accelerator,
                ),
                # One worker talks to nobody.
                backend_config=ProcessGroup("nccl" if wanted.gpus and workers > 1 else "gloo"),
                run_config=RunConfig(
                    name=TRAIN_NAME,
                    storage_path=storage.url,
                    # While a newer one is written there are two.
                    checkpoint_config=CheckpointConfig(num_to_keep=1),
                    failure_config=FailureConfig(max_failures=TRAIN_RESTARTS),
                ),
            )

        with _watched(ray, board, on_progress), _unwrapped(ray):
            return _fitted(ray, trainer, storage)

    def search(
        self,
        trial: Callable[[dict[str, Any], dict[str, Any], Callable[[dict[str, Any]], None]], None],
        config: dict[str, Any],
        space: dict[str, Any],
        first: dict[str, Any],
        trials: int,
        wanted: Resources,
        storage: Folder,
        seed: int,
        on_trials: Callable[[int], None],
    ) -> list[dict[str, Any]]:
        """Run ``trial(config, settings, report)`` with ``trials`` settings, under Ray Tune; ``first`` is one of them.

        ``space`` has a list to choose from, or (least, most) to draw from by ratio, for each setting. A trial reports
        its ``agreement`` as it goes; those that fall behind after two reports are stopped early (ASHA, Li et al. 2020,
        arXiv:1810.05934). As many run at once as there are resources for. Those that are over are kept in ``storage``
        as JSON, and a later call with it runs the others alone, anew; what Ray Tune writes for itself is never read.
        Returns for each trial its ``settings`` and what it reported last: ``first``, then the others in the order of
        their settings.
        :raises TutelageError: as raised by a trial.
        """
        ray = self.start()
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler

        wanted, cpus = self._in_rays_words(wanted), self._request(wanted)["num_cpus"]
        place = tune.PlacementGroupFactory([_bundle(wanted, cpus)])
        asked = _settings(space, first, trials, seed)
        function = tune.with_parameters(_trial, trial=trial, config=config, asked=asked)
        trainable = tune.with_resources(function, place)
        over = _Trials(storage, asked)
        if waiting := [number for number in range(trials) if number not in over.found]:
            storage.child(SEARCH_NAME).clear()  # Ray Tune's own, of a search that was stopped
            on_trials(len(over.found))
            tuner = tune.Tuner(
                trainable,
                param_space={"number": tune.grid_search(waiting)},
                tune_config=tune.TuneConfig(
                    metric="agreement",
                    mode="max",
                    scheduler=ASHAScheduler(max_t=1000, grace_period=2, reduction_factor=3),
                ),
                run_config=tune.RunConfig(
                    name=SEARCH_NAME,
                    storage_path=storage.url,
                    verbose=0,
                    callbacks=[_keeping(tune, over, on_trials)],
                ),
            )
            with _unwrapped(ray):
                results = tuner.fit()
                for error in results.errors:
                    raise error
                for result in results:
                    over.keep(result.config["number"], result.metrics["said"])
        found = list(over.found.values())
        return sorted(found, key=lambda one: (one["settings"] != first, sorted(one["settings"].items())))


@contextmanager
def _data(ray: Any) -> Iterator[tuple[Any, Any]]:
    """Ray with settings for the data sets that are made within, which keep them."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    context.raise_original_map_exception = True  # Ray Data's own exception loses its cause on the way here
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # Ray 2.60 has no other way yet to bound restarts, and says so to whoever runs the job.
        warnings.filterwarnings("ignore", message="`ray_remote_args")
        yield ray, context


def _drained(ray: Any, data: Any) -> Iterator[pa.Table]:
    with _unwrapped(ray):
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _fitted(ray: Any, trainer: Callable[[], Any], storage: Folder) -> dict[str, Any]:
    """What rank 0 returns. Ray starts workers again that die at work, but not those that die while they are started."""
    left = TRAIN_RESTARTS
    while True:
        if not _has_checkpoint(storage):
            storage.clear()
        try:
            result: dict[str, Any] = trainer().fit().return_value
            return result
        except ray.train.ControllerError as error:
            if not left or not isinstance(error.controller_failure, ray.exceptions.ActorDiedError):
                raise
            left -= 1


def _has_checkpoint(storage: Folder) -> bool:
    """Whether Ray Train would go on from what lies there, instead of failing over it.

    A kill may leave a checkpoint of which Ray knows nothing yet, or half of what it writes down about them.
    """
    from ray.train import Result

    try:
        return Result.from_path(storage.path(TRAIN_NAME)).checkpoint is not None
    except Exception:  # Ray says in many ways that there is nothing, or nothing whole
        return False


def _other_kind(accelerator: str, here: list[nvml.Gpu]) -> str | None:
    """Why Ray would never give this machine's GPUs to who asks for ``accelerator``; None where it would."""
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    node = nvml.first() or here[0]
    kind = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(node.name)
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


def _kind(wanted: Resources) -> str:
    return f" ({wanted.accelerator})" if wanted.accelerator else ""


def _accelerator(wanted: Resources) -> str:
    """The resource by which Ray knows nodes with that accelerator."""
    return f"accelerator_type:{wanted.accelerator}"


def _bundle(wanted: Resources, cpus: int) -> dict[str, float]:
    """What one worker takes of a node, in Ray's names."""
    bundle = {"CPU": float(cpus)} | ({"GPU": float(wanted.gpus)} if wanted.gpus else {})
    return bundle | ({_accelerator(wanted): ACCELERATOR_SHARE} if wanted.accelerator else {})


def _unreachable(address: str | None, error: BaseException, source: str = "--address") -> str:
    """What to say when Ray does not let us in, or does not start."""
    if address is None:
        return (
            f"Ray does not start on this machine: {first_line(error)}; it wants some memory, and room in its folder "
            "(/tmp/ray, or RAY_TMPDIR: a short path). Where other work keeps the machine busy, run it once more"
        )
    if "Version mismatch" in str(error):
        found = re.findall(r"(Ray|Python): (\S+)", str(error))
        theirs, ours = ("{} {}, {} {}".format(*found[i], *found[i + 1]) for i in (0, 2))
        return f"the Ray cluster at {address} runs {theirs}, and this is {ours}: both must be the same"
    if "uthentication" in type(error).__name__ + str(error):
        return f"the Ray cluster at {address} does not let us in: {first_line(error)}; {LET_IN}"
    leave = f"leave {source} out" if source.startswith("-") else f"`unset {source}`, which holds this address"
    return (
        f"no Ray cluster could be reached at {address}: {first_line(error)}; "
        f"start one with `ray start --head`, or {leave}"
    )


def _metrics_port() -> int | None:
    """Where Ray in this process shows its metrics; None: where a port is free.

    :raises UserError: when the variable is no port.
    """
    given = os.environ.get(METRICS_PORT, "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit()) or not 0 < int(given) < 65536:
        raise UserError(f"{METRICS_PORT}: a port from 1 to 65535 is wanted, not {given[:80]!r}")
    return int(given)


def _knock(address: str | None) -> None:
    """:raises OSError: within seconds when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def _for_this_machine() -> Iterator[None]:
    """Ray that is imported and started within listens on the loopback address alone, as on Windows and macOS always.

    It reads that from the environment, where it must not stay: what is started later may be a cluster.
    """
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _private_token() -> Iterator[None]:
    """Whoever has Ray's token runs code as this user, and Ray writes it for all to read: keep it to the user."""
    token = Path(os.path.expanduser("~")) / ".ray" / "auth_token"
    with suppress(OSError):
        token.parent.mkdir(mode=0o700, exist_ok=True)
    yield
    with suppress(OSError):  # there may be none, or somebody else's
        token.chmod(0o600)


class _Board:
    """Where rank 0 leaves its progress, for the driver to read."""

    def __init__(self) -> None:
        self._progress: dict[str, Any] = {}

    def show(self, progress: dict[str, Any]) -> None:
        self._progress = progress

    def progress(self) -> dict[str, Any]:
        return self._progress


class _Notes:
    """Where workers leave what they tell, until the driver looks."""

    def __init__(self) -> None:
        self._notes: list[dict[str, Any]] = []

    def add(self, note: dict[str, Any]) -> None:
        self._notes.append(note)

    def progress(self) -> dict[str, Any]:
        notes, self._notes = self._notes, []
        return {"notes": notes}


class _Teller:
    """Leaves notes on :class:`_Notes`; goes to a worker with its arguments."""

    def __init__(self, notes: Any) -> None:
        self._notes = notes

    def __call__(self, note: dict[str, Any]) -> None:
        with suppress(Exception):  # progress is a courtesy
            self._notes.add.remote(note)


def _train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """What each Ray Train worker runs."""
    import ray
    import ray.train.torch

    context = ray.train.get_context()
    rank, size, board = context.get_world_rank(), context.get_world_size(), settings["board"]

    def report(progress: dict[str, Any]) -> None:
        if rank == 0:
            board.show.remote(progress)

    def wrap(model: Any, **options: Any) -> Any:
        return ray.train.torch.prepare_model(model, parallel_strategy_kwargs=options) if size > 1 else model

    def keep(write: Callable[[Path], None]) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder))
                ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))
        except (OSError, RuntimeError) as error:
            raise _not_kept(error) from error

    def restore(read: Callable[[Path], None]) -> None:
        if found := ray.train.get_checkpoint():
            with found.as_directory() as folder:
                read(Path(folder))

    loop, config = settings["loop"], settings["config"]
    result: dict[str, Any] = loop(config, report, rank=rank, size=size, wrap=wrap, keep=keep, restore=restore)
    return result


def _not_kept(error: OSError | RuntimeError) -> UserError:
    """Why there is no checkpoint: a GPU's error is told by the first call that waits for it, which may well be here."""
    if is_device_error(error):
        return UserError(
            f"the GPU failed in training, which showed as a checkpoint was written: {first_line(error)}; the same "
            "command goes on from the checkpoint before. Where it fails again, `nvidia-smi` on that node tells whether "
            "the GPU is sound and who uses its memory"
        )
    return UserError(
        f"a checkpoint of the training cannot be kept in the run folder: {first_line(error)}; "
        "one takes five times the room of the weights, in a folder that all workers reach"
    )


def _settings(space: dict[str, Any], first: dict[str, Any], trials: int, seed: int) -> list[dict[str, Any]]:
    """``first``, and what a seed draws from ``space``: a list to choose from, or (least, most) by ratio.

    The same each time, so that a search that goes on tries what it would have tried.
    """
    chance = random.Random(seed)

    def drawn(values: Any) -> Any:
        if isinstance(values, list):
            return chance.choice(values)
        return math.exp(chance.uniform(*map(math.log, values)))

    return [first, *({name: drawn(values) for name, values in space.items()} for _ in range(trials - 1))]


class _Trials:
    """The trials of a search that are over, kept as JSON; what was kept of another search does not count."""

    def __init__(self, storage: Folder, asked: list[dict[str, Any]]) -> None:
        self._storage, self._asked = storage, asked
        kept = storage.read_json(TRIALS) if storage.exists(TRIALS) else []
        self.found: dict[int, dict[str, Any]] = {
            asked.index(one["settings"]): one for one in kept if _is_of(asked, one)
        }

    def keep(self, number: int, said: dict[str, Any]) -> None:
        """What the trial of that number reported last."""
        self.found[number] = {"settings": self._asked[number]} | said
        self._storage.write_json(TRIALS, list(self.found.values()))


def _is_of(asked: list[dict[str, Any]], kept: Any) -> bool:
    """Whether what is kept is a trial of these settings, and has its figure."""
    return isinstance(kept, dict) and kept.get("settings") in asked and isinstance(kept.get("agreement"), float)


def _trial(
    given: dict[str, Any], trial: Callable[..., None], config: dict[str, Any], asked: list[dict[str, Any]]
) -> None:
    """What Ray Tune runs for each of a search's settings."""
    from ray import tune

    settings = asked[given["number"]]

    def report(said: dict[str, Any]) -> None:
        tune.report({"agreement": said["agreement"], "said": said})

    trial(config, settings, report)


def _keeping(tune: Any, over: _Trials, on_trials: Callable[[int], None]) -> Any:
    """Keeps each trial that is over, and tells how many are."""

    class Keeping(tune.Callback):  # type: ignore[misc]  # Ray has no types
        def __reduce__(
            self,
        ) -> Any:  # Ray Tune pickles it for a restore that never comes; it may hold locks
            return object, ()

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            if said := trial.last_result.get("said"):
                over.keep(trial.config["number"], said)
            on_trials(len(over.found))

    return Keeping()


@contextmanager
def _watched(ray: Any, board: Any, on_progress: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """While within, ``on_progress`` gets what is on the board, now and then and once more at the end."""
    if board is None:
        yield
        return
    stop, over = threading.Event(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(ray, board, stop, over, on_progress), daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        over.set()  # and nobody waits for what a Ray that may be gone would say
        raise
    finally:
        stop.set()
        watcher.join(0.0 if over.is_set() else None)


def _watch(
    ray: Any,
    board: Any,
    stop: threading.Event,
    over: threading.Event,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    last = False
    while not last:
        last = stop.wait(TRAIN_POLL_SECONDS)  # and once more at the end
        try:
            progress = ray.get(board.progress.remote(), timeout=5)
        except Exception:  # progress is a courtesy: its loss must not end the run
            time.sleep(TRAIN_POLL_SECONDS)
            continue
        if progress and not over.is_set():
            on_progress(progress)


class _unwrapped:
    """Ray wraps what a worker raised in layers of its own: give the user's error back."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        known = self._ray.exceptions
        for inner in _chain(error):
            # Ray's own wrapper of an error is an instance of that error's class, with a traceback for a message.
            if isinstance(inner, TutelageError) and not isinstance(inner, known.RayTaskError):
                if inner is error:
                    return
                # Our messages are one line; what follows it is Ray's advice on retrying.
                raise type(inner)(str(inner).splitlines()[0]) from None
        if any(_lost_its_node(known, inner) for inner in _chain(error)):
            raise LostError(
                f"nodes that the run worked on went away more often than Ray starts their work again; {KEPT}"
            ) from error
        dead = (known.ActorDiedError, known.WorkerCrashedError, known.OutOfMemoryError)
        if any(isinstance(inner, dead) for inner in _chain(error)):
            raise EngineError(
                "a worker process died more often than Ray restarts it, usually for want of memory; what is finished "
                "is kept. Ask for less (a smaller model, max_context, max_length or batch_size; student.accumulate "
                "computes a batch in parts) or a larger node"
            ) from error
        # Ray Train's own actor stands on the driver's node, which takes no more work once Ray drains it.
        if any(isinstance(inner, known.ActorUnschedulableError) for inner in _chain(error)):
            raise LostError(
                "Ray gives no more work to a node that the run counts on (its pod is deleted or its machine is taken "
                f"back); {KEPT}"
            ) from error


def _lost_its_node(known: Any, error: BaseException) -> bool:
    """Whether ``error`` is of what died with its node; of an actor only Ray's words tell."""
    died = isinstance(error, known.ActorDiedError) and (error.preempted or "its node has died" in str(error))
    return died or isinstance(error, known.NodeDiedError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        waiting += [getattr(current, name, None) for name in ("cause", "health_check_failure", "controller_failure")]
        failures = getattr(current, "worker_failures", None)
        waiting += list(failures.values()) if isinstance(failures, dict) else []
