"""Batches through a pool of actors, by Ray Data: it moves the blocks, scales the pool and restarts actors that die."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from runner.cluster import relay
from runner.cluster.errors import UnwrappedErrors

RESTARTS = 20
"""Of an actor that dies, before the run gives up: a row that kills its engine each time must not go on for ever."""


def map_batches(
    ray: Any,
    batches: list[pa.Table],
    worker: type,
    arguments: dict[str, Any],
    request: dict[str, Any],
    sizes: tuple[int, int, int],
    concurrent: int,
    on_notes: Callable[[list[dict[str, Any]]], None] | None,
) -> Iterator[pa.Table]:
    """As :meth:`runner.cluster.cluster.Cluster.map_batches`; ``sizes`` of the pool are its least, first and most."""
    notes = relay.start_actor(ray, relay.Notes) if on_notes else None
    if notes is not None:
        arguments = arguments | {"tell": relay.Teller(notes)}
    with _data_context(ray):
        data = ray.data.from_arrow(batches)
        strategy = ray.data.ActorPoolStrategy(
            min_size=sizes[0],
            max_size=sizes[2],
            initial_size=sizes[1],
            max_concurrent_calls_per_actor=concurrent,
            max_tasks_in_flight_per_actor=2 * concurrent,
            enable_true_multi_threading=concurrent > 1,
        )
        # A batch is a block as it is; beside GPUs Ray Data wants the number of its rows, and none of ours has more.
        size = max(map(len, batches), default=1) if request["num_gpus"] else None
        results = _through_pool(data, worker, arguments, request, strategy, size)
    with relay.watched(ray, notes, lambda told: on_notes(told["notes"]) if on_notes else None):
        yield from _drained(ray, results)


def stream(
    ray: Any,
    items: pa.Table,
    reader: Callable[[pa.Table], Iterator[pa.Table]],
    worker: type,
    arguments: dict[str, Any],
    request: dict[str, Any],
    replicas: tuple[int, int],
) -> Iterator[pa.Table]:
    """As :meth:`runner.cluster.cluster.Cluster.stream`."""
    with _data_context(ray) as context:
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
        results = _through_pool(read, worker, arguments, request, strategy, 1)
    yield from _drained(ray, results)


def _through_pool(
    data: Any, worker: type, arguments: dict[str, Any], request: dict[str, Any], strategy: Any, size: int | None
) -> Any:
    """The data set behind a pool of ``worker(**arguments)`` actors, ``size`` rows (None: a block) at a time."""
    return data.map_batches(
        worker,
        fn_constructor_kwargs=arguments,
        batch_size=size,
        batch_format="pyarrow",
        compute=strategy,
        ray_remote_args_fn=lambda: {"max_restarts": RESTARTS, "max_task_retries": RESTARTS},
        **request,
    )


@contextmanager
def _data_context(ray: Any) -> Iterator[Any]:
    """Ray Data's settings for the data sets that are made within, which keep them."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    context.raise_original_map_exception = True  # Ray Data's own exception loses its cause on the way here
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # Ray 2.60 has no other way yet to bound restarts, and says so to whoever runs the job.
        warnings.filterwarnings("ignore", message="`ray_remote_args")
        yield context


def _drained(ray: Any, data: Any) -> Iterator[pa.Table]:
    with UnwrappedErrors(ray):
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
