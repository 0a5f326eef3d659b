"""The faces of a kind of task that a student's training and its answers need (``runner/tasks/protocol.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec
from runner.tasks.shared.value import Value


class Targets(Protocol):
    """What a student learns of each row, as numbers: asked by train."""

    def names(self, spec: Spec) -> list[str]:
        """The names of the numbers that an answer consists of, in their order."""

    def parts(self, value: Value) -> tuple[str, ...]:
        """What a value consists of, by name and each once, never nothing: rows are counted by it, and none of its
        names loses more than half of its rows to those held out."""

    def of(self, verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """The targets of rows with the columns of :attr:`Judging.COLUMNS`: a row each, of some width."""

    def confidence(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """How sure the teacher is of each row, from just above 0 to 1, shape ``(rows,)``."""


class Learner(Protocol):
    """How a student learns the task: asked by train, export and apply, in workers alone, for it imports torch.

    ``outputs`` name the numbers of which an answer consists. Logits and targets are ``(rows, outputs)``: tensors while
    a student learns, arrays when it predicts.
    """

    def fresh(self, folder: Path, outputs: Sequence[str], pooled: bool = False) -> Any:
        """The encoder in ``folder`` with a head that is still to be trained; ``pooled``: on the mean of its tokens.

        :raises ModelError: when it has no such head, or cannot be loaded.
        """

    def trained(self, folder: Path) -> Any:
        """The model in ``folder`` with its trained head. :raises ModelError: when it has none, or another task's."""

    def outputs_of(self, config: Any) -> list[str]:
        """The names of a trained model's answers, from its configuration."""

    def decision_of(self, config: Any) -> Any:
        """How values are made of a trained model's answers, JSON-able, from its configuration: a ``decision`` of
        :class:`Predictions`. None where a kind has nothing to choose.

        :raises ModelError: when the configuration holds something else in its place.
        """

    def settle(self, model: Any, logits: Any, targets: Any) -> None:
        """Choose what the configuration of a trained ``model`` keeps besides its weights, by held-out rows.

        Both tensors are ``(rows, outputs)``. A kind that has nothing to choose leaves it as it is.
        """

    def fit_head(self, features: Any, targets: Any, seed: int) -> Any:
        """A linear head (:class:`runner.student.head_start.Head`) on ``features``, a tensor ``(rows, width)``."""

    def views(self, folder: Path, texts: Sequence[str], max_length: int) -> tuple[NDArray[np.float32], Any]:
        """Texts as vectors of length 1 and as sparse counts of terms (:func:`runner.student.views.views`).

        :raises ModelError: when ``folder`` holds no encoder.
        """

    def out_of_fold(
        self, features: Any, targets: NDArray[np.float32], learned: NDArray[np.bool_], seed: int
    ) -> NDArray[np.float64]:
        """What linear heads say of rows that they did not learn from, shape ``(rows, numbers)``; NaN: nothing.

        ``features`` ``(rows, width)`` is an array or a sparse one; rows that are not ``learned`` teach no head.
        """

    def confidence(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Targets.confidence`."""

    def loss(self, logits: Any, targets: Any) -> Any:
        """The mean loss over rows, a tensor without dimensions."""

    def is_right(self, logits: Any, targets: Any) -> Any:
        """Whether the student gives the teacher's value, a tensor ``(rows,)``: bool, or how much of it from 0 to 1."""

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is told of an answer; NaN where its logits are not finite."""


class Predictions(Protocol):
    """A student's answers as values: asked by export, evaluate and apply.

    Answers are a learner's ``probabilities``, ``decision`` is its ``decision_of`` the student. A row that is not all
    finite numbers is refused, and never a value.
    """

    def answers_of(self, config: Mapping[str, Any]) -> bool:
        """Whether a model folder's ``config.json`` is of a student of this kind."""

    def values(
        self, outputs: Sequence[str], probabilities: NDArray[np.floating], decision: Any = None
    ) -> list[Value | None]:
        """The value of each row; None where it is refused."""

    def certainty(self, probabilities: NDArray[np.float32], decision: Any = None) -> NDArray[np.float32]:
        """How sure the student is of each value, shape ``(rows,)``: what ``apply.abstain_below`` bounds."""

    def written(self, outputs: Sequence[str]) -> set[str]:
        """The names of :meth:`columns`."""

    def columns(
        self,
        outputs: Sequence[str],
        probabilities: NDArray[np.float32],
        silent: NDArray[np.bool_],
        decision: Any = None,
    ) -> dict[str, pa.Array]:
        """What apply writes of each row, null for ``silent`` ones."""
