"""A training's checkpoint: a folder with what all workers share, ``all.pt``, and what each has of its own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from runner.system.errors import UserError, first_line

SHARED = "all.pt"


def write(folder: Path, rank: int, shared: dict[str, Any] | None, own: dict[str, Any]) -> None:
    """Write a worker's part; ``shared`` is None on all workers but one."""
    if shared is not None:
        torch.save(shared, folder / SHARED)
    torch.save(own, folder / _own(rank))


def read(folder: Path, rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all share, and what the worker ``rank`` has of its own. No code is run from it.

    :raises UserError: when it cannot be read.
    """
    try:
        shared, own = (
            torch.load(folder / name, map_location="cpu", weights_only=True) for name in (SHARED, _own(rank))
        )
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            "student.checkpoint-broken",
            f"{folder}: this checkpoint of the training cannot be read ({first_line(error)}); remove checkpoints/ "
            "from the run folder, and the training begins anew",
        ) from error
    return shared, own


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of torch's random generators, by name."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on drawing from :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _own(rank: int) -> str:
    return f"worker-{rank}.pt"
