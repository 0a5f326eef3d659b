"""What a spec whose task has labels must fulfil (:class:`runner.tasks.rules.Rules`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from unicodedata import normalize

from runner.system.errors import did_you_mean
from runner.tasks.shared.labels import find, plain

NAME = "single-label"
FIELDS: tuple[str, ...] = ("labels",)
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


def as_written(task: Mapping[str, Any], given: str) -> str | None:
    """The label of the task that ``given`` is: that is what the teacher is shown."""
    return find(given, task["labels"])


def not_a_value(task: Mapping[str, Any], given: str) -> str:
    """Which label may be meant."""
    return f"{given!r} is not in task.labels{did_you_mean(given, task['labels'])}"


def columns(task: Mapping[str, Any]) -> set[str]:
    """See :func:`written`."""
    return written(task["labels"])


def written(labels: Iterable[str]) -> set[str]:
    """The label, its probability, and that of each label."""
    return {"label", "probability", *(f"probability_{label}" for label in labels)}
