"""What a kind of task answers, one face for each part of the pipeline that asks it.

A *value* is what a row's answer is: always JSON-able (for ``single-label`` a label). A kind is a package below
``runner/tasks/`` whose modules are the faces, listed once in ``runner/tasks/kinds.py``. Faces are plain functions;
nothing here knows Ray, vLLM or torch. That of a spec's plain data stands in ``runner/tasks/rules.py``, those of the
student in ``runner/tasks/learning.py``, that of the audit in ``runner/tasks/auditing.py``, that of the report in
``runner/tasks/showing.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from runner.data.reading import Row
from runner.spec import Spec
from runner.spec.model import LabelledSource
from runner.tasks.auditing import Auditing
from runner.tasks.learning import Learner, Predictions, Targets
from runner.tasks.rules import Rules
from runner.tasks.shared.value import Value
from runner.tasks.showing import Showing
from runner.teacher.protocol import AnswerFormat, Encode, Scored

__all__ = [
    "Asking",
    "Auditing",
    "Gold",
    "Judgement",
    "Judging",
    "Learner",
    "Predictions",
    "Rules",
    "Scoring",
    "Showing",
    "Targets",
    "TaskKind",
    "Value",
]


class Gold(Protocol):
    """What the data say: asked by load. Cells that need nothing but ``task`` are read by :class:`Rules`."""

    VALUE: pa.DataType

    def key(self, spec: Spec) -> dict[str, Any]:
        """The part of the task that decides how a cell is read; it goes into fingerprints."""

    def value_of(self, spec: Spec, source: LabelledSource, row: Row, advice: str) -> Value:
        """An expert's answer. :raises DataError: with ``advice``, when the cell is none of the task's."""

    def recorded_answer(self, spec: Spec, row: Row, column: str, text: str) -> str:
        """A recorded answer about the row's ``text`` as it stands there. :raises DataError: when it cannot be one."""

    def unfit(self, spec: Spec, test: Collection[Mapping[str, Any]]) -> list[str]:
        """What to say of test rows that show too little. :raises DataError: when nothing can be measured with them."""


class Asking(Protocol):
    """The teacher's answers about one row, as they come: asked by label."""

    def probabilities_of(self, spec: Spec, cell: str) -> list[float] | None:
        """What a recorded answer says in probabilities; None where it says a value."""

    def answer_format(self, task: Mapping[str, Any]) -> AnswerFormat:
        """The form of an answer, from the spec's section ``task``."""

    def scored(self, spec: Spec, encode: Encode) -> Scored:
        """Prompt ``direct``: the requests about a row.

        :raises ValueError: when the answers cannot be scored in tokens of ``encode``, with the field to change.
        """

    def key(self, spec: Spec) -> dict[str, Any]:
        """The part of the task that decides an answer, besides the words of the prompt; it goes into fingerprints."""

    def is_open(self, spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether something is still to be asked about a row with these stored answers."""

    def has_answer(self, spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one of these answers says a value."""

    def reason_of(self, answer: str) -> str:
        """The teacher's own words on why, in one of its answers; empty where it gives none."""


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

    def certain(self, spec: Spec, value: Value) -> dict[str, Any]:
        """The columns of a verdict that a person gave; its ``votes`` stay the teacher's."""

    def verdicts(
        self, spec: Spec, rows: list[dict[str, Any]], answers: Sequence[pa.Table]
    ) -> dict[str, dict[str, Any]]:
        """Those verdicts alone, of a few rows from which nobody is to learn."""


class Scoring(Protocol):
    """How good answers are against the experts': asked by evaluate.

    An *answer* is what a system says of a row: a mapping with the value as ``label`` (None: an abstention, which is
    wrong) and the other columns of ``ANSWER``, where the system has them. ``PRIMARY`` names the figure that decides,
    ``SUMMARY`` those of the stage's marker, ``PAIRED`` the test of two systems on the same rows; ``TEST`` is its name
    for people.
    """

    PRIMARY: str
    SUMMARY: tuple[str, ...]
    PAIRED: str
    TEST: str
    ANSWER: tuple[pa.Field, ...]

    def key(self, spec: Spec) -> dict[str, Any]:
        """The part of the task that decides the scores, besides rows and answers; it goes into fingerprints."""

    def about(self, spec: Spec) -> dict[str, Any]:
        """What a reader of the scores must know of the task; it stands first in ``evaluate.json``."""

    def answers(self, spec: Spec, predicted: Any, decision: Any = None) -> list[dict[str, Any]]:
        """The student's answers from what its model gave for all rows; ``decision`` as in :class:`Predictions`."""

    def score(
        self,
        spec: Spec,
        truth: Sequence[Value],
        given: Sequence[Mapping[str, Any]],
        weights: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        """Every figure about one system, JSON-able, with ``rows`` and the interval of ``PRIMARY`` in ``ci95``.

        ``weights``: how many rows each one stands for; None: itself alone.
        """

    def estimates(
        self,
        spec: Spec,
        truth: Mapping[str, Value],
        teacher: Mapping[str, Value | None],
        student: Mapping[str, Value | None] | None,
        population: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """How good both are on a population, from a sample of it that people have labelled.

        ``population`` has the findings of :class:`Auditing` on each row, with its ``id`` and its ``inclusion``
        probability, None where it is not of the sample. ``truth`` and ``student`` are of the sampled rows, ``teacher``
        of all; without a ``student`` its figures and the difference are left out. JSON-able: ``rows``, ``population``,
        ``teacher`` and ``student`` with the figures of ``SUMMARY`` and their ``ci95``, and ``difference``, in the form
        of :meth:`paired`.
        """

    def primary(self, truth: Sequence[Value], given: Sequence[Value | None]) -> float:
        """The primary figure alone, from values."""

    def paired(self, truth: Sequence[Value], a: Sequence[Value | None], b: Sequence[Value | None]) -> dict[str, Any]:
        """Whether two systems are equally good on the same rows, JSON-able."""


class TaskKind(Protocol):
    """One kind of task."""

    NAME: str

    @property
    def rules(self) -> Rules: ...

    @property
    def gold(self) -> Gold: ...

    @property
    def asking(self) -> Asking: ...

    @property
    def judging(self) -> Judging: ...

    @property
    def auditing(self) -> Auditing: ...

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
