"""What is to be decided about each text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runner.spec.sections.data import LabelledSource, labelled_file, path_is_clear, text_is_readable
from runner.spec.sections.shared import Found, catalog_has
from runner.spec.strict_yaml import KeyPath
from runner.tasks.rules import rules_of


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text with its right value, shown to the teacher: of text in the file, and read by the kind of task."""

    text: str
    label: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExamplePool:
    """Labelled texts from which the examples are chosen; ``reason`` is a column, ``model`` the encoder."""

    from_: str
    encoding: str | None
    delimiter: str | None
    select: Literal["similar", "diverse"]
    k: int
    text: str
    label: str
    reason: str | None
    model: str

    @property
    def source(self) -> LabelledSource:
        """The pool as any other labelled source."""
        return labelled_file(self.from_, self.text, self.label, self.encoding, self.delimiter)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be decided about each text.

    ``descriptions`` say what the labels mean, "" where one has none; they are empty where none has one. ``label_file``
    is the file that the labels came from, as the spec writes it.
    """

    type: str
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    label_file: str | None
    out_of_scope: str | None
    instructions: str
    examples: tuple[Example, ...] | ExamplePool

    @property
    def pool(self) -> ExamplePool | None:
        """Where examples are chosen from; None where they are written in the spec."""
        return self.examples if isinstance(self.examples, ExamplePool) else None

    @property
    def written(self) -> tuple[Example, ...]:
        """The examples that are written in the spec."""
        return () if isinstance(self.examples, ExamplePool) else self.examples


def answers_are_clear(spec: dict[str, Any]) -> Found:
    """What an answer is, by the rules of the kind of task."""
    yield from rules_of(spec["task"]).fields_fit(spec["task"])


def out_of_scope_is_a_label(spec: dict[str, Any]) -> Found:
    task = spec["task"]
    if task["out_of_scope"] is not None and (wrong := rules_of(task).wrong_out_of_scope(task, task["out_of_scope"])):
        yield ("task", "out_of_scope"), "spec.label-unknown", wrong


def examples_fit(spec: dict[str, Any]) -> Found:
    task, examples = spec["task"], spec["task"]["examples"]
    if isinstance(examples, dict):
        return
    seen: dict[str, int] = {}
    for index, example in enumerate(examples):
        path: KeyPath = ("task", "examples", index)
        given = task, example["label"], example["text"]
        if rules_of(task).example(*given) is None:
            yield (*path, "label"), "spec.label-unknown", rules_of(task).not_a_value(*given)
        text = " ".join(example["text"].split())
        if seen.setdefault(text, index) != index:
            yield (*path, "text"), "spec.example-repeated", f"this is the text of example {seen[text]} again"


def pool_is_clear(spec: dict[str, Any]) -> Found:
    pool, at = spec["task"]["examples"], ("task", "examples")
    if not isinstance(pool, dict):
        return
    yield from path_is_clear((*at, "from"), pool["from"], "auto")
    yield from text_is_readable(at, pool)
    yield from catalog_has((*at, "model"), pool["model"])
    if pool["from"] in [source["path"] for source in (spec["data"]["train"], spec["data"]["test"]) if source]:
        yield (
            (*at, "from"),
            "spec.examples-from-data",
            "these texts are in data already: choose examples from a file of their own",
        )
    template = spec["teacher"]["template"]
    if template is not None and "{examples}" not in template:
        yield (
            at,
            "spec.examples-not-shown",
            "teacher.template has no {examples}, so that none would be shown: put it in, or leave these out",
        )
