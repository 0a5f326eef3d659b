"""How much a student trains: what ``auto`` trains, epochs, and the texts that go through all trainings.

The train stage does what stands here, and ``plan`` says it beforehand. Knows no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runner.spec.model import Student
from runner.student import recipes

STEPS, LEAST_EPOCHS, MOST_EPOCHS = 800, 5, 20
"""Of a small encoder."""

LARGE_STEPS, LARGE_LEAST_EPOCHS, LARGE_MOST_EPOCHS = 400, 4, 8
"""Of a large one, which knows more and needs less to learn what is new."""

LARGE = 50_000_000
"""Parameters from which on an encoder is large. One of unknown size is taken for one, as RoBERTa-base is."""

FEW_ROWS = 30
"""Rows for each answer under which ``auto`` fine-tunes from a fitted head: a new one would learn too little."""

MODEST_ROWS = 150
"""Rows for each answer under which a small encoder is far behind a large one."""


@dataclass(frozen=True)
class TrainingPlan:
    """What comes of a spec's student with ``rows`` to learn from, which have ``answers`` different answers."""

    student: Student
    rows: int
    answers: int
    parameters: int | None

    @property
    def trainings(self) -> tuple[str, ...]:
        """What is trained, one after the other; with ``auto`` the last is kept unless held-out rows are against it."""
        if self.student.recipe != "auto":
            return (self.student.recipe,)
        return ("head", "lp-ft" if self.is_few else "fast")

    @property
    def is_few(self) -> bool:
        """Whether there are few rows to fine-tune with."""
        return self.rows < FEW_ROWS * self.answers

    @property
    def is_large(self) -> bool:
        """Whether the encoder is one that learns quickly."""
        return self.parameters is None or self.parameters >= LARGE

    @property
    def epochs(self) -> int:
        """Those of fine-tuning: as the spec says, or enough for a small train set to be learnt at all."""
        if self.student.epochs is not None:
            return self.student.epochs
        steps, least, most = STEPS, LEAST_EPOCHS, MOST_EPOCHS
        if self.is_large:
            steps, least, most = LARGE_STEPS, LARGE_LEAST_EPOCHS, LARGE_MOST_EPOCHS
        return min(most, max(least, round(steps * self.student.batch_size / max(1, self.rows))))

    def of(self, rows: int) -> TrainingPlan:
        """The same with another number of rows."""
        return TrainingPlan(self.student, rows, self.answers, self.parameters)

    @property
    def fold_epochs(self) -> int:
        """Those of a student that is only asked for its opinion."""
        return max(1, round(recipes.FOLD_STEPS * self.epochs))

    @property
    def texts_learned(self) -> int:
        """How many texts go through the recipe's trainings, each text once an epoch."""
        if self.trainings == ("head",):
            return self.rows
        total = self.rows * self.epochs
        if self.student.recipe == "best":
            for size in np.bincount(recipes.fold_of(self.rows, self.student.seed)):
                learned = self.of(self.rows - int(size))
                total += learned.rows * learned.fold_epochs
        return total

    @property
    def texts_tried(self) -> int:
        """How many texts go through a search at most: trials that fall behind are stopped early."""
        return self.student.search.trials * self.rows * self.epochs if self.student.search else 0

    def advice(self) -> str | None:
        """What to say of a student that has few rows for what it is; None where there are enough."""
        each = self.rows / self.answers
        if self.is_few:
            risk = "" if self.student.recipe in ("auto", "head") else "; student.recipe: auto is the safer choice"
            return (
                f"{each:.0f} training texts a label are few (under {FEW_ROWS}): a student learns the teacher's "
                f"mistakes by heart; more texts, or labels checked by people, help most{risk}"
            )
        if each < MODEST_ROWS and not self.is_large:
            return (
                f"{each:.0f} training texts a label are few for a student of {(self.parameters or 0) / 1e6:.0f} M "
                "parameters; one of RoBERTa-base size learns more from them, such as catalog:all-mpnet-base-v2"
            )
        return None
