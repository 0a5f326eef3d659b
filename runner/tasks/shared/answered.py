"""Documents of JSON in a raw answer, whichever kind of task reads them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_REASON = re.compile(r'"reason"\s*:\s*"((?:[^"\\]|\\.){1,5000})')
_FENCED = re.compile(r"\s*```\w{0,20}[ \t]*\n(.*?)\n?\s*```\s*", re.DOTALL)
_LITERAL_CHARACTERS = 10_000


def after_thinking(answer: str) -> str:
    """What a model that thinks aloud says after its thoughts: nothing where it was cut off among them."""
    _, thought, rest = answer.rpartition("</think>")
    return rest if thought else "" if answer.lstrip().startswith("<think>") else answer


def unfenced(answer: str) -> str:
    """What stands between fences of Markdown, where the whole answer is one block; else the answer."""
    return fenced[1] if (fenced := _FENCED.fullmatch(answer)) else answer


def document(answer: str) -> object:
    """What the whole of an answer is as JSON, within fences or not; None where it is none."""
    return value(unfenced(answer))


def objects(answer: str) -> Iterator[dict[str, object]]:
    """The JSON objects of an answer, their keys in lower case.

    The whole first, then what stands between prose or fences, then flat objects from the end on: a model that corrects
    itself does so last. Each is tried once, so that no answer takes long to read.
    """
    inner = answer[answer.find("{") : answer.rfind("}") + 1]
    for text in [answer, inner, *reversed(_OBJECT.findall(answer))]:
        found = value(text)
        if isinstance(found, dict):
            yield {str(name).casefold(): item for name, item in found.items()}


def value(text: str) -> object:
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


def read_reason(answer: str) -> str:
    """What an answer in JSON gives as its reason; empty where it gives none."""
    answer = after_thinking(answer)
    for found in objects(answer):
        if isinstance(reason := found.get("reason"), str):
            return reason.strip()
    if broken := _REASON.search(answer):  # cut off behind it, or within
        return broken[1].replace('\\"', '"').strip()
    return ""
