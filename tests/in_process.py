"""A cluster for tests of stages that start no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from runner.cluster.cluster import Cluster


class Here(Cluster):
    """A cluster whose workers are this process."""

    def call(self, function: Callable[..., Any], wanted: Any, *, fresh: bool = False, **arguments: Any) -> Any:
        return function(**arguments)

    def map_batches(
        self, batches: list[pa.Table], worker: type, arguments: dict[str, Any], *rest: Any
    ) -> Iterator[pa.Table]:
        actor = worker(**arguments)
        yield from map(actor, batches)

    def train(self, loop: Callable[..., dict[str, Any]], config: dict[str, Any], *rest: Any) -> dict[str, Any]:
        return loop(config, lambda note: None)

    def require(self, *asked: Any) -> None:
        pass

    def count(self, *counted: Any, **labels: Any) -> None:
        pass
