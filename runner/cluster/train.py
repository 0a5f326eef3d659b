"""A training on several workers, by Ray Train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.cluster import private_api, relay
from runner.cluster.errors import UnwrappedErrors
from runner.cluster.resources import Resources
from runner.rundir.folder import Folder
from runner.system.device_errors import is_device_error
from runner.system.errors import UserError, first_line

NAME = "train"
"""Ray Train's folder in the storage."""
RESTARTS = 2
"""Of training workers that die, all together, before the run gives up; the next run goes on where they were."""


def train(
    ray: Any,
    loop: Callable[..., dict[str, Any]],
    config: dict[str, Any],
    wanted: Resources,
    workers: int,
    storage: Folder,
    on_progress: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """As :meth:`runner.cluster.cluster.Cluster.train`; ``wanted`` names its cores, and the accelerator as nodes do."""
    from runner.cluster.process_group import ProcessGroup  # imports ray

    board = relay.start_actor(ray, relay.Board)
    trainer_class = private_api.trainer_class()

    def trainer() -> Any:
        return trainer_class(
            _train_worker,
            train_loop_config={"loop": loop, "config": config, "board": board},
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=wanted.gpus > 0,
                resources_per_worker={"CPU": wanted.cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})},
                accelerator_type=wanted.accelerator,
            ),
            # One worker talks to nobody.
            backend_config=ProcessGroup("nccl" if wanted.gpus and workers > 1 else "gloo"),
            run_config=ray.train.RunConfig(
                name=NAME,
                storage_path=storage.url,
                # While a newer one is written there are two.
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
                failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
            ),
        )

    with relay.watched(ray, board, on_progress), UnwrappedErrors(ray):
        return _fitted(ray, trainer, storage)


def _fitted(ray: Any, trainer: Callable[[], Any], storage: Folder) -> dict[str, Any]:
    """What rank 0 returns. Ray starts workers again that die at work, but not those that die while they are started."""
    left = RESTARTS
    while True:
        if not has_checkpoint(storage):
            storage.clear()
        try:
            result: dict[str, Any] = trainer().fit().return_value
            return result
        except ray.train.ControllerError as error:
            if not left or not isinstance(error.controller_failure, ray.exceptions.ActorDiedError):
                raise
            left -= 1


def has_checkpoint(storage: Folder) -> bool:
    """Whether Ray Train would go on from what lies there, instead of failing over it.

    A kill may leave a checkpoint of which Ray knows nothing yet, or half of what it writes down about them.
    """
    from ray.train import Result

    try:
        return Result.from_path(storage.path(NAME)).checkpoint is not None
    except Exception:  # Ray says in many ways that there is nothing, or nothing whole
        return False


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
            raise checkpoint_failed(error) from error

    def restore(read: Callable[[Path], None]) -> None:
        if checkpoint := ray.train.get_checkpoint():
            with checkpoint.as_directory() as folder:
                read(Path(folder))

    loop, config = settings["loop"], settings["config"]
    result: dict[str, Any] = loop(
        config, report, rank=rank, size=size, wrap=wrap, save_checkpoint=keep, load_checkpoint=restore
    )
    return result


def checkpoint_failed(error: OSError | RuntimeError) -> UserError:
    """Why there is no checkpoint: a GPU's error is told by the first call that waits for it, which may well be here."""
    if is_device_error(error):
        return UserError(
            "student.gpu-failed",
            f"the GPU failed in training, which showed as a checkpoint was written: {first_line(error)}; the same "
            "command goes on from the checkpoint before. Where it fails again, `nvidia-smi` on that node tells whether "
            "the GPU is sound and who uses its memory",
        )
    return UserError(
        "student.checkpoint-not-kept",
        f"a checkpoint of the training cannot be kept in the run folder: {first_line(error)}; "
        "one takes five times the room of the weights, in a folder that all workers reach",
    )
