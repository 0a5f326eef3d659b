"""How the workers of a training find one another, set up from a machine that has no torch.

Ray's own ``TorchConfig`` imports torch where it is made: in the driver, and in the controller beside it. Here the
workers alone do, by Ray's own functions. So the head of a cluster, where the driver runs, goes without a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

from runner.cluster import private_api
from runner.system.errors import first_line

LEAVE_SECONDS = 30
"""How long the workers have to leave their group; after that they are stopped all the same."""
BUILT_IN = ("builtins", "runner", "ray")
"""Packages whose errors the driver's machine can unpickle, whatever else is installed there."""


@dataclass
class ProcessGroup(BackendConfig):  # type: ignore[misc]  # Ray has no types
    """Of the workers of one training: ``backend`` is nccl or gloo."""

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        return _Workers

    @property
    def train_func_context(self) -> Any:
        return _worker


class _Workers(Backend):  # type: ignore[misc]  # Ray has no types
    """What Ray Train's controller, which runs beside the driver, has the workers do before and after."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        host, port = worker_group.execute_single(0, private_api.address_and_port)
        place = {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
        size, backend = len(worker_group), backend_config.backend
        join = private_api.join_process_group
        ray.get([worker_group.execute_single_async(rank, join, place, backend, rank, size) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        with suppress(ray.exceptions.GetTimeoutError):
            ray.get(
                worker_group.execute_async(private_api.leave_process_group, len(worker_group) > 1),
                timeout=LEAVE_SECONDS,
            )


@contextmanager
def _worker() -> Iterator[None]:
    """Around the training in a worker: on its own GPU, and with errors that the driver's machine can read."""
    try:
        with private_api.on_own_gpu():
            yield
    except Exception as error:
        kind = type(error)
        if kind.__module__.partition(".")[0] in BUILT_IN:
            raise
        raise RuntimeError(f"{kind.__module__}.{kind.__qualname__}: {first_line(error)}") from error
