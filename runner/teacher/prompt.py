"""The annotation prompt as a conversation: one fixed part for all rows, then the row's text.

The fixed part stands first, so that an engine with prefix caching computes it once. Knows neither tokens nor engines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.spec.sections.teacher import PLACEHOLDER
from runner.teacher.protocol import AnswerFormat


@dataclass(frozen=True)
class Example:
    """A few-shot example with its value; ``reason`` is shown in chain-of-thought prompts."""

    text: str
    label: Any
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """What the teacher is told, apart from the text."""

    answers: AnswerFormat
    instructions: str
    examples: tuple[Example, ...]
    kind: str = "direct"
    template: str | None = None
    filler: str = ""


def messages(task: Task, text: str) -> list[dict[str, str]]:
    """The conversation as roles and contents: everything fixed first, the text in the last turn."""
    if task.template is not None:
        return [{"role": "user", "content": fill(task, text)}]
    system = "\n\n".join(
        part for part in (task.instructions.strip(), task.answers.request(task.kind), task.filler) if part
    )
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
        "labels": task.answers.listed(),
        "examples": "\n\n".join(f"{question(one.text)}\n{answer(task, one)}" for one in task.examples),
        "instructions": task.instructions.strip(),
    }
    return PLACEHOLDER.sub(lambda match: parts.get(match[1], match[0]), task.template or "")


def question(text: str) -> str:
    """The user's turn for one text."""
    return f"TEXT: {text}"


def answer(task: Task, example: Example) -> str:
    """What the teacher should have said for a few-shot example."""
    return task.answers.example(task.kind, example.label, example.reason, example.text)
