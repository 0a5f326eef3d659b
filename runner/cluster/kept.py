"""A cluster whose labelling actor stays when its work is done, so that the next work finds its engine started.

For whoever asks a few rows again and again. A worker that can be turned to other work names in ``TURNS`` the arguments
that it takes anew with ``turn_to``; while those others that it was made of stay the same, it is kept. It holds what it
was given of the node; other work on this cluster is done in its process meanwhile, as there is no room beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from runner.cluster import relay
from runner.cluster.cluster import Cluster
from runner.cluster.errors import UnwrappedErrors
from runner.cluster.resources import Resources
from runner.system.errors import TutelageError


class Held:
    """The process: one worker that is kept, and other work beside it."""

    def __init__(self, worker: type, arguments: dict[str, Any]) -> None:
        self._worker = worker(**arguments)

    def turn_to(self, arguments: dict[str, Any]) -> None:
        """See :meth:`runner.teacher.worker.Labeller.turn_to`."""
        self._worker.turn_to(**arguments)

    def work(self, batch: pa.Table) -> pa.Table:
        """A batch through the worker."""
        return self._worker(batch)

    def through(self, worker: type, arguments: dict[str, Any], batch: pa.Table) -> pa.Table:
        """A batch through another worker, which is not kept."""
        return worker(**arguments)(batch)

    def call(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Call a function here."""
        return function(**arguments)


@dataclass
class KeptCluster(Cluster):
    """A cluster with one labelling actor at most, which is kept until another is needed.

    An actor that dies is not started again under the work: the work fails, and the next begins with a new one.
    """

    _actor: Any = field(init=False, repr=False, default=None)
    _made_of: tuple[Any, ...] = field(init=False, repr=False, default=())
    _notes: Any = field(init=False, repr=False, default=None)

    @property
    def is_warm(self) -> bool:
        """Whether an actor is kept."""
        return self._actor is not None

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
        """As :meth:`Cluster.map_batches`, through the actor that is kept; ``replicas`` count as one."""
        turns = getattr(worker, "TURNS", ())
        if not turns and self._actor is None:
            yield from super().map_batches(batches, worker, arguments, wanted, replicas, concurrent, on_notes)
            return
        ray = self.start()
        if not turns:
            with UnwrappedErrors(ray):
                yield from ray.get([self._actor.through.remote(worker, arguments, batch) for batch in batches])
            return
        if self._notes is None and on_notes:
            self._notes = relay.start_actor(ray, relay.Notes)
        watched = relay.watched(ray, self._notes, lambda told: on_notes(told["notes"]) if on_notes else None)
        with watched, UnwrappedErrors(ray), self._let_go_where_it_fails():
            self._turn(ray, worker, arguments, turns, wanted, concurrent)
            waiting = [self._actor.work.remote(batch) for batch in batches]
            while waiting:
                done, waiting = ray.wait(waiting)
                yield from ray.get(done)

    def call(self, function: Callable[..., Any], wanted: Resources, *, fresh: bool = False, **arguments: Any) -> Any:
        """As :meth:`Cluster.call`; in the process of the actor where one is kept."""
        if self._actor is None:
            return super().call(function, wanted, fresh=fresh, **arguments)
        ray = self.start()
        with UnwrappedErrors(ray):
            return ray.get(self._actor.call.remote(function, arguments))

    def stop(self) -> None:
        """Let go of the actor and of Ray."""
        self.let_go()
        super().stop()

    def let_go(self) -> None:
        """End the actor, if one is kept."""
        if self._actor is not None and self.started:
            with suppress(Exception):  # it may be dead, and Ray as well
                self.start().kill(self._actor)
        self._actor, self._made_of = None, ()

    def _turn(
        self,
        ray: Any,
        worker: type,
        arguments: dict[str, Any],
        turns: tuple[str, ...],
        wanted: Resources,
        concurrent: int,
    ) -> None:
        """Have the actor that these arguments need, turned to them."""
        fixed = {name: value for name, value in arguments.items() if name not in turns}
        made_of = (worker, fixed, wanted)
        if self._actor is not None and made_of == self._made_of:
            ray.get(self._actor.turn_to.remote({name: arguments[name] for name in turns}))
            return
        self.let_go()
        told = {"tell": relay.Teller(self._notes)} if self._notes is not None else {}
        kind = ray.remote(**self.capacity.request(wanted), max_concurrency=max(2, concurrent))(Held)
        self._actor = kind.remote(worker, arguments | told)
        # A method of its own, for an actor's constructor answers nobody: here its engine is started.
        ray.get(self._actor.turn_to.remote({name: arguments[name] for name in turns}))
        self._made_of = made_of

    @contextmanager
    def _let_go_where_it_fails(self) -> Iterator[None]:
        """Ends the actor where its work fails, but for an error of ours from one that had started: it may be asked in
        another way."""
        try:
            yield
        except BaseException as error:
            if not (isinstance(error, TutelageError) and self._made_of):
                self.let_go()
            raise
