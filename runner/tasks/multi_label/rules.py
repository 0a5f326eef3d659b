"""What a spec must fulfil whose texts may have several labels (:class:`runner.tasks.rules.Rules`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from runner.system.errors import did_you_mean
from runner.tasks.multi_label import recorded
from runner.tasks.shared.columns import Columns
from runner.tasks.shared.labels import find, listed
from runner.tasks.single_label import rules as single_label

NAME = "multi-label"
FIELDS: tuple[str, ...] = ("labels",)
EXPECTED = "a list of task.labels ([] where none applies), such as a JSON list or labels with ; between them"
LISTS = True
SCORES: tuple[str, ...] = ("macro_f1",)


def fields_fit(task: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """No two labels are the same, and none is written as a list of labels would be."""
    yield from single_label.fields_fit(task)
    for index, label in enumerate(task["labels"]):
        if recorded.BETWEEN in label:
            message = f"{label!r} holds {recorded.BETWEEN!r}, which parts labels in a cell: rename it"
            yield ("task", "labels", index), "spec.label-is-a-list", message
        elif label.startswith(("[", "{")):
            message = f"{label!r} begins as a list or an object of JSON would in a cell: rename it"
            yield ("task", "labels", index), "spec.label-is-a-list", message


def label_columns(task: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """One column for each label, named as the label is."""
    labels = task["labels"]
    found = [find(column, labels) for column in columns]
    if strangers := [column for column, label in zip(columns, found, strict=True) if label is None]:
        hint = did_you_mean(strangers[0], labels)
        return f"a list of columns holds one for each of task.labels, which has no {listed(strangers)}{hint}"
    if twice := [label for label in labels if found.count(label) > 1]:
        return f"two of the columns are the one label {listed(twice)}"
    if missing := [label for label in labels if label not in found]:
        return f"a list of columns holds one for each of task.labels: there is none for {listed(missing)}"
    return None


def wrong_out_of_scope(task: Mapping[str, Any], given: str) -> str | None:
    """There is none: a text may have no label at all."""
    return f"with task.type {NAME} a text that no label fits has none: leave this out"


def shortlist(task: Mapping[str, Any], size: int) -> str | None:
    """All labels are asked about, each on its own."""
    return f"with task.type {NAME} any of the labels may apply, and each is asked about"


def example(task: Mapping[str, Any], given: str | list[Any], text: str) -> list[str] | None:
    """The labels that a list says, or a text as a cell of the data would."""
    try:
        if isinstance(given, str):
            return recorded.labels_of(given, task["labels"])
        return recorded.labels_in(given, task["labels"])
    except ValueError:
        return None


def not_a_value(task: Mapping[str, Any], given: str | list[Any], text: str) -> str:
    """Which label may be meant."""
    for one in given if isinstance(given, list) else recorded.parts(given):
        if find(one, task["labels"]) is None:
            hint = did_you_mean(one, task["labels"]) if isinstance(one, str) else ""
            return f"{one!r} is not in task.labels{hint}"
    return f"{given!r} is no list of task.labels"


def wrong(task: Mapping[str, Any], cell: str, text: str) -> str | None:
    """What an expert's cell holds that is no list of labels."""
    try:
        recorded.labels_of(cell, task["labels"])
    except ValueError as error:
        return f"{cell.strip()[:40]!r}: {error}" if cell.strip() else f"nothing ({recorded.NONE})"
    return None


def said(task: Mapping[str, Any], cell: str, text: str) -> list[str] | None:
    """The labels that a recorded cell says (:func:`runner.tasks.multi_label.recorded.said`)."""
    return recorded.said(cell, task["labels"])


def columns(task: Mapping[str, Any], names: Sequence[str]) -> Columns:
    """What columns hold of answers that are lists of labels, or probabilities of them."""
    return recorded.columns(names, task["labels"])


def output_columns(task: Mapping[str, Any]) -> set[str]:
    """See :func:`written`."""
    return written(task["labels"])


def written(labels: Iterable[str]) -> set[str]:
    """The labels, and the probability of each."""
    return {"labels", *(f"probability_{label}" for label in labels)}
