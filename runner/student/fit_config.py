"""What a training is told: its settings, and the worker's place among the others. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner.student.recipes import LOWEST_RATE


@dataclass(frozen=True)
class Fit:
    """What to train and how. ``outputs`` name the numbers of an answer.

    ``learning_rate`` None means: chosen from the model's size; the factor is applied to both.

    ``lowest_rate`` is the share of it that the lowest layer gets.

    With ``average`` the mean of the weights at the ends of the later half of the epochs is a student as well (tail
    averaging; Izmailov et al. 2018, arXiv:1803.05407).

    ``batch_size`` rows make a step, whatever the number of workers; each computes its share of them in
    ``accumulate`` parts, one after the other. A checkpoint is due ``checkpoint_seconds`` after the last, later where
    it takes long.

    ``start`` is what the classifier begins as: ``fresh`` has a new head on the first token, ``head`` one that was
    fitted to the encoder as it is (:mod:`runner.student.head_start`), and is what is kept where ``epochs`` is 0.
    """

    model: Path
    outputs: tuple[str, ...]
    epochs: int
    learning_rate: float | None
    batch_size: int
    max_length: int
    precision: str
    seed: int
    accumulate: int = 1
    average: bool = True
    learning_rate_factor: float = 1.0
    lowest_rate: float = LOWEST_RATE
    checkpoint_seconds: float = math.inf
    start: Literal["fresh", "head"] = "fresh"


@dataclass(frozen=True)
class Worker:
    """This process's place among the workers, and what is done for it by those who started it.

    ``wrap(model, **options)`` makes a model train in step with theirs, by torch's DistributedDataParallel with these
    options. ``save_checkpoint(write)`` has a folder written and keeps it as the newest checkpoint, on all workers at
    once; ``load_checkpoint(read)`` has it read, where there is one.
    """

    rank: int = 0
    size: int = 1
    wrap: Callable[..., Any] = lambda model, **options: model
    save_checkpoint: Callable[[Callable[[Path], None]], None] = lambda write: None
    load_checkpoint: Callable[[Callable[[Path], None]], None] = lambda read: None
