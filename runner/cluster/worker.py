"""What a process knows of itself where it is a worker of Ray. Loads no Ray where there is none."""

from __future__ import annotations

import sys

from runner.cluster import private_api


def given_gpu() -> bool | None:
    """Whether this worker of Ray was given a GPU; None where this is no worker.

    One that was given none sees those of its node all the same.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or not private_api.is_worker(ray):
        return None
    return bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
