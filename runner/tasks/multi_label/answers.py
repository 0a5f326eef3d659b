"""From a raw answer to the labels it names, or to no value. Never a guess.

An answer is a JSON object with ``labels``, a list of JSON, or nothing but labels with marks between them; fences,
prose before a JSON object, and single quotes do no harm. One name that is no label spoils the whole: what was meant
nobody knows, and the labels beside it would be an answer that was never given. An answer that was cut off within its
list is none. What cannot be read is asked about once more, and then the vote abstains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from runner.tasks.multi_label.recorded import in_order
from runner.tasks.shared.answered import after_thinking, document, objects
from runner.tasks.single_label.answers import named

_MARKS = re.compile(r"[,;\n]")
_ITEM = re.compile(r"\s*(?:[-*\u2022]\s+|\d{1,3}[.)]\s+)?")
"""How an item of a list begins."""
_LIST = re.compile(r"\[[^\[\]{}]*\]")


def read_labels(answer: str, labels: Sequence[str]) -> list[str] | None:
    """The value that the answer says; None where it says none that can be read in one way only."""
    answer = after_thinking(answer)
    whole = document(answer)
    if isinstance(whole, list):
        return _of_list(whole, labels)
    for found in [whole] if isinstance(whole, dict) else objects(answer):
        given = {str(name).casefold(): value for name, value in found.items()}
        # The last word counts, even if it is no value: an earlier object was taken back.
        if key := next((key for key in ("labels", "label") if key in given), None):
            return _of_member(given[key], labels)
    if "{" in answer:
        return None  # an object that cannot be read: cut off, or something else
    if lists := _LIST.findall(answer):
        said = [document(one) for one in lists]
        return _of_list(said[0], labels) if len(said) == 1 and isinstance(said[0], list) else None
    return _of_text(answer, labels)


def _of_member(given: Any, labels: Sequence[str]) -> list[str] | None:
    if isinstance(given, list):
        return _of_list(given, labels)
    return _of_text(given, labels) if isinstance(given, str) else None


def _of_list(given: Sequence[Any], labels: Sequence[str]) -> list[str] | None:
    found = [named(one, labels) for one in given]
    known = [label for label in found if label is not None]
    return in_order(known, labels) if len(known) == len(found) else None


def _of_text(text: str, labels: Sequence[str]) -> list[str] | None:
    """Labels with marks between them and nothing else; one label may hold such a mark itself."""
    if (only := named(text, labels)) is not None:
        return [only]
    items = [_ITEM.sub("", part, count=1) for part in _MARKS.split(text)]
    items = [item for item in items if item.strip()]
    return _of_list(items, labels) if items else None
