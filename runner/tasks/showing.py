"""The face of a kind of task that the report, the cards and the review need (``runner/tasks/protocol.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from runner.spec import Spec
from runner.tasks.shared.shown import Figure, Quality, Question, ShownRow
from runner.tasks.shared.value import Value


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

    def probabilities(self, spec: Spec, verdict: Mapping[str, Any]) -> dict[str, float] | None:
        """The teacher's probability of each value that people can choose; None where it gave none."""

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

    def asked(self, form: str, votes: int) -> str:
        """How a teacher was asked about each text, by the spec's ``teacher.prompt`` and ``teacher.votes``."""

    def agreement(self, vote: Mapping[str, Any], sampled: bool) -> list[str]:
        """How far votes and teachers agree, in sentences, from the summary of vote.

        ``sampled``: a text may have several votes.
        """

    def pooled(self, teachers: Mapping[str, Any]) -> str:
        """How several teachers' answers became one, in sentences, from :attr:`Judgement.teachers`."""

    def loading(self, model: str) -> str:
        """Python that loads the student with ``transformers`` and asks it about two texts."""

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
