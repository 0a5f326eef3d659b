"""Every private name of Ray that this package uses, each behind a function of its own.

``tests/cluster/test_private_api.py`` calls each of them, so that a Ray that has moved one fails there. Ray is imported
when a function is called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTING_TITLE, BEGUN_TITLE = "default_worker.py", "ray::"
"""In the command line of a worker's process that starts, and at the beginning of one's that has begun."""


# The driver


def client_job_config(paths: list[str]) -> Any:
    """The configuration of a client's job: of the driver's ``sys.path``, workers get ``paths`` alone.

    Otherwise Ray adds the folder where the user stands to the path of all workers.
    """
    import ray

    return ray.job_config.JobConfig(_client_job=True, _py_driver_sys_path=paths)


def metrics_port_option(port: int | None) -> dict[str, Any]:
    """The option of ``ray.init`` for the port of the metrics; None: any that is free."""
    return {"_metrics_export_port": port}


def hide_worker_logs() -> None:
    """Keep Ray's own lines about workers that die off stdout."""
    import ray

    ray._private.worker._worker_logs_enabled = False


def server_version(client: Any) -> str:
    """The version of Ray that a job submission client has found on its server."""
    return str(client._server_ray_version)


# The Ray that this process has started


def local_node() -> Any:
    """The node of the Ray that this process has started; None where it has connected to another."""
    import ray

    return ray._private.worker._global_node


def kill_node(node: Any) -> None:
    """End all processes of a node at once."""
    node.kill_all_processes(check_alive=False, allow_graceful=False)


def dead_processes(node: Any) -> list[str]:
    """The kinds of a node's processes that have died: ``raylet``, ``gcs_server``, ..."""
    return [kind for kind, _ in node.dead_processes()]


def raylet_pid(node: Any) -> int:
    """The process of a node's raylet; 0 where there is none."""
    return next((int(entry.process.pid) for entry in node.all_processes.get("raylet") or ()), 0)


def logs_dir(node: Any) -> Path:
    """Where a node's processes write their logs."""
    return Path(node.get_logs_dir_path())


# What the control store knows


def actor_restarts() -> int:
    """How often actors of this job were started again. The public API asks the dashboard, which may not be there."""
    import ray
    from ray._private.state import actors

    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    return sum(int(actor["NumRestarts"]) for actor in actors(job_id=job).values())


def cluster_config() -> Any:
    """What the autoscaler has reported of the nodes that it could start, as protobuf; None where it reports nothing."""
    import ray

    return ray._private.state.state.get_cluster_config()


def accelerator_type(gpu: str) -> str | None:
    """What Ray calls a GPU, given the driver's name for it: ``NVIDIA A100-SXM4-80GB`` is ``A100``."""
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    name: str | None = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(gpu)
    return name


def is_worker(ray: Any) -> bool:
    """Whether this process is one of Ray's workers. Ray must be initialized."""
    return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)


# Ray Train


def trainer_class() -> Any:
    """Ray Train's trainer for functions of any framework, without its handler of SIGINT.

    That would end this process without a word, and :mod:`runner.system.signals` has one of its own.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    class Trainer(DataParallelTrainer):  # type: ignore[misc]  # Ray has no types
        def _register_sigint_handler(self, controller: Any) -> None:
            pass

    return Trainer


def address_and_port() -> tuple[str, int]:
    """This node's address, and a port of it that is free."""
    from ray.train._internal.utils import get_address_and_port

    host, port = get_address_and_port()
    return str(host), int(port)


def join_process_group(place: dict[str, str], backend: str, rank: int, size: int) -> None:
    """Set up torch.distributed in a worker; ``place`` has the ``MASTER_ADDR`` and ``MASTER_PORT`` of rank 0."""
    from ray.train.torch import config

    os.environ.update(place)
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(backend, world_rank=rank, world_size=size, init_method="env://")


def leave_process_group(destroy: bool) -> None:
    """Undo :func:`join_process_group`; ``destroy``: where the group has several workers."""
    from ray.train.torch import config

    config._shutdown_torch(destroy_process_group=destroy)


@contextmanager
def on_own_gpu() -> Iterator[None]:
    """Around the training in a worker: torch's current device is the worker's own."""
    from ray.train.torch.config import TorchConfigContextManager

    with TorchConfigContextManager():
        yield
