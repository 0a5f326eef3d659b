"""The annotation prompt as a conversation: one fixed part for all rows, then the row's text.

The fixed part stands first, so that an engine with prefix caching computes it once. Knows neither tokens nor engines.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

PLACEHOLDERS = ("text", "labels", "examples", "instructions")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Example:
    """A few-shot example; ``reason`` is shown in chain-of-thought prompts."""

    text: str
    label: str
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """What the teacher is told, apart from the text."""

    labels: tuple[str, ...]
    instructions: str
    examples: tuple[Example, ...]
    kind: str = "direct"
    template: str | None = None
    filler: str = ""


def messages(task: Task, text: str) -> list[dict[str, str]]:
    """The conversation as roles and contents: everything fixed first, the text in the last turn."""
    if task.template is not None:
        return [{"role": "user", "content": fill(task, text)}]
    names = ", ".join(task.labels)
    if task.kind == "cot":
        ask = (
            "Think about the TEXT step by step first, in one or two sentences, then choose exactly one label: "
            f"{names}.\nAnswer only with JSON of this form: "
            '{"reason": "your reasoning in one or two sentences", "label": "one of the labels"}'
        )
    else:
        ask = f"Answer with exactly one label, and nothing else: {names}."
    system = "\n\n".join(part for part in (task.instructions.strip(), ask, task.filler) if part)
    turns = [{"role": "system", "content": system}]
    for example in task.examples:
        turns.append({"role": "user", "content": question(example.text)})
        turns.append({"role": "assistant", "content": answer(task, example)})
    turns.append({"role": "user", "content": question(text)})
    return turns


def fill(task: Task, text: str) -> str:
    """The user's own template with its placeholders filled in, all at once: what is put in is not read again.

    Braces that are no placeholder stay as they are, in the template as in the text.
    """
    parts = {
        "text": text,
        "labels": ", ".join(task.labels),
        "examples": "\n\n".join(f"{question(one.text)}\n{answer(task, one)}" for one in task.examples),
        "instructions": task.instructions.strip(),
    }
    return PLACEHOLDER.sub(lambda match: parts.get(match[1], match[0]), task.template or "")


def ask_again(task: Task) -> str:
    """The turn that follows an answer in which no label could be read."""
    return f"Which one label is it? Answer with exactly one of these, and nothing else: {', '.join(task.labels)}."


def question(text: str) -> str:
    """The user's turn for one text."""
    return f"TEXT: {text}"


def answer(task: Task, example: Example) -> str:
    """What the teacher should have said for a few-shot example."""
    if task.kind == "cot":
        return json.dumps({"reason": example.reason, "label": example.label}, ensure_ascii=False)
    return example.label


def answer_schema(task: Task, max_tokens: int) -> str:
    """The JSON Schema of a ``cot`` answer whose reason is short enough for the whole to end within ``max_tokens``."""
    # A token holds two characters at the least where it counts: in English four or five.
    reason = {"type": "string", "maxLength": max(20, 2 * max_tokens - 40)}
    properties = {"reason": reason, "label": {"enum": list(task.labels)}}
    return json.dumps(
        {
            "type": "object",
            "properties": properties,
            "required": ["reason", "label"],
            "additionalProperties": False,
        }
    )
