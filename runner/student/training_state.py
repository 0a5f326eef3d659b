"""How far a training has come, and which of its epochs is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.student import recipes


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures; ``val_*`` are measured on the held-out part of train.

    ``val_accuracy`` is the agreement with the teacher's labels, each row counted by the teacher's confidence in it:
    whether a student agrees with a guess says little of the student.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float
    texts_per_second: float


@dataclass
class TrainingState:
    """How far a training has come. ``steps`` and ``seconds`` are those of the epoch that is not finished yet.

    ``skipped`` counts the steps of all epochs whose gradients a loss scale left out, as they were not finite numbers.
    """

    history: list[Epoch] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    seen: int = 0
    resumes: int = 0
    skipped: int = 0


def chosen_epoch(history: Sequence[Epoch], held_out: float) -> Epoch:
    """The last epoch within one standard error of the best agreement, seen on so many ``held_out`` rows.

    It is the newest one or the one that was chosen before it, so that no other weights need be kept.
    """
    best = max(epoch.val_accuracy for epoch in history)
    error = recipes.standard_error(best, held_out)
    return [epoch for epoch in history if epoch.val_accuracy >= best - error][-1]
