"""The actor that labels: holds an engine, takes batches of texts, stores the raw answers as they come.

An answer file is the answers and their own checkpoint in one atomic write: what is in ``answers/`` is never
asked again. Several batches are in the engine at once, so that it never waits for the last row of one. Knows no
Ray: the cluster calls it, from several threads.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner import models
from runner.engines.endpoint import TOKEN_VARIABLE, Endpoint, EndpointEngine
from runner.engines.noop import NoopEngine
from runner.engines.protocol import Engine, Reply, Sample, Sampling
from runner.engines.vllm import EngineSettings, VllmEngine, block_tokens
from runner.models import folder
from runner.rundir.folder import Folder
from runner.system.errors import EngineError, TutelageError, first_line
from runner.tasks.single_label import calibrate
from runner.tasks.single_label.label_trie import LabelTrie, NotFiniteError
from runner.teacher.batch import Batch, Clock
from runner.teacher.conversation import REASK_TOKENS, Ask, Ballot, Conversation, Distribution, Votes
from runner.teacher.examples import CHOSEN
from runner.teacher.live import Finished, Start, Tell, silent
from runner.teacher.prompt import CONTROL_LEFT, Example, Renderer, Task, end_tokens

EARLIER = pa.list_(pa.struct([("vote", pa.int32()), ("attempt", pa.int32()), ("text", pa.large_string())]))
QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("text", pa.large_string()),
        ("earlier", EARLIER),
        ("examples", CHOSEN.field("examples").type),
    ]
)
"""What a batch holds: ``earlier`` are the votes on the row that are stored already, ``examples`` the numbers of those
in the pool that the teacher is shown for it, null where all rows have the same."""

RESULTS = pa.schema(
    [("id", pa.string()), ("error", pa.string()), ("prompt_tokens", pa.int64()), ("output_tokens", pa.int64())]
)
"""A line for each row of a batch: why it failed, if it did, and the tokens of all that was asked about it for this
batch."""
OVER_BUDGET = "not asked: teacher.budget is used up"
NOT_FINITE = (
    "not finite: the model's probabilities are no numbers; where that is so of many rows it must compute in wider "
    "numbers (teacher.engine_options: {dtype: float32})"
)

UNDER_WAY = 1024
"""Requests of one batch that are in the engine at once: with many labels a row takes hundreds, each a whole prompt."""

PROBE = "Net sales rose in the second quarter of the year"
TOO_SHORT_TO_KEEP = (
    "the engine keeps {block} tokens of a prompt together, and what all prompts share has {shared}: it is computed "
    "again for every row. "
)
PUT_LAST = "Put {{text}} at the end of teacher.template"
SHOW_ALIKE = "task.examples.select: diverse shows all rows the same examples"
SHOW_MORE = "More examples or longer instructions, up to {block} tokens, would cost nothing"
NOTHING_KEPT = (
    "the engine kept nothing of the {shared} tokens that all prompts share, and computes them again for every row: "
    "it has no prefix cache for this model"
)

RENDERERS = 10_000
"""Sets of examples whose prompt is kept ready."""

CHARACTERS_PER_TOKEN = 40
"""No tokenizer packs more characters into a token over a whole text: longer ones need no tokenising to be refused."""


@dataclass(frozen=True)
class Asking:
    """How rows are asked about: the votes and their sampling matter with prompt ``cot`` only.

    Rows that name examples of their own are shown those of the ``pool``, besides the task's.
    """

    task: Task
    votes: int
    early_stop: bool
    sampling: Sampling
    seed: int
    truncate: bool = False
    pool: tuple[Example, ...] = ()


class Labeller:
    """Labels batches of :data:`QUESTIONS`; returns each ``id`` and, where it failed, why.

    Once the file ``over`` is among the answers what is in the engine is finished, and no further batch begun; but an
    engine that took so long to start asks once, so that a job with a small budget gets on at all.
    """

    def __init__(
        self,
        engine: str,
        model: str,
        asking: Asking,
        settings: EngineSettings,
        answers: str,
        endpoint: Endpoint | None = None,
        over: str | None = None,
        revision: str | None = None,
        tell: Tell = silent,
    ) -> None:
        self._tell, start = tell, Start(tell)
        self._asking, self._settings, self._over = asking, settings, over
        self._answers = Folder(answers)
        self._clock = Clock()
        self._begun = False
        self._renderers: dict[tuple[int, ...], Renderer] = {}
        self._failed: TutelageError | None = None
        try:
            self._engine, self._folder = _open(engine, (model, revision), asking.task, settings, endpoint, start)
            # The part that all rows share is lengthened to whole blocks of the cache; with examples of each row's own
            # it is short, and ends somewhere else.
            block = self._engine.block_tokens or block_tokens(settings)
            self._renderer = Renderer(self._engine.tokenizer, asking.task, 1 if asking.pool else block)
            self._trie = self._label_trie() if asking.task.kind == "direct" else None
            if self._room(self._renderer) <= 0:
                raise EngineError(
                    f"the prompt takes {self._renderer.fixed_tokens} tokens and the answer up to "
                    f"{self._reserved(self._renderer)}, so that no text fits into teacher.max_context "
                    f"({settings.max_context}): raise it, or shorten task.instructions and task.examples"
                )
            start.begin("warm-up")
            self._warm_up()
            start.end()
            for warning in self._doubts():
                tell({"warning": warning})
        except TutelageError as error:
            # Raised from the constructor it would count as a dead actor and be tried again.
            self._failed = error
        except Exception as error:
            self._failed = EngineError(f"the teacher's engine could not start: {first_line(error)}")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """:raises EngineError: when the engine never started."""
        if self._failed:
            raise self._failed
        if self._begun and self._over and self._answers.exists(self._over):
            late = {"error": OVER_BUDGET, "prompt_tokens": 0, "output_tokens": 0}
            return pa.Table.from_pylist([{"id": id_, **late} for id_ in batch["id"].to_pylist()], schema=RESULTS)
        self._begun = True
        self._clock.begin()
        rows = batch.to_pylist()
        questions, errors = Batch(rows, self._answers, self._clock), {}
        talks: dict[str, Conversation] = {}
        for row, found in zip(rows, self._all_text_ids(rows), strict=True):
            if isinstance(found, str):
                errors[row["id"]] = found
            else:
                talks[row["id"]] = self._conversation(row | {"earlier": questions.earlier(row)}, found)
        counted = Finished(self._tell, rows[0]["id"])

        def finished(id_: str) -> None:
            questions.finished(id_, talks[id_])
            if questions.counts(id_):
                counted.add()

        errors |= self._converse(talks, finished)
        questions.close(talks)
        self._clock.end()
        results = [{"id": row["id"], "error": errors.get(row["id"]), **questions.tokens(row["id"])} for row in rows]
        return pa.Table.from_pylist(results, schema=RESULTS)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def _conversation(self, row: Mapping[str, Any], text_ids: list[int]) -> Conversation:
        renderer = self._renderer_for(row)
        if self._trie is not None:
            return Distribution(renderer.prompt(text_ids), self._trie, row["earlier"])
        return Votes(row["id"], text_ids, self._ballot(renderer), row["earlier"])

    def _renderer_for(self, row: Mapping[str, Any]) -> Renderer:
        examples = tuple(row["examples"] or ())
        if not examples:
            return self._renderer
        renderer = self._renderers.get(examples)
        if renderer is None:
            asking = self._asking
            shown = (*asking.task.examples, *(asking.pool[number] for number in examples))
            renderer = Renderer(self._engine.tokenizer, replace(asking.task, examples=shown))
            if len(self._renderers) >= RENDERERS:
                self._renderers.clear()
            self._renderers[examples] = renderer
        return renderer

    def _ballot(self, renderer: Renderer) -> Ballot:
        asking = self._asking
        how = (asking.task.labels, asking.votes, asking.early_stop, asking.sampling, asking.seed)
        return Ballot(renderer, *how, self._settings.max_context)

    def _all_text_ids(self, rows: Sequence[Mapping[str, Any]]) -> list[list[int] | str]:
        """Each row's text in tokens, or why it cannot be asked about. Texts with the same prompt are encoded together:
        that takes half as long as one by one."""
        found: list[list[int] | str] = [""] * len(rows)
        together: dict[int, tuple[Renderer, list[int]]] = {}
        for place, row in enumerate(rows):
            renderer = self._renderer_for(row)
            room = max(0, self._room(renderer))
            if len(row["text"]) > room * CHARACTERS_PER_TOKEN and not self._cuts(row):
                found[place] = f"too long: {len(row['text'])} characters do not fit into {room} tokens"
            else:
                together.setdefault(id(renderer), (renderer, []))[1].append(place)
        for renderer, places in together.values():
            room = self._room(renderer)
            texts = [rows[place]["text"][: max(0, room) * CHARACTERS_PER_TOKEN] for place in places]
            for place, ids in zip(places, renderer.all_text_ids(texts), strict=True):
                found[place] = self._fitted(ids, room, self._cuts(rows[place]))
        return found

    def _cuts(self, row: Mapping[str, Any]) -> bool:
        """Whether a text that is too long is cut. One of random words, for calibration, says as little when it is."""
        return self._asking.truncate or row["kind"] == "content-free"

    @staticmethod
    def _fitted(ids: list[int] | None, room: int, cut: bool) -> list[int] | str:
        if ids is None:
            return CONTROL_LEFT
        if len(ids) <= room:  # and so never where there is none
            return ids
        if cut and room > 0:
            return ids[:room]
        return f"too long: the text has {len(ids)} tokens, there is room for {max(0, room)}"

    def _room(self, renderer: Renderer) -> int:
        """Tokens that a text may have."""
        return self._settings.max_context - renderer.fixed_tokens - self._reserved(renderer)

    def _reserved(self, renderer: Renderer) -> int:
        """Tokens of the context that a text must leave free, for the answers and a second question."""
        if self._trie is not None:
            return 1 + max(len(path) for path in self._trie.paths)
        return max(self._asking.sampling.max_tokens, renderer.again_tokens + REASK_TOKENS)

    def _converse(
        self, talks: Mapping[str, Conversation], finished: Callable[[str], None] = lambda _: None
    ) -> dict[str, str]:
        """Ask and listen until every row is done; the rows that failed, with reasons.

        ``finished`` is called for each row when nothing more is asked about it.
        """
        inbox: queue.SimpleQueue[tuple[str, Ask, Reply | Exception]] = queue.SimpleQueue()
        errors: dict[str, str] = {}
        under_way: dict[str, int] = {}

        def put(id_: str, asks: list[Ask]) -> int:
            # Before they are submitted: an engine may answer at once.
            under_way[id_] = under_way.get(id_, 0) + len(asks)
            for ask in asks:
                self._engine.submit(ask.prompt, ask.request, partial(_post, inbox, id_, ask))
            if not under_way[id_]:
                del under_way[id_]
                finished(id_)
            return len(asks)

        waiting, requests = iter(talks.items()), 0
        while True:
            while requests < UNDER_WAY and (following := next(waiting, None)):
                requests += put(following[0], following[1].begin())
            if not under_way:
                return errors
            id_, ask, reply = inbox.get()
            under_way[id_] -= 1
            requests -= 1
            more: list[Ask] = []
            if isinstance(reply, Exception):
                errors[id_] = f"engine: {first_line(reply, 200)}"
            elif id_ not in errors:
                try:
                    more = talks[id_].on_reply(ask, reply)
                except NotFiniteError:
                    errors[id_] = NOT_FINITE
            requests += put(id_, more)

    def _warm_up(self) -> None:
        """The first request fills the cache with the part that all prompts share; its answer is not kept."""
        row: dict[str, Any] = {"id": "warm-up", "kind": "", "earlier": (), "examples": ()}
        talk = self._conversation(row, self._renderer.text_ids("warm-up"))
        failed = self._converse({"warm-up": talk})
        # A model may fail at one text only: that it fails at all of them will be seen soon enough.
        if failed and failed["warm-up"] != NOT_FINITE:
            raise EngineError(f"the teacher's engine could not answer: {failed['warm-up']}")
        self._clock = Clock()

    def _doubts(self) -> list[str]:
        """What makes this teacher slower or less sure than it could be, as the tokenizer and a second request tell."""
        task = self._asking.task
        try:
            text_ids = self._renderer.text_ids(PROBE)
            seam = None if task.template else self._renderer.seam(PROBE)
        except ValueError:  # a word of the probe is a control token of this model
            return []
        found = (
            [f"the teacher's tokenizer cuts the prompt in other tokens than the model knows: {seam}"] if seam else []
        )
        block, shared = self._engine.block_tokens, len(self._renderer.head)
        if block is None or self._settings.options.get("enable_prefix_caching") is False:
            return found
        if shared < block:
            way = PUT_LAST if task.template else SHOW_ALIKE if self._asking.pool else SHOW_MORE
            return [*found, TOO_SHORT_TO_KEEP.format(block=block, shared=shared) + way.format(block=block)]
        cached = self._cached_tokens(self._renderer.prompt(text_ids))
        return found if cached else [*found, NOTHING_KEPT.format(shared=shared)]

    def _cached_tokens(self, prompt: Sequence[int]) -> int | None:
        """How many tokens of a prompt the engine did not have to compute again."""
        inbox: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
        one = Sample(Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=1), seed=0)
        self._engine.submit(prompt, one, inbox.put)
        reply = inbox.get()
        return None if isinstance(reply, Exception) else reply.cached

    def _label_trie(self) -> LabelTrie:
        try:
            named = folder.end_tokens(self._folder) if self._folder else []
            return LabelTrie.build(self._renderer.label_ids(), *end_tokens(self._engine.tokenizer, named))
        except ValueError as error:
            raise EngineError(f"the model cannot tell the labels apart: {error}; rename them") from error


def _open(
    engine: str,
    model: tuple[str, str | None],
    task: Task,
    settings: EngineSettings,
    endpoint: Endpoint | None,
    start: Start,
) -> tuple[Engine, Path | None]:
    """The engine, and the folder of its model or tokenizer."""
    if engine == "noop":
        return NoopEngine(task.labels, settings.options.get("seconds", 0.0)), None
    if endpoint is None:
        place = models.ensure(*model, progress=start.fetching, who="teacher.model")
        start.begin("load")
        return VllmEngine(place, settings), place
    from runner.student.load import load_tokenizer  # in the actor only: the driver needs no torch

    token = os.environ.get(TOKEN_VARIABLE)
    place = models.ensure(*model, progress=start.fetching, who="teacher.model", weights=False)
    start.begin("connect")
    tokenizer = load_tokenizer(place)
    how: dict[str, Any] = {"token": token, "allow_external": endpoint.allow_external}
    server = EndpointEngine(endpoint.url, endpoint.model, tokenizer, endpoint.concurrency, **how)
    if server.max_context is not None and server.max_context < settings.max_context:
        server.close()
        raise EngineError(
            f"the server holds contexts of {server.max_context} tokens, teacher.max_context is "
            f"{settings.max_context}: set it to {server.max_context}, or start the server with a larger --max-model-len"
        )
    return server, place


def cut_words(model: str, revision: str | None, weights: bool, words: list[str]) -> list[list[str]]:
    """Words cut into the tokens of the teacher's tokenizer; runs where the model is."""
    from runner.student.load import load_tokenizer  # as above

    place = models.ensure(model, revision, who="teacher.model", weights=weights)
    return calibrate.tokens(load_tokenizer(place), words)


def _post(
    inbox: queue.SimpleQueue[tuple[str, Ask, Reply | Exception]], id_: str, ask: Ask, reply: Reply | Exception
) -> None:
    inbox.put((id_, ask, reply))
