"""What each kind of task demands of a spec and of the cells of its files, by ``task.type``.

Asked while a spec is read and its files are looked at: it knows no spec, so that the spec's language can ask it, and
needs neither numpy nor pyarrow, so that both are quick. A ``task`` is the section of that name as plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from runner.tasks.multi_label import rules as multi_label
from runner.tasks.shared.columns import Columns
from runner.tasks.shared.value import Value
from runner.tasks.single_label import rules as single_label

Found = Iterator[tuple[tuple[str | int, ...], str, str]]
"""Problems: a path into the spec, the problem's code, and what is wrong there."""


class Rules(Protocol):
    """The rules of one kind.

    ``FIELDS`` are the keys of ``task`` that say what an answer is, without which no cell can be read; ``EXPECTED`` is
    what a cell must be, for a message (``one of task.labels``); ``LISTS`` says whether a cell may hold a list of JSON
    or of parquet, which is read as JSON; ``SCORES`` are the figures in which others publish how good a system is
    (fields of ``evaluate.published``).
    """

    NAME: str
    FIELDS: tuple[str, ...]
    EXPECTED: str
    LISTS: bool
    SCORES: tuple[str, ...]

    def fields_fit(self, task: Mapping[str, Any]) -> Found:
        """The problems between and within ``FIELDS``."""

    def label_columns(self, task: Mapping[str, Any], columns: Sequence[str]) -> str | None:
        """What is wrong with ``data.test.label`` as a list of ``columns``, one 0/1 column a label; None: nothing.

        The cells of a row are read as one, a JSON object of them (:meth:`LabelledSource.cell`).
        """

    def shortlist(self, task: Mapping[str, Any], size: int) -> str | None:
        """What is wrong with ``teacher.shortlist`` as ``size``, so many answers to choose from, without advice; None:
        nothing."""

    def wrong_out_of_scope(self, task: Mapping[str, Any], given: str) -> str | None:
        """What is wrong with the answer that ``task.out_of_scope`` names; None: it is one of the task's."""

    def example(self, task: Mapping[str, Any], given: str | list[Any], text: str) -> Value | None:
        """The value that a few-shot example of the spec gives its ``text``; None where it is no value."""

    def not_a_value(self, task: Mapping[str, Any], given: str | list[Any], text: str) -> str:
        """What to say of an example whose value is none of its ``text``."""

    def wrong(self, task: Mapping[str, Any], cell: str, text: str) -> str | None:
        """What an expert's cell holds that is no value of the row's ``text``, in a few words for a list of such cells;
        None: a value.
        """

    def said(self, task: Mapping[str, Any], cell: str, text: str) -> Value | None:
        """What a recorded cell says of the row's ``text``, whoever wrote it; None where it says no value.

        :raises ValueError: when it is wrong whatever was meant.
        """

    def columns(self, task: Mapping[str, Any], names: Sequence[str]) -> Columns:
        """A look at columns of recorded answers, which counts the cells that say no value."""

    def output_columns(self, task: Mapping[str, Any]) -> set[str]:
        """The columns that say the answer where a corpus is labelled."""


RULES: dict[str, Rules] = {kind.NAME: kind for kind in (single_label, multi_label)}


def rules_of(task: Mapping[str, Any]) -> Rules:
    """Those of the kind of ``task``."""
    return RULES[task["type"]]
