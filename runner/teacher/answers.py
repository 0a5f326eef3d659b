"""From a raw answer to the label it names, or to none. Never a guess."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_TRIM = " \t\r\n.,;:!'\"`*"


def read_label(answer: str, labels: Sequence[str]) -> str | None:
    """The label that the answer names: as the whole answer, as JSON, or as JSON inside text; else None."""
    known = _known(labels)
    if (label := _named(answer, known)) is not None:
        return label
    for found in _objects(answer):
        if "label" in found:
            # The last word counts, even if it is no label: an earlier object was taken back.
            return _named(found["label"], known)
    return None


def _objects(answer: str) -> Iterator[dict[str, object]]:
    # The whole first, then what stands between prose or fences, then flat objects from the end on: a
    # model that corrects itself does so last. Each is tried once, so that no answer takes long to read.
    inner = answer[answer.find("{") : answer.rfind("}") + 1]
    for text in [answer, inner, *reversed(_OBJECT.findall(answer))]:
        try:
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


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
