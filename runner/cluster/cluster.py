"""A run's Ray: what stages ask of it. How each thing is done stands in the modules beside this one.

Ray starts when the first stage asks for it, and never for a run that has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from runner.cluster import private_api, stream, train, tune
from runner.cluster.capacity import Capacity
from runner.cluster.connection import Connection
from runner.cluster.errors import UnwrappedErrors
from runner.cluster.ray_metrics import RayMetrics
from runner.cluster.resources import Resources
from runner.rundir.folder import Folder


@dataclass
class Cluster:
    """A connection to Ray that is made when it is first needed, and what is done with it."""

    address: str | None = None
    """None: Ray in this process."""
    patience: float = 0.0
    """Seconds that a cluster may take to bring up nodes that are asked for."""
    run: str = ""
    """Whose metrics these are."""
    source: str = "--address"
    """Where the address comes from."""
    on_demand: bool = False
    """Whether its nodes are known to start when they are asked for."""
    connection: Connection = field(init=False, repr=False)
    capacity: Capacity = field(init=False, repr=False)
    metrics: RayMetrics = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.connection = Connection(self.address, self.source)
        self.capacity = Capacity(lambda: self.start(), self.address is not None, self.patience, self.on_demand)
        self.metrics = RayMetrics(self.run)

    @property
    def started(self) -> bool:
        """Whether there is a Ray yet."""
        return self.connection.started

    @property
    def is_warm(self) -> bool:
        """Whether an engine is kept from earlier work (:mod:`runner.cluster.kept`)."""
        return False

    def start(self) -> Any:
        """Connect, or start Ray in this process; returns the module ``ray``.

        :raises UserError: when there is no cluster at the address.
        """
        if self.connection.start():
            self.metrics.open()
        import ray

        return ray

    def check_reachable(self) -> None:
        """:raises UserError: within seconds, where there is an address and nobody listens there."""
        self.connection.check_reachable()

    def stop(self) -> None:
        """Let go of Ray, if it was started."""
        if self.started:
            self.connection.stop()
            self.metrics.close()

    def count(self, metric: str, amount: float, **labels: str) -> None:
        """Add to a counter of :data:`runner.observe.metric_names.METRICS`; while there is no Ray it waits for one."""
        if amount > 0:
            self.metrics.record(metric, amount, labels)

    def gauge(self, metric: str, value: float, **labels: str) -> None:
        """Set a gauge, as :meth:`count` counts."""
        self.metrics.record(metric, value, labels)

    def restarts(self) -> int:
        """How often Ray has started actors of this job again that had died."""
        if not self.started:
            return 0
        try:
            return private_api.actor_restarts()
        except Exception:  # a courtesy, like progress: its loss must not end the run
            return 0

    @property
    def starts_on_demand(self) -> bool:
        """Whether nodes start when they are asked for, so that asking early is paying early."""
        return self.capacity.starts_on_demand

    def foresee(self, wanted: Resources, who: str, workers: int = 1) -> None:
        """As :meth:`require`, but no node is started: what cannot be known without that passes.

        :raises UserError: when the nodes that are there do not do, nor could those that the autoscaler knows.
        """
        self.capacity.foresee(wanted, who, workers)

    def require(
        self, wanted: Resources, who: str, workers: int = 1, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """:raises UserError: when ``workers`` at once could never be given what is asked for: they would wait for ever.

        A cluster that scales itself has ``patience`` seconds; ``say`` is told what is waited for.
        """
        self.capacity.require(wanted, who, workers, say)

    def map_batches(
        self,
        batches: list[pa.Table],
        worker: type,
        arguments: dict[str, Any],
        wanted: Resources,
        replicas: tuple[int, int],
        concurrent: int = 1,
        on_notes: Callable[[list[dict[str, Any]]], None] | None = None,
    ) -> Iterator[pa.Table]:
        """Stream ``batches`` through a pool of ``worker(**arguments)`` actors; results as they come.

        Each actor has ``concurrent`` batches in hand at once, in threads of its own. ``on_notes`` gets, now and then
        and in a thread of its own, the notes that workers have told with the ``tell`` that they are then given.
        Ray Data moves the blocks, scales the pool between ``replicas`` and restarts actors that die.
        :raises TutelageError: as raised by a worker.
        """
        ray, sizes = self.start(), self.capacity.pool_sizes(wanted, replicas, len(batches))
        request = self.capacity.request(wanted)
        yield from stream.map_batches(ray, batches, worker, arguments, request, sizes, concurrent, on_notes)

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
        ray, request = self.start(), self.capacity.request(wanted)
        yield from stream.stream(ray, items, reader, worker, arguments, request, replicas)

    def call(self, function: Callable[..., Any], wanted: Resources, *, fresh: bool = False, **arguments: Any) -> Any:
        """Run ``function(**arguments)`` in a worker process that has the resources asked for.

        ``fresh``: in one that has done nothing else before, and is gone afterwards.
        """
        ray = self.start()
        with UnwrappedErrors(ray):
            once = {"max_calls": 1, "runtime_env": {"env_vars": {"TUTELAGE_FRESH": "1"}}} if fresh else {}
            task = ray.remote(**self.capacity.request(wanted), **once, max_retries=2)(function)
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
        """Run ``loop(config, report, rank=, size=, wrap=, save_checkpoint=, load_checkpoint=)`` on Ray Train workers.

        Returns rank 0's result. ``save_checkpoint`` leaves one in ``storage``. A worker that dies is started again and
        finds it with ``load_checkpoint``; so does a later call with the same ``storage``, which the caller clears.
        :raises TutelageError: as raised by a worker, or when workers died too often.
        """
        ray, request, wanted = self.start(), self.capacity.request(wanted), self.capacity.by_node_names(wanted)
        share = self.capacity.cores_for(Resources()) // workers
        cpus = wanted.cpus or max(1, min(request["num_cpus"], share))
        return train.train(ray, loop, config, replace(wanted, cpus=cpus), workers, storage, on_progress)

    def search(
        self,
        trial: tune.Trial,
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
        ray, wanted, cpus = self.start(), self.capacity.by_node_names(wanted), self.capacity.request(wanted)["num_cpus"]
        settings = tune.draw_settings(space, first, trials, seed)
        return tune.search(ray, trial, config, settings, wanted.bundle(cpus), storage, on_trials)
