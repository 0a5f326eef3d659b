"""What a cell of the data says: which labels, or with which probability each.

The forms: a list of JSON (``["merger", "lawsuit"]``; also as Python prints it, with single quotes), labels with ``;``
between them, an object with the list (``{"labels": [...]}``), an object with a number for each label, of which 0 and 1
say no and yes. ``[]`` says that no label applies. **An empty cell says nothing**: nobody can tell a text to which no
label applies from one that nobody has looked at. Never prose. Knows no files and no rows.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from typing import Any

from runner.tasks.shared.columns import Columns
from runner.tasks.shared.labels import find, listed, shown, unknown, written

BETWEEN = ";"
"""Parts the labels of a cell that is no JSON."""

NONE = "write [] where no label applies"

_YES_NO = {"1": True, "0": False, "true": True, "false": False}
_LITERAL_CHARACTERS = 100_000


def in_order(named: Iterable[str], labels: Sequence[str]) -> list[str]:
    """Each of ``named`` once, in the order of ``labels``: the form of a value."""
    wanted = set(named)
    return [label for label in labels if label in wanted]


def labels_of(cell: str, labels: Sequence[str]) -> list[str]:
    """The value that an expert's cell says. :raises ValueError: with what the cell holds instead."""
    text = cell.strip()
    if not text:
        raise ValueError(f"the cell is empty, which says nothing: {NONE}")
    if isinstance(found := structure(text), dict):
        if (within := _listed_in(found)) is None:
            return _yes_of(found, labels)
        found = within
    return labels_in(parts(text) if found is None else found, labels)


def labels_in(given: Iterable[Any], labels: Sequence[str]) -> list[str]:
    """The value that a list says. :raises ValueError: when one of its items is no label, with which."""
    return in_order(_named(given, labels), labels)


def distribution(cell: str, labels: Sequence[str]) -> list[float] | None:
    """The probability of each label in ``{"merger": 0.9, "lawsuit": 0.2}``; of those that are not named 0.

    They need not sum to 1: each is that of its own yes. None where the cell is anything else.

    :raises ValueError: when it names labels with numbers that are no probabilities, with what is wrong.
    """
    found = structure(cell.strip())
    if not isinstance(found, dict) or not found or _listed_in(found) is not None:
        return None
    if any(not isinstance(value, int | float) for value in found.values()):
        return None
    by_label: dict[str, float] = {}
    for name, value in found.items():
        if (label := find(name, labels)) is None:
            if not any(find(other, labels) for other in found):
                return None  # an object of something else
            raise ValueError(f"a probability of something else: {unknown(name, labels)}")
        if label in by_label:
            raise ValueError(f"two probabilities of {label!r}")
        if not 0 <= value <= 1:
            raise ValueError(f"the probability of {label!r} is {value:g}, and must be from 0 to 1")
        by_label[label] = float(value)
    return [by_label.get(label, 0.0) for label in labels]


def said(cell: str, labels: Sequence[str]) -> list[str] | None:
    """The value that a recorded cell says: its labels, or those with a probability above one half. None: no value.

    :raises ValueError: as :func:`distribution`.
    """
    if (chances := distribution(cell, labels)) is not None:
        return [label for label, chance in zip(labels, chances, strict=True) if chance > 0.5]
    try:
        return labels_of(cell, labels)
    except ValueError:
        return None


def columns(names: Sequence[str], labels: Sequence[str]) -> Columns:
    """What the columns ``names`` hold of answers that are labels, or probabilities of them."""

    def is_usable(cell: str) -> bool:
        return said(cell, labels) is not None

    expected = f"a vote is a list of task.labels ({listed(labels)}), [] where none applies"
    return Columns(names, is_usable, lambda cell: shown(cell, labels, 40), expected)


def structure(text: str) -> list[Any] | dict[str, Any] | None:
    """A list or an object of JSON, or as Python prints it; None where ``text`` is neither.

    :raises ValueError: where it begins like one and is broken.
    """
    if not text.startswith(("[", "{")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _literal(text)
    if isinstance(found, list):
        return found
    if isinstance(found, dict):
        return {str(name): value for name, value in found.items()}
    raise ValueError(f"{text[:60]!r} begins as a list or an object of JSON, and is none")


def parts(text: str) -> list[str]:
    """What stands between semicolons; one at the end closes the last."""
    found = [part.strip() for part in text.split(BETWEEN)]
    return found[:-1] if len(found) > 1 and not found[-1] else found


def _literal(text: str) -> Any:
    if len(text) > _LITERAL_CHARACTERS:
        return None
    try:
        return ast.literal_eval(text)  # literals only: nothing is run
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _listed_in(found: dict[str, Any]) -> list[Any] | None:
    """The list of ``{"labels": [...]}``; other members, such as a reason, are left aside."""
    given = {name.casefold(): value for name, value in found.items()}.get("labels")
    return given if isinstance(given, list) else None


def _named(given: Iterable[Any], labels: Sequence[str]) -> list[str]:
    named = []
    for one in given:
        label = find(one, labels)
        if label is None:
            raise ValueError(_stranger(one, labels))
        named.append(label)
    return named


def _stranger(one: Any, labels: Sequence[str]) -> str:
    if written(one) is None:
        kind = "null" if one is None else "a list" if isinstance(one, list) else "an object"
        return f"the list holds {kind} where a label was expected"
    text = str(written(one))
    if not text.strip():
        return f"a label is empty; {NONE}"
    pieces = [find(piece, labels) for piece in text.split(",")]
    hint = f"; write {BETWEEN} between labels, or a list of JSON" if len(pieces) > 1 and all(pieces) else ""
    return unknown(text, labels) + hint


def _yes_of(found: dict[str, Any], labels: Sequence[str]) -> list[str]:
    """The labels with a yes, of an object or of columns with one for each label."""
    said_of: dict[str, bool] = {}
    for name, value in found.items():
        label = find(name, labels)
        if label is None:
            raise ValueError(unknown(name, labels))
        if label in said_of:
            raise ValueError(f"two answers for {label!r}")
        said_of[label] = _yes_or_no(name, value)
    if missing := [label for label in labels if label not in said_of]:
        raise ValueError(f"nothing is said of {listed(missing)}")
    return [label for label in labels if said_of[label]]


def _yes_or_no(name: str, value: Any) -> bool:
    text = (written(value) or "").strip().casefold()
    whole = text.removesuffix(".0")
    if whole in _YES_NO:
        return _YES_NO[whole]
    held = "is empty" if value is None or not text else f"holds {str(value)[:40]!r}"
    raise ValueError(f"column {name!r} {held}, and must hold 0 or 1 (or true or false)")
