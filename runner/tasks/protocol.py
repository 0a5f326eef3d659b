"""What a kind of task answers, one face for each part of the pipeline that asks it.

A *value* is what a row's answer is: always JSON-able (for ``single-label`` a label). A kind is a package below
``runner/tasks/`` whose modules are the faces, listed once in ``runner/tasks/kinds.py``. Faces are plain functions;
nothing here knows Ray, vLLM or torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.data.reading import Row
from runner.spec import Spec
from runner.spec.model import LabelledSource
from runner.tasks.shared.shown import Figure, Quality, Question, ShownRow
from runner.teacher.protocol import AnswerFormat

Value = Any


class Gold(Protocol):
    """What the data say: asked by load, and wherever an expert's answer is read."""

    VALUE: pa.DataType

    def key(self, spec: Spec) -> dict[str, Any]:
        """The part of the task that decides how a cell is read; it goes into fingerprints."""

    def value_of(self, spec: Spec, source: LabelledSource, row: Row, advice: str) -> Value:
        """An expert's answer. :raises DataError: with ``advice``, when the cell is none of the task's."""

    def recorded_answer(self, spec: Spec, row: Row, column: str) -> str:
        """A recorded answer as it stands there. :raises DataError: when it cannot be one."""

    def unfit(self, spec: Spec, test: Collection[Mapping[str, Any]]) -> list[str]:
        """What to say of test rows that show too little. :raises DataError: when nothing can be measured with them."""


class Asking(Protocol):
    """The teacher's answers about one row, as they come: asked by label."""

    def probabilities_of(self, spec: Spec, cell: str) -> list[float] | None:
        """What a recorded answer says in probabilities; None where it says a value."""

    def answer_format(self, task: Mapping[str, Any]) -> AnswerFormat:
        """The form of an answer, from the spec's section ``task``."""

    def key(self, spec: Spec) -> dict[str, Any]:
        """The part of the task that decides an answer, besides the words of the prompt; it goes into fingerprints."""

    def is_open(self, spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether something is still to be asked about a row with these stored answers."""

    def has_answer(self, spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one of these answers says a value."""


@dataclass(frozen=True)
class Judgement:
    """What all answers come to: by row id the columns of :attr:`Judging.COLUMNS`, and what is to be said of them.

    ``summary`` goes into the stage's marker; ``teachers`` says how far several teachers agree.
    """

    verdicts: dict[str, dict[str, Any]]
    summary: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    teachers: dict[str, Any] | None = None


class Judging(Protocol):
    """Raw answers to verdicts: asked by vote. A verdict without a value is an abstention, with its ``reason``."""

    COLUMNS: tuple[pa.Field, ...]

    def key(self, spec: Spec) -> dict[str, Any]:
        """The part of the spec that decides how answers are judged; it goes into fingerprints."""

    def judge(self, spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]) -> Judgement:
        """The verdicts on ``rows`` from each teacher's stored ``answers``.

        :raises DataError: when there is nothing to learn from them.
        """


class Scoring(Protocol):
    """How good answers are against the experts': asked by evaluate.

    An *answer* is what a system says of a row: a mapping with the value as ``label`` (None: an abstention, which is
    wrong) and the other columns of ``ANSWER``, where the system has them. ``PRIMARY`` names the figure that decides,
    ``SUMMARY`` those of the stage's marker, and ``PAIRED`` the test of two systems on the same rows.
    """

    PRIMARY: str
    SUMMARY: tuple[str, ...]
    PAIRED: str
    ANSWER: tuple[pa.Field, ...]

    def about(self, spec: Spec) -> dict[str, Any]:
        """What a reader of the scores must know of the task; it stands first in ``evaluate.json``."""

    def answers(self, spec: Spec, predicted: Any) -> list[dict[str, Any]]:
        """The student's answers from what its model gave for all rows."""

    def score(self, spec: Spec, truth: Sequence[Value], given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Every figure about one system, JSON-able, with ``rows`` and the interval of ``PRIMARY`` in ``ci95``."""

    def primary(self, truth: Sequence[Value], given: Sequence[Value | None]) -> float:
        """The primary figure alone, from values."""

    def paired(self, truth: Sequence[Value], a: Sequence[Value | None], b: Sequence[Value | None]) -> dict[str, Any]:
        """Whether two systems are equally good on the same rows, JSON-able."""


class Targets(Protocol):
    """What a student learns of each row, as numbers: asked by train."""

    def of(self, verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """The targets of rows with the columns of :attr:`Judging.COLUMNS`: a row each, of some width."""

    def confidence(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """How sure the teacher is of each row, from just above 0 to 1, shape ``(rows,)``."""


class Learner(Protocol):
    """How a student learns the task: asked by train, export and apply, in workers alone, for it imports torch.

    ``labels`` name the numbers of which an answer consists. Logits and targets are ``(rows, labels)``: tensors while a
    student learns, arrays when it predicts.
    """

    def fresh(self, folder: Path, labels: Sequence[str], pooled: bool = False) -> Any:
        """The encoder in ``folder`` with a head that is still to be trained; ``pooled``: on the mean of its tokens.

        :raises ModelError: when it has no such head, or cannot be loaded.
        """

    def trained(self, folder: Path) -> Any:
        """The model in ``folder`` with its trained head. :raises ModelError: when it has none, or another task's."""

    def labels_of(self, config: Any) -> list[str]:
        """The names of a trained model's answers, from its configuration."""

    def fit_head(self, features: Any, targets: Any, seed: int) -> Any:
        """A linear head (:class:`runner.student.linear_head.Head`) on ``features``, a tensor ``(rows, width)``."""

    def confidence(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Targets.confidence`."""

    def loss(self, logits: Any, targets: Any) -> Any:
        """The mean loss over rows, a tensor without dimensions."""

    def is_right(self, logits: Any, targets: Any) -> Any:
        """Whether the student gives the teacher's value, a bool tensor ``(rows,)``."""

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is told of an answer; NaN where its logits are not finite."""


class Predictions(Protocol):
    """A student's answers as values: asked by export, evaluate and apply.

    Answers are a learner's ``probabilities``. A row that is not all finite numbers is refused, and never a value.
    """

    def values(self, labels: Sequence[str], probabilities: NDArray[np.floating]) -> list[Value | None]:
        """The value of each row; None where it is refused."""

    def certainty(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """How sure the student is of each value, shape ``(rows,)``: what ``apply.abstain_below`` bounds."""

    def columns(
        self, labels: Sequence[str], probabilities: NDArray[np.float32], silent: NDArray[np.bool_]
    ) -> dict[str, pa.Array]:
        """What apply writes of each row, null for ``silent`` ones."""


class Showing(Protocol):
    """Figures, plots and words about the answers: asked by the report, the cards, and whatever asks people.

    An ``evaluation`` is what evaluate wrote, a ``spec`` that of ``run.json``. ``FIGURES`` are the lines of the result
    table, the primary one first. The templates extend the page and the cards: they stand in ``runner/tasks/``.
    """

    FIGURES: tuple[Figure, ...]
    PAGE: str
    MODEL_CARD: str
    DATA_CARD: str
    PIPELINE_TAG: str
    TASK_NAME: str
    HUB_RESULTS: Sequence[tuple[str, str, str, dict[str, str] | None]]

    def question(self, spec: Spec) -> Question:
        """How people are asked for the value of a row."""

    def summary(self, evaluation: Mapping[str, Any]) -> dict[str, Any]:
        """What ``report.json`` says of the evaluation besides it."""

    def labelled(self, vote: Mapping[str, Any]) -> dict[str, Any]:
        """What ``report.json`` says of the answers that were voted for, from the summary of vote."""

    def given(self, votes: pa.Table) -> dict[Value | None, int]:
        """How often each value was given; None: an abstention."""

    def doubtful(self, spec: Mapping[str, Any], votes: pa.Table) -> list[ShownRow]:
        """The train rows of which the teacher is least sure."""

    def mistaken(self, spec: Mapping[str, Any], predictions: pa.Table) -> list[ShownRow]:
        """The test rows on which the student is wrong and most sure of it."""

    def quality(self, evaluation: Mapping[str, Any]) -> Quality:
        """Whether the student is as good as its teacher, as far as the paired test shows."""

    def opening(self, evaluation: Mapping[str, Any]) -> str:
        """The verdict's first sentence: how good both are."""

    def compared(self, evaluation: Mapping[str, Any]) -> str:
        """The paired test of student and teacher in words, without a full stop."""

    def beside(self, paired: Mapping[str, Any]) -> str:
        """The paired test of another annotator (a) and the student (b), in a few words."""

    def pair(self, evaluation: Mapping[str, Any]) -> tuple[str, str, str, str]:
        """The paired test as a line of the result table: words, note, teacher, student."""

    def limits(self, evaluation: Mapping[str, Any]) -> list[str]:
        """What the figures do not say, for this kind of answer."""

    def plots(self, report: Mapping[str, Any]) -> dict[str, str]:
        """The plots of quality as SVG, by the names that ``PAGE`` has."""

    def page(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """What ``PAGE`` is filled with besides the values that every page has."""

    def model_card(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """What ``MODEL_CARD`` is filled with besides the values that every card has."""

    def data_card(self, report: Mapping[str, Any], given: Mapping[Value | None, int]) -> dict[str, Any]:
        """What ``DATA_CARD`` is filled with; ``given`` counts the teacher's values on train rows."""


class TaskKind(Protocol):
    """One kind of task."""

    NAME: str

    @property
    def gold(self) -> Gold: ...

    @property
    def asking(self) -> Asking: ...

    @property
    def judging(self) -> Judging: ...

    @property
    def scoring(self) -> Scoring: ...

    @property
    def showing(self) -> Showing: ...

    @property
    def targets(self) -> Targets: ...

    @property
    def predictions(self) -> Predictions: ...

    def learner(self) -> Learner:
        """For workers alone: it imports torch."""
