"""What a spec whose task has labels must fulfil (:class:`runner.tasks.rules.Rules`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from unicodedata import normalize

from runner.system.errors import did_you_mean
from runner.tasks.shared.columns import Columns
from runner.tasks.shared.labels import find, plain
from runner.tasks.single_label import recorded

NAME = "single-label"
FIELDS: tuple[str, ...] = ("labels",)
EXPECTED = "one of task.labels"
LISTS = False
SCORES: tuple[str, ...] = ("accuracy", "macro_f1")


def fields_fit(task: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """No two labels are the same (:mod:`runner.tasks.shared.labels`), nor but for a blank within them."""
    seen: dict[str, str] = {}
    for index, label in enumerate(task["labels"]):
        first = seen.setdefault(plain(label).replace(" ", ""), label)
        if first == label:
            continue
        message = f"{label!r} is {first!r} but for capitals and blanks"
        if normalize("NFC", label) == normalize("NFC", first):
            message = f"{label!a} is {first!a} but for how its characters are composed"
        yield ("task", "labels", index), "spec.labels-alike", message


def label_columns(task: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """One column holds the one label."""
    return f"with task.type {NAME} a text has one label: name the one column that holds it"


def wrong_out_of_scope(task: Mapping[str, Any], given: str) -> str | None:
    """It is one of the labels."""
    return None if find(given, task["labels"]) else not_a_value(task, given, "")


def shortlist(task: Mapping[str, Any], size: int) -> str | None:
    """A shortlist leaves some of the labels out."""
    labels = len(task["labels"])
    if size < labels:
        return None
    return f"a shortlist of {size} leaves none of the {labels} labels out"


def example(task: Mapping[str, Any], given: str | list[Any], text: str) -> str | None:
    """The label of the task that ``given`` is: that is what the teacher is shown."""
    return find(given, task["labels"])


def not_a_value(task: Mapping[str, Any], given: str | list[Any], text: str) -> str:
    """Which label may be meant."""
    if isinstance(given, list):
        return f"with task.type {NAME} a text has one label, and this is a list of {len(given)}"
    return f"{given!r} is not in task.labels{did_you_mean(given, task['labels'])}"


def wrong(task: Mapping[str, Any], cell: str, text: str) -> str | None:
    """What a cell holds that is none of the labels, and which of them may be meant."""
    if find(cell, task["labels"]) is not None:
        return None
    return repr(cell[:60]) + did_you_mean(cell, task["labels"]) if cell.strip() else "none"


def said(task: Mapping[str, Any], cell: str, text: str) -> str | None:
    """The label that a recorded cell says (:func:`runner.tasks.single_label.recorded.label_of`)."""
    return recorded.label_of(cell, task["labels"])


def columns(task: Mapping[str, Any], names: Sequence[str]) -> Columns:
    """What columns hold of answers that are labels, or probabilities of them."""
    return recorded.columns(names, task["labels"])


def output_columns(task: Mapping[str, Any]) -> set[str]:
    """See :func:`written`."""
    return written(task["labels"])


def written(labels: Iterable[str]) -> set[str]:
    """The label, its probability, and that of each label."""
    return {"label", "probability", *(f"probability_{label}" for label in labels)}
