"""From a raw answer to the label it names, or to none. Never a guess.

The rungs of the ladder, from the surest: the answer is a label; it is JSON; JSON stands inside text (fences,
prose, single quotes, cut off after the label); prose names one label, and only one. What is on none of them is
unusable: the teacher is asked once more, and then the vote abstains.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_QUOTED = re.compile(r"""(["'])label\1\s*:\s*(["'])([^"'\n{}]{1,200})\2""")
_MARKED = re.compile(r"\b(?:label|answer|sentiment|classification)\b[\"'*`]*\s*(?:is|[:=])[\s\"'*`]*$", re.IGNORECASE)
_TRIM = " \t\r\n.,;:!'\"`*"
_WORD = re.compile(r"[\w']+")

FEW_WORDS = 15
"""Prose up to this length that names one label means it; in longer prose a label may be part of the reasoning."""

_LITERAL_CHARACTERS = 10_000
_TURNS = frozenset(
    re.split(
        " ",
        "not no nor never neither none non cannot can't isn't wasn't aren't don't doesn't hardly barely rather instead "
        "than without unless except but although however or and between both if unclear unsure",
    )
)
"""Words that turn the meaning of short prose, or weigh labels against each other."""


def read_label(answer: str, labels: Sequence[str]) -> str | None:
    """The one label that the answer names, or None where it names none, or more than one, or denies it."""
    known = _known(labels)
    if (label := _named(answer, known)) is not None:
        return label
    for found in _objects(answer):
        if "label" in found:
            # The last word counts, even if it is no label: an earlier object was taken back.
            return _named(found["label"], known)
    if quoted := _QUOTED.findall(answer):
        return _named(quoted[-1][2], known)
    return None if "{" in answer[:20] else _in_prose(answer, labels)


def _objects(answer: str) -> Iterator[dict[str, object]]:
    # The whole first, then what stands between prose or fences, then flat objects from the end on: a
    # model that corrects itself does so last. Each is tried once, so that no answer takes long to read.
    inner = answer[answer.find("{") : answer.rfind("}") + 1]
    for text in [answer, inner, *reversed(_OBJECT.findall(answer))]:
        value = _value(text)
        if isinstance(value, dict):
            yield {str(name).casefold(): item for name, item in value.items()}


def _value(text: str) -> object:
    """What ``text`` is as JSON or, with single quotes, as a literal of Python; else None."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    if "'" not in text or len(text) > _LITERAL_CHARACTERS:
        return None
    try:
        return ast.literal_eval(text)  # literals only: nothing is run
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _in_prose(answer: str, labels: Sequence[str]) -> str | None:
    """The label of ``Label: X`` where that is said of one label only, or the one label of a short sentence."""
    mentions = list(_mentions(answer, labels))
    marked = {label: start for label, start, _ in mentions if _MARKED.search(answer[max(0, start - 60) : start])}
    if marked:
        label, start = marked.popitem()
        return None if marked or _turned(answer[start:]) else label
    if len({label for label, _, _ in mentions}) != 1 or len(answer.split()) > FEW_WORDS:
        return None
    rest = answer
    for _, start, end in reversed(mentions):
        rest = f"{rest[:start]} {rest[end:]}"
    return None if _turned(rest) else mentions[0][0]


def _mentions(answer: str, labels: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Each label named as whole words, with its place; the longer of labels that contain each other."""
    if len(answer) > _LITERAL_CHARACTERS:
        return
    by_words = {_plain(label): label for label in labels}
    # A label that is itself a common word ("no", "or") says nothing when it is met in prose.
    if any(set(_WORD.findall(words)) & _TURNS or len(words) < 3 for words in by_words):
        return
    longest_first = sorted(by_words, key=len, reverse=True)
    either = "|".join(r"\s+".join(map(re.escape, words.split())) for words in longest_first)
    for found in re.finditer(rf"(?<![\w-])(?:{either})(?![\w-])", answer, re.IGNORECASE):
        if (label := by_words.get(_plain(found[0]))) is not None:
            yield label, found.start(), found.end()


def _turned(text: str) -> bool:
    return not _TURNS.isdisjoint(_WORD.findall(text.casefold().replace("\u2019", "'")))


def _known(labels: Sequence[str]) -> dict[str, str]:
    """Labels by how they may be written; without punctuation only where that leaves one label, not none."""
    counts = Counter(map(_trimmed, labels))
    short = {_trimmed(label): label for label in labels if _trimmed(label) and counts[_trimmed(label)] == 1}
    return short | {_plain(label): label for label in labels}


def _named(value: object, known: dict[str, str]) -> str | None:
    if not isinstance(value, str | int | float):
        return None
    return known.get(_plain(str(value)), known.get(_trimmed(str(value))))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _trimmed(text: str) -> str:
    return _plain(text.strip(_TRIM))
