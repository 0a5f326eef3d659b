"""How the workers of a training find one another, set up from a machine that has no torch.

Ray's own ``TorchConfig`` imports torch where it is made: in the driver, and in the controller beside it. Here the
workers alone do, by Ray's own functions. So the head of a cluster, where the driver runs, goes without a gigabyte.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig

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
        host, port = worker_group.execute_single(0, get_address_and_port)
        place = {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
        size, backend = len(worker_group), backend_config.backend
        ray.get([worker_group.execute_single_async(rank, _join, place, backend, rank, size) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        with suppress(ray.exceptions.GetTimeoutError):
            ray.get(worker_group.execute_async(_leave, len(worker_group) > 1), timeout=LEAVE_SECONDS)


def _join(place: dict[str, str], backend: str, rank: int, size: int) -> None:
    from ray.train.torch import config

    os.environ.update(place)
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(backend, world_rank=rank, world_size=size, init_method="env://")


def _leave(several: bool) -> None:
    from ray.train.torch import config

    config._shutdown_torch(destroy_process_group=several)


@contextmanager
def _worker() -> Iterator[None]:
    """Around the training in a worker: on its own GPU, and with errors that the driver's machine can read."""
    from ray.train.torch.config import TorchConfigContextManager

    try:
        with TorchConfigContextManager():
            yield
    except Exception as error:
        kind = type(error)
        if kind.__module__.partition(".")[0] in BUILT_IN:
            raise
        raise RuntimeError(f"{kind.__module__}.{kind.__qualname__}: {first_line(error)}") from error
