"""Whether a model computes with finite numbers in a precision, tried on a few texts.

Knows torch; does not know transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from runner.student.device import DTYPES
from runner.student.finite import NOT_FINITE
from runner.system.errors import ModelError, first_line


def works_in(model: Any, precision: str, texts: Sequence[Sequence[int]], on: torch.device) -> str | None:
    """Why the model cannot read all ``texts``, given as token ids, with products in ``precision``; None where it can.

    Some encoders cannot in half precision, and the values of others leave its range. ``fp32`` leaves the numbers of the
    model's own weights as they are.
    """
    cast = precision != "fp32"
    half = cast or next(model.parameters()).dtype != torch.float32
    for ids in texts:
        tokens = torch.tensor([list(ids)], device=on)
        try:
            with (
                torch.inference_mode(),
                torch.autocast(on.type, dtype=DTYPES[precision] if cast else None, enabled=cast),
                _watched(model, torch.isfinite if half else _is_number) as broken,
            ):
                logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            return first_line(error)
        if broken or not torch.isfinite(logits).all():
            return NOT_FINITE
    return None


@contextmanager
def _watched(model: Any, sound: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[list[str]]:
    """Collects the parts of a model whose output is not ``sound`` meanwhile.

    The logits do not show it all: torch's attention on processors takes scores that are NaN for nothing, and answers
    with finite numbers that mean nothing.
    """
    broken: list[str] = []

    def look(part: Any, given: Any, output: Any) -> None:
        for value in output if isinstance(output, tuple) else (output,):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not sound(value).all():
                broken.append(type(part).__name__)

    handles = [part.register_forward_hook(look) for part in model.modules()]
    try:
        yield broken
    finally:
        for handle in handles:
            handle.remove()


def _is_number(values: torch.Tensor) -> torch.Tensor:
    """Where ``values`` are not NaN: in fp32 a mask may well be infinite."""
    return ~torch.isnan(values)


def check_weights(model: Any, folder: Path) -> None:
    """:raises ModelError: when a weight is not a finite number: what is learned from there would be NaN as well."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(
                "model.weights-not-finite",
                f"{folder}: its weights are damaged: {name} holds values that are not finite numbers; fetch the model "
                "again, or take another student",
            )
