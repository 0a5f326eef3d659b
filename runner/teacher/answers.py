"""From a raw answer to the label it names, or to none. Never a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_TRIM = " \t\r\n.,;:!'\"`*"


def read_label(answer: str, labels: Sequence[str]) -> str | None:
    """The label that the answer names: as JSON, as JSON inside text, or as the whole answer; else None."""
    known = {_plain(label): label for label in labels}
    for value in _candidates(answer):
        if isinstance(value, str) and _plain(value) in known:
            return known[_plain(value)]
    return None


def _candidates(answer: str) -> Iterator[object]:
    yield answer
    # The last object counts: a model that corrects itself does so at the end.
    for text in [answer, *reversed(_OBJECT.findall(answer))]:
        try:
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value.get("label")


def _plain(text: str) -> str:
    return " ".join(text.strip(_TRIM).casefold().split())
