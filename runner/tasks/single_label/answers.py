"""From a raw answer to the label it names, or to none. Never a guess.

The rungs of the ladder, from the surest: the answer is a label; it is JSON; JSON stands inside text (fences,
prose, single quotes, cut off after the label); prose says one label, in words that are all known to be harmless
(:mod:`runner.tasks.single_label.prose`). What is on none of them is unusable: the teacher is asked once more, and then
the vote abstains.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from runner.tasks.shared.answered import after_thinking, document, objects
from runner.tasks.shared.labels import find, plain, written
from runner.tasks.single_label.prose import CRIES, PAIRS, PAUSES, QUOTES, STOPS, said_in_prose

_QUOTED = re.compile(r"""(["'])label\1\s*:\s*(["'])([^"'\n{}]{1,200})\2""")
_STRING = re.compile(r"""(["'])([^"'\n]{1,200})\1(?!\s*:)""")

_BEFORE = " \t\r\n" + QUOTES + STOPS + PAUSES
_AFTER = _BEFORE + CRIES  # before a word it may deny it, as in programs
_LISTED = re.compile(r"(\d+|[^\W\d_])[)\]]")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
"""Letters, digits and marks as wide as a Chinese character, to those of ASCII."""
_LONGEST_LABEL = 1000


def read_label(answer: str, labels: Sequence[str]) -> str | None:
    """The one label that the answer names, or None where it names none, or more than one, or denies it."""
    answer = after_thinking(answer)
    if (label := named(answer, labels)) is not None:
        return label
    whole = document(answer)
    if isinstance(whole, dict | list):
        return _of_document(whole, labels)
    for found in objects(answer):
        if "label" in found:
            # The last word counts, even if it is no label: an earlier object was taken back.
            return named(found["label"], labels)
    if quoted := list(_QUOTED.finditer(answer)):
        return _of_broken(answer, quoted[-1], labels)
    if "{" in answer[:20]:
        return None
    return said_in_prose(answer, labels) or said_in_prose(answer.translate(_FULL_WIDTH), labels)


def named(value: object, labels: Sequence[str]) -> str | None:
    """The label that ``value`` is, but for quotes and stops around it; None where it is none."""
    text = written(value)
    if text is None or len(text := text.strip()) > _LONGEST_LABEL:
        return None
    if (label := find(text, labels)) is not None:
        return label
    bare = _bare(text)
    known = find(bare, labels) or _bare_labels(tuple(labels)).get(plain(bare))
    narrow = bare.translate(_FULL_WIDTH)
    listed = _LISTED.fullmatch(narrow)  # "3)", as an item of a list begins
    return known or find(listed[1] if listed else narrow, labels)


def _of_document(whole: dict[Any, Any] | list[Any], labels: Sequence[str]) -> str | None:
    """The label of an answer that is one JSON document: its own, or the only one that is anywhere in it."""
    if isinstance(whole, list) and not any(isinstance(one, dict | list) for one in whole):
        return named(whole[0], labels) if len(whole) == 1 else None
    given = {str(key).casefold(): item for key, item in whole.items()} if isinstance(whole, dict) else {}
    if "label" in given:
        return named(given["label"], labels)
    said = {named(one, labels) for one in _labels_in(whole)}
    return said.pop() if len(said) == 1 else None


def _labels_in(value: Any) -> Iterator[object]:
    """What stands under ``label`` anywhere in a document."""
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _labels_in(item)
    if isinstance(value, dict):
        yield from (item for key, item in value.items() if str(key).casefold() == "label")


def _of_broken(answer: str, last: re.Match[str], labels: Sequence[str]) -> str | None:
    """The label of an object that is no JSON, such as one that was cut off, unless it offers another one as well."""
    rest = answer[last.end() :].partition("}")[0]
    if rest.strip() and not rest.lstrip(" \t\r").startswith((",", "\n")):
        return None
    label = named(last[3], labels)
    others = {named(found[2], labels) for found in _STRING.finditer(rest)}
    return label if others <= {None, label} else None


@lru_cache(maxsize=16)
def _bare_labels(labels: tuple[str, ...]) -> dict[str, str]:
    """Labels without what stands around them, where that leaves one label and not none."""
    counts = Counter(plain(_bare(label)) for label in labels)
    return {key: label for label in labels if (key := plain(_bare(label))) and counts[key] == 1}


def _bare(text: str) -> str:
    """A text without quotes and stops at its ends, and without brackets around the whole."""
    while True:
        bare = text.lstrip(_BEFORE)
        if bare[:1].isdigit() and text[: len(text) - len(bare)].endswith((".", ",")):
            bare = f".{bare}"  # of a number below 1
        text = bare.rstrip(_AFTER)
        if len(text) < 2 or PAIRS.get(text[0]) != text[-1]:
            return text
        text = text[1:-1]
