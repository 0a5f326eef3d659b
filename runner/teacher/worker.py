"""The actor that labels: holds an engine, takes a batch of texts, stores the raw answers as they come.

An answer file is the answer and its own checkpoint in one atomic write: what is in ``answers/`` is never
asked again, and a batch that was cut off leaves nothing. Knows no Ray: the cluster calls it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner.errors import EngineError, TutelageError
from runner.store import Folder, fingerprint
from runner.teacher.labels import LabelTrie
from runner.teacher.prompt import Renderer, Task
from runner.teacher.vllm_engine import EngineSettings, VllmEngine

ANSWERS = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("label_probabilities", pa.list_(pa.float64())),
        ("outputs", pa.list_(pa.large_string())),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("seconds", pa.float64()),
    ]
)
"""``kind`` is ``row`` or ``content-free``; ``label_probabilities`` are the engine's own, uncalibrated, in
the order of ``task.labels`` (prompt ``direct``); ``outputs`` are the raw texts (prompt ``cot``);
``seconds`` is the row's share of the engine's time."""

RESULTS = pa.schema([("id", pa.string()), ("error", pa.string())])

CHARACTERS_PER_TOKEN = 40
"""No tokenizer packs more characters into a token over a whole text: longer ones need no tokenising to be refused."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn with prompt ``cot``; ``direct`` reads one distribution and draws nothing."""

    votes: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


class Labeller:
    """Labels batches of ``id``, ``kind``, ``text``; returns ``id`` and, where it failed, why."""

    def __init__(self, model: str, task: Task, engine: EngineSettings, sampling: Sampling, answers: str) -> None:
        self._task, self._sampling, self._settings = task, sampling, engine
        self._answers = Folder(answers)
        self._failed: TutelageError | None = None
        try:
            self._engine = VllmEngine(Path(model), engine)
            self._renderer = Renderer(self._engine.tokenizer, task)
            self._trie = self._label_trie() if task.kind == "direct" else None
            # The first request fills the cache with the part that all prompts share.
            self._answer([self._renderer.render("warm-up")], ["warm-up"])
        except TutelageError as error:
            # Raised from the constructor it would count as a dead actor and be tried again.
            self._failed = error
        except Exception as error:
            self._failed = EngineError(f"the teacher's engine could not start: {str(error).splitlines()[0][:300]}")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """:raises EngineError: when the engine never started."""
        if self._failed:
            raise self._failed
        start = time.perf_counter()
        errors: dict[str, str] = {}
        rows, prompts = [], []
        for row in batch.to_pylist():
            try:
                prompts.append(self._prompt(row["text"]))
                rows.append(row)
            except ValueError as error:
                errors[row["id"]] = str(error)
        answers = self._answer_all(rows, prompts, errors)
        share = (time.perf_counter() - start) / max(1, len(answers))
        if answers:
            table = pa.Table.from_pylist([answer | {"seconds": share} for answer in answers], schema=ANSWERS)
            self._answers.write_table(f"{uuid.uuid4().hex}.parquet", table)
        results = [{"id": id_, "error": errors.get(id_)} for id_ in batch.column("id").to_pylist()]
        return pa.Table.from_pylist(results, schema=RESULTS)

    def _prompt(self, text: str) -> list[int]:
        """:raises ValueError: when the text does not fit into the context."""
        room = self._settings.max_context - (self._sampling.max_tokens if self._task.kind == "cot" else 1)
        if len(text) > room * CHARACTERS_PER_TOKEN:
            raise ValueError(f"too long: {len(text)} characters do not fit into {room} tokens")
        prompt = self._renderer.render(text)
        if len(prompt) > room:
            raise ValueError(f"too long: the prompt has {len(prompt)} tokens, there is room for {room}")
        return prompt

    def _answer_all(
        self, rows: list[dict[str, Any]], prompts: list[list[int]], errors: dict[str, str]
    ) -> list[dict[str, Any]]:
        """The batch at once; if the engine refuses it, row by row, so that one bad row spoils no other."""
        if not rows:
            return []
        ids = [row["id"] for row in rows]
        try:
            found = self._answer(prompts, ids)
        except Exception:
            found = []
            for prompt, id_ in zip(prompts, ids, strict=True):
                try:
                    found += self._answer([prompt], [id_])
                except Exception as error:
                    errors[id_] = f"engine: {(str(error) or type(error).__name__).splitlines()[0][:200]}"
        kinds = {row["id"]: row["kind"] for row in rows}
        return [answer | {"kind": kinds[answer["id"]]} for answer in found]

    def _answer(self, prompts: list[list[int]], ids: Sequence[str]) -> list[dict[str, Any]]:
        if self._trie is None:
            return self._sampled(prompts, ids)
        return self._distributions(self._trie, prompts, ids)

    def _distributions(self, trie: LabelTrie, prompts: list[list[int]], ids: Sequence[str]) -> list[dict[str, Any]]:
        asked = [[*prompt, *branch.prefix] for prompt in prompts for branch in trie.branches]
        choices = [branch.choices for _ in prompts for branch in trie.branches]
        logprobs = self._engine.next_token_logprobs(asked, choices)
        count = len(trie.branches)
        answers = []
        for index, (prompt, id_) in enumerate(zip(prompts, ids, strict=True)):
            found = logprobs[index * count : (index + 1) * count]
            by_branch = {branch.prefix: got for branch, got in zip(trie.branches, found, strict=True)}
            probabilities = trie.probabilities(by_branch)
            answers.append(_answer_row(id_, len(prompt), count, probabilities=probabilities))
        return answers

    def _sampled(self, prompts: list[list[int]], ids: Sequence[str]) -> list[dict[str, Any]]:
        sampling = self._sampling
        seeds = [int(fingerprint([id_, sampling.seed])[:8], 16) for id_ in ids]
        drawn = self._engine.sample(
            prompts, sampling.votes, sampling.temperature, sampling.top_p, sampling.max_tokens, seeds
        )
        return [
            _answer_row(id_, len(prompt), sum(s.tokens for s in samples), outputs=[s.text for s in samples])
            for id_, prompt, samples in zip(ids, prompts, drawn, strict=True)
        ]

    def _label_trie(self) -> LabelTrie:
        try:
            return LabelTrie.build(self._renderer.label_ids(), self._engine.tokenizer.eos_token_id)
        except ValueError as error:
            raise EngineError(f"the model cannot tell the labels apart: {error}; rename them") from error


def _answer_row(
    id_: str,
    prompt_tokens: int,
    output_tokens: int,
    probabilities: list[float] | None = None,
    outputs: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "id": id_,
        "label_probabilities": probabilities,
        "outputs": outputs or [],
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
    }
