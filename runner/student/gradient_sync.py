"""How several training workers share their gradients: what travels, and what is waited for.

Knows torch's DistributedDataParallel; does not know Ray, which makes one of a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

_SKIPPED_LAYERS = ("layerdrop", "encoder_layerdrop")
"""By these names encoders say how often they leave out a layer in training."""


def ddp_options(model: Any, loss: Callable[[], torch.Tensor], on: torch.device) -> dict[str, bool]:
    """What DistributedDataParallel is to be told of a model, before it is wrapped.

    ``broadcast_buffers``: no encoder changes its buffers as it learns, and those of rank 0 are not to travel at every
    forward. ``find_unused_parameters``: looking for weights that no loss reaches costs a walk over the graph at every
    step; a backward of ``loss`` tells beforehand whether there are any (a pooler, say). On processors they are always
    looked for, as it costs nothing beside the step, and leaves the buckets of gradients, and so the order in which
    three workers' are added up, as they are: a training that is gone on with ends at the same weights.
    """
    return {"broadcast_buffers": False, "find_unused_parameters": on.type == "cpu" or leaves_unused(model, loss)}


def leaves_unused(model: Any, loss: Callable[[], torch.Tensor]) -> bool:
    """Whether a backward of ``loss`` leaves weights without a gradient, or may leave some in one step or another.

    Without dropout, so that nothing is drawn; the gradients are gone afterwards.
    """
    if any(getattr(model.config, name, 0) for name in _SKIPPED_LAYERS):
        return True
    was_training = model.training
    model.eval()
    loss().backward()  # type: ignore[no-untyped-call]
    unused = any(weight.requires_grad and weight.grad is None for weight in model.parameters())
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return unused


def compress(model: Any, precision: str, on: torch.device) -> bool:
    """Have a wrapped model's gradients travel in fp16, where the training is in half precision on GPUs; whether it has.

    They were computed in half precision, and half as many bytes travel. What leaves fp16's range comes out infinite, as
    it would of a layer: such a step is left out, or the training done in fp32.
    """
    if precision == "fp32" or on.type == "cpu" or not isinstance(model, DistributedDataParallel):
        return False
    model.register_comm_hook(None, fp16_compress_hook)
    return True
