"""Which of many answers the teacher is shown for each text: those that are nearest to it.

A choice is as near as the nearest of its own words and of the few-shot examples of it, by the cosine of sentence
embeddings. Nobody has looked at the text before, so that a choice may be left out wrongly: how often is measured on the
test rows. Knows no Ray; the encoder is loaded where the work is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.teacher.examples import encoder_of
from runner.teacher.protocol import AnswerFormat

MODEL = "catalog:all-minilm-l6-v2"
NUMBERS = pa.list_(pa.int32())
CHOSEN = pa.schema([("id", pa.string()), ("shortlist", NUMBERS)])


class Shortlister:
    """Finds for each row of a batch the ``size`` nearest choices; returns :data:`CHOSEN`.

    ``signals``: texts that stand for choices, and ``owners`` the number of the choice that each stands for.
    """

    def __init__(self, model: str, signals: Sequence[str], owners: Sequence[int], size: int) -> None:
        self._encoder = encoder_of(model, "teacher.shortlist")
        self._signals, self._owners, self._size = self._encoder.embed(signals), owners, size

    def __call__(self, batch: pa.Table) -> pa.Table:
        near = self._encoder.embed(batch["text"].to_pylist()) @ self._signals.T
        found = nearest_choices(near, self._owners, self._size)
        return pa.table([batch["id"], pa.array(found.tolist(), NUMBERS)], schema=CHOSEN)


def nearest_choices(near: NDArray[np.float32], owners: Sequence[int], size: int) -> NDArray[np.int64]:
    """Numbers ``(rows, size)`` of each row's nearest choices, in ascending order; of equals the first.

    ``near``: ``(rows, signals)``, the cosines with the texts that stand for the choices ``owners``.
    """
    best = np.full((len(near), max(owners) + 1), -np.inf, dtype=np.float32)
    for place, owner in enumerate(owners):
        best[:, owner] = np.maximum(best[:, owner], near[:, place])
    # In the order of the task: the place in a list must say nothing about the text.
    found: NDArray[np.int64] = np.sort(np.argsort(-best, axis=1, kind="stable")[:, :size], axis=1)
    return found


def signals_of(answers: AnswerFormat, examples: Sequence[tuple[str, Any]]) -> tuple[list[str], list[int]]:
    """The texts that stand for the choices, and the number of each one's choice; ``examples`` are texts with values."""
    places = {choice: number for number, choice in enumerate(answers.choices)}
    known = [(text, places[value]) for text, value in examples if isinstance(value, str) and value in places]
    signals = [*answers.meanings, *(text for text, _ in known)]
    return signals, [*range(len(places)), *(number for _, number in known)]


def random_shortlists(choices: int, size: int, texts: int, seed: int) -> list[list[int]]:
    """For ``texts`` that say nothing: lists of ``size`` choices at random, each choice in as many as any other or in
    one more."""
    rng = np.random.default_rng(seed)
    times = np.zeros(choices, dtype=np.int64)
    found: list[list[int]] = []
    for _ in range(texts):
        order = rng.permutation(choices)
        mine = order[np.argsort(times[order], kind="stable")[:size]]
        times[mine] += 1
        found.append(sorted(mine.tolist()))
    return found


def typical(answers: AnswerFormat, size: int | None) -> AnswerFormat:
    """The answers with a shortlist of that ``size``, whose choices are taken evenly from all; None: as they are."""
    if size is None:
        return answers
    choices = len(answers.choices)
    return answers.narrowed([place * choices // size for place in range(size)])


def advice(answers: AnswerFormat) -> str:
    """What else would make a prompt shorter, behind a comma; empty where nobody can be shown fewer choices."""
    return ", or show fewer labels for each text (teacher.shortlist)" if len(answers.meanings) > 2 else ""


def recall(answers: AnswerFormat, listed: Mapping[str, Sequence[int] | None], truth: Mapping[str, Any]) -> Any:
    """Of the rows with a value in ``truth`` and a shortlist in ``listed``, both by row id: ``rows``, and the share
    ``recall`` of those whose value is on it; None where there is no such row."""
    choices = answers.choices
    held = [truth[id_] in {choices[number] for number in mine} for id_, mine in listed.items() if mine and id_ in truth]
    return {"rows": len(held), "recall": sum(held) / len(held)} if held else None
