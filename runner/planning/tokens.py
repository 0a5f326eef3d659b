"""How many tokens the prompts of a spec have, before any was asked: counted where the tokenizer is on this machine,
estimated from characters where it is not. Fetches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from runner import models
from runner.data.reading import read_rows
from runner.data.sources import source_of
from runner.data.splits import examples_of
from runner.planning.hardware.throughput import CHARACTERS_PER_TOKEN
from runner.spec import Spec
from runner.student.vocabulary import tokenizer_in
from runner.system.errors import ModelError
from runner.tasks.kinds import task_of
from runner.tasks.rules import rules_of
from runner.teacher import prompt, request
from runner.teacher.engines.vllm_arguments import block_tokens
from runner.teacher.shortlist import typical

SAMPLE = 200
"""Texts that are counted."""

MARKUP = 5
"""Tokens that each turn costs besides its content."""
_WORDS = re.compile(r"[^\W_]+|\W|_")
"""What tokens are taken to be where answers are looked at without a tokenizer."""


@dataclass(frozen=True)
class PromptTokens:
    """Tokens of the part that all prompts share, mean tokens of a row's own part, and how they were counted.

    ``besides_text``: tokens of a prompt without its text, and without examples of its own. ``exact`` is False where
    they are estimated.
    """

    fixed: int
    per_row: int
    counted: str
    exact: bool
    besides_text: int


def prompt_tokens(spec: Spec, texts: Sequence[str]) -> PromptTokens:
    """The tokens of the teacher's prompts about ``texts``, of which a sample is looked at."""
    task, shown = shown_task(spec)
    turns, all_turns = (prompt.messages(version, "") for version in (task, shown))
    count = _counter(spec)
    sample = [text[:20_000] for text in texts[:: max(1, len(texts) // SAMPLE)]]
    counted = f"with the model's tokenizer on {len(sample)} rows" if count else "from characters"
    exact = count is not None
    count = count or (lambda text: len(text) / CHARACTERS_PER_TOKEN)
    fixed = sum(count(turn["content"]) + MARKUP for turn in turns)
    examples = sum(count(turn["content"]) + MARKUP for turn in all_turns) - fixed
    if spec.task.pool is None or spec.task.pool.select == "diverse":
        fixed, examples = fixed + examples, 0
    besides_text, listed = fixed, 0.0
    if spec.teacher.shortlist is not None:  # each row has a list of its own, and so whatever follows it
        fixed = count(spec.task.instructions) + MARKUP
        listed = besides_text - fixed
    per_row = sum(map(count, sample)) / max(1, len(sample)) + MARKUP + examples + listed
    return PromptTokens(round(fixed), round(per_row), counted, exact, round(besides_text))


@dataclass(frozen=True)
class Requests:
    """What one row takes with prompt ``direct``, on average: requests, and tokens that are read for those after the
    first. ``most``: the requests that it may take.

    Each request is about a place in the answer, behind the whole prompt, of which the engine keeps whole blocks.
    """

    number: float
    most: int
    read_again: int


def direct_requests(spec: Spec, per_row: float, measured: float | None = None) -> Requests:
    """The requests of a row whose own part of the prompt has ``per_row`` tokens, on average.

    ``measured``: how many earlier rows took; None: as the kind of task expects.

    :raises ValueError: when the teacher cannot be asked in this way, with what to change in the spec.
    """
    tokenizer = _tokenizer(spec)
    known: dict[str, int] = {}

    def encode(answers: Sequence[str]) -> list[list[int]]:
        if tokenizer:
            return [tokenizer.encode(answer, add_special_tokens=False).ids for answer in answers]
        return [[known.setdefault(word, len(known)) for word in _WORDS.findall(answer)] for answer in answers]

    scored = task_of(spec).asking.scored(spec, encode)
    block = block_tokens(request.settings_of(spec.teacher))
    tail = per_row if per_row < block else block / 2
    number = scored.expected if measured is None else measured
    most = len(scored.prefixes)
    deeper = sum(scored.prefixes) * (number - 1) / max(1, most - 1)
    return Requests(number, most, round((number - 1) * tail + deeper))


def recorded_answer_tokens(spec: Spec) -> float:
    """Mean tokens of the recorded answers, each reason with its vote, of a sample of train.

    :raises DataError: when the file is broken, or lacks a column.
    """
    count = _counter(spec) or (lambda text: len(text) / CHARACTERS_PER_TOKEN)
    pairs = list(zip(spec.teacher.reasons, spec.teacher.columns, strict=True))
    columns = [column for pair in pairs for column in pair]
    lists = rules_of(vars(spec.task)).LISTS
    rows = islice(read_rows(source_of(spec, spec.data.train), columns, spec.teacher.columns, lists=lists), SAMPLE)
    form = task_of(spec).asking.answer_format(vars(spec.task))
    answers = [
        form.example("cot", row.values[column], row.values[reason], "") for row in rows for reason, column in pairs
    ]
    return sum(map(count, answers)) / len(answers)


def shown_task(spec: Spec) -> tuple[prompt.Task, prompt.Task]:
    """The task without and with examples; of a pool the first ones stand in for those that will be chosen, and some
    choices for a shortlist."""
    task, pool = request.prompt_task(spec), spec.task.pool
    task = replace(task, answers=typical(task.answers, spec.teacher.shortlist))
    if pool is None:
        return task, task
    first = [prompt.Example(**example) for example in examples_of(spec)[: pool.k]]
    return task, replace(task, examples=tuple(first))


def _counter(spec: Spec) -> Callable[[str], float] | None:
    """A function from text to its number of tokens, where the teacher's tokenizer is on this machine."""
    tokenizer = _tokenizer(spec)
    return None if tokenizer is None else lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def _tokenizer(spec: Spec) -> Any:
    """The teacher's tokenizer, where it is on this machine."""
    if spec.teacher.engine == "noop":
        return None
    model, own = (spec.teacher.model, spec.teacher.revision, spec.base), spec.teacher.endpoint is None
    try:
        if not models.describe(*model, weights=own).present:
            return None
        folder = models.ensure(*model, weights=own)
    except ModelError:  # recorded answers may be anybody's: then the name is no model's
        return None
    return tokenizer_in(folder)
