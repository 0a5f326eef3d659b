"""What students say of rows that they did not learn from: linear heads on an encoder as it is.

Two groups of them, of a text's meaning and of its words (:mod:`runner.student.views`): they err on different rows.
Knows neither Ray nor the run folder; a stage has :func:`ask` run where the student runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner import models
from runner.tasks.kinds import TASKS

LONGEST = 256
"""Tokens of a text that are looked at, where the spec sets no ``student.max_length``."""


@dataclass(frozen=True)
class Opinions:
    """``answers``: of each group of students, float64 ``(rows, numbers)``, NaN where it says nothing.

    ``vectors`` say what is near what, float16 ``(rows, width)``, of length 1.
    """

    answers: list[NDArray[np.float64]]
    vectors: NDArray[np.float16]


def ask(
    kind: str,
    model: str,
    revision: str | None,
    max_length: int | None,
    texts: Sequence[str],
    targets: NDArray[np.float32],
    learned: NDArray[np.bool_],
    seed: int,
    who: str = "audit.model",
) -> Opinions:
    """Opinions on ``texts`` by students of the others, which learn ``targets`` ``(rows, numbers)`` where ``learned``.

    ``kind`` is the task's name, ``who`` the field that names the model.
    :raises ModelError: when the model cannot be had, or is no encoder.
    """
    learner = TASKS[kind].learner()
    vectors, terms = learner.views(models.ensure(model, revision, who=who), texts, max_length or LONGEST)
    answers = [learner.out_of_fold(view, targets, learned, seed) for view in (vectors, terms)]
    return Opinions(answers, vectors.astype(np.float16))
