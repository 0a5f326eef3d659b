"""The actor that labels: holds an engine, takes batches of texts, stores the raw answers as they come.

An answer file is the answers and their own checkpoint in one atomic write: what is in ``answers/`` is never
asked again. Several batches are in the engine at once, so that it never waits for the last row of one. Knows no
Ray: the cluster calls it, from several threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from runner.models import folder
from runner.rundir.folder import Folder
from runner.system.errors import EngineError, TutelageError, first_line
from runner.teacher.batch import Batch, Clock
from runner.teacher.cache_warnings import cache_warnings
from runner.teacher.conversation import Ballot, Votes
from runner.teacher.converse import NOT_FINITE, converse
from runner.teacher.engines.endpoint import Endpoint
from runner.teacher.engines.noop import NoopEngine
from runner.teacher.engines.protocol import Sampling
from runner.teacher.engines.vllm_arguments import EngineSettings, block_tokens
from runner.teacher.examples import CHOSEN
from runner.teacher.live import Finished, Start, Tell, silent
from runner.teacher.open_engine import open_engine
from runner.teacher.prompt import Example, Task
from runner.teacher.protocol import Conversation, Scorer
from runner.teacher.renderer import CONTROL_LEFT, Renderer, end_tokens
from runner.teacher.shortlist import NUMBERS, advice, typical

EARLIER = pa.list_(
    pa.struct([("vote", pa.int32()), ("attempt", pa.int32()), ("text", pa.large_string()), ("unasked", pa.float64())])
)
QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("text", pa.large_string()),
        ("earlier", EARLIER),
        ("examples", CHOSEN.field("examples").type),
        ("shortlist", NUMBERS),
    ]
)
"""What a batch holds: ``earlier`` are the votes on the row that are stored already, ``examples`` the numbers of those
in the pool that the teacher is shown for it, null where all rows have the same, and ``shortlist`` those of the choices,
null where all are shown."""

RESULTS = pa.schema(
    [("id", pa.string()), ("error", pa.string()), ("prompt_tokens", pa.int64()), ("output_tokens", pa.int64())]
)
"""A line for each row of a batch: why it failed, if it did, and the tokens of all that was asked about it for this
batch."""
OVER_BUDGET = "not asked: teacher.budget is used up"

RENDERERS = 10_000
"""Sets of examples and choices whose prompt is kept ready."""

_Shown = tuple[tuple[int, ...], tuple[int, ...]]
"""The numbers of the examples and of the choices that a row is shown, besides those of all rows."""
_Prompt = tuple[Renderer, Scorer | None]

CHARACTERS_PER_TOKEN = 40
"""No tokenizer packs more characters into a token over a whole text: longer ones need no tokenising to be refused."""


@dataclass(frozen=True)
class Asking:
    """How rows are asked about: the votes and their sampling matter with prompt ``cot`` only, and ``exhaustive`` with
    ``direct``.

    Rows that name examples of their own are shown those of the ``pool``, besides the task's; with a ``shortlist`` each
    is shown so many of the choices.
    """

    task: Task
    votes: int
    early_stop: bool
    sampling: Sampling
    seed: int
    truncate: bool = False
    pool: tuple[Example, ...] = ()
    exhaustive: bool = False
    shortlist: int | None = None


class Labeller:
    """Labels batches of :data:`QUESTIONS`; returns each ``id`` and, where it failed, why.

    Once the file ``over`` is among the answers what is in the engine is finished, and no further batch begun; but an
    engine that took so long to start asks once, so that a job with a small budget gets on at all.
    """

    TURNS = ("asking", "answers", "over")
    """Of its arguments, those that :meth:`turn_to` takes anew."""

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
        self._renderers: dict[_Shown, _Prompt] = {}
        self._failed: TutelageError | None = None
        self._prepared: Asking | None = None
        try:
            self._engine, self._folder = open_engine(engine, (model, revision), asking.task, settings, endpoint, start)
            self._prepare()
            start.begin("warm-up")
            self._warm_up()
            self._prepared = asking
            start.end()
            for warning in cache_warnings(self._engine, self._renderer, settings, own_examples=bool(asking.pool)):
                tell({"warning": warning})
        except TutelageError as error:
            # Raised from the constructor it would count as a dead actor and be tried again.
            self._failed = error
        except Exception as error:
            why = first_line(error)
            self._failed = EngineError("teacher.start-failed", f"the teacher's engine could not start: {why}")

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

        errors |= converse(self._engine, talks, finished)
        questions.close(talks)
        self._clock.end()
        results = [{"id": row["id"], "error": errors.get(row["id"]), **questions.tokens(row["id"])} for row in rows]
        return pa.Table.from_pylist(results, schema=RESULTS)

    def turn_to(self, asking: Asking, answers: str, over: str | None) -> None:
        """Go on in another way, or with another store, while the engine stays as it is.

        :raises EngineError: when it cannot be asked so, or never started.
        """
        if self._failed:
            raise self._failed
        self._answers, self._over, self._begun = Folder(answers), over, False
        if asking == self._prepared:
            return
        self._asking, self._renderers, self._prepared = asking, {}, None
        if isinstance(self._engine, NoopEngine):
            self._engine = self._engine.answering(asking.task.answers.made_up)
        self._prepare()
        self._warm_up()
        self._prepared = asking

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def _conversation(self, row: Mapping[str, Any], text_ids: list[int]) -> Conversation:
        renderer, scorer = self._prompt_for(row)
        if scorer is not None:
            return scorer.conversation(renderer.prompt(text_ids), row["earlier"])
        return Votes(row["id"], text_ids, self._ballot(renderer), row["earlier"])

    def _renderer_for(self, row: Mapping[str, Any]) -> Renderer:
        return self._prompt_for(row)[0]

    def _prompt_for(self, row: Mapping[str, Any]) -> _Prompt:
        """The prompt with what the row is shown of examples and choices and, with ``direct``, the choices' tokens."""
        shown = tuple(row["examples"] or ()), tuple(row["shortlist"] or ())
        if not any(shown):
            return self._renderer, self._scorer
        prompt = self._renderers.get(shown)
        if prompt is None:
            (examples, shortlist), asking = shown, self._asking
            answers = asking.task.answers.narrowed(shortlist) if shortlist else asking.task.answers
            all_examples = (*asking.task.examples, *(asking.pool[number] for number in examples))
            renderer = Renderer(self._engine.tokenizer, replace(asking.task, answers=answers, examples=all_examples))
            scorer = self._open_scorer(renderer) if shortlist and self._scorer else self._scorer
            prompt = renderer, scorer
            if len(self._renderers) >= RENDERERS:
                self._renderers.clear()
            self._renderers[shown] = prompt
        return prompt

    def _ballot(self, renderer: Renderer) -> Ballot:
        asking = self._asking
        how = (asking.votes, asking.early_stop, asking.sampling, asking.seed)
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
        if self._scorer is not None:
            return self._scorer.reserved
        again = renderer.again_tokens + renderer.task.answers.second_answer_tokens
        return max(self._asking.sampling.max_tokens, again)

    def _prepare(self) -> None:
        """What all rows are asked with. :raises EngineError: when the prompt does not do."""
        # The part that all rows share is lengthened to whole blocks of the cache; with examples of each row's own it is
        # short, and ends somewhere else.
        asking, settings = self._asking, self._settings
        task = replace(asking.task, answers=typical(asking.task.answers, asking.shortlist))
        block = self._engine.block_tokens or block_tokens(settings)
        self._renderer = Renderer(self._engine.tokenizer, task, 1 if asking.pool or asking.shortlist else block)
        self._scorer = self._open_scorer(self._renderer) if task.kind == "direct" else None
        if self._room(self._renderer) <= 0:
            raise EngineError(
                "teacher.prompt-too-long",
                f"the prompt takes {self._renderer.fixed_tokens} tokens and the answer up to "
                f"{self._reserved(self._renderer)}, so that no text fits into teacher.max_context "
                f"({settings.max_context}): raise it, or shorten task.instructions and task.examples"
                f"{advice(task.answers)}",
            )

    def _warm_up(self) -> None:
        """The first request fills the cache with the part that all prompts share; its answer is not kept."""
        row: dict[str, Any] = {"id": "warm-up", "kind": "", "earlier": (), "examples": (), "shortlist": ()}
        talk = self._conversation(row, self._renderer.text_ids("warm-up"))
        failed = converse(self._engine, {"warm-up": talk})
        # A model may fail at one text only: that it fails at all of them will be seen soon enough.
        if failed and failed["warm-up"] != NOT_FINITE:
            raise EngineError("teacher.cannot-answer", f"the teacher's engine could not answer: {failed['warm-up']}")
        self._clock = Clock()

    def _open_scorer(self, renderer: Renderer) -> Scorer:
        named = folder.end_tokens(self._folder) if self._folder else []
        ends = end_tokens(self._engine.tokenizer, named)
        try:
            return renderer.task.answers.scorer(renderer.answer_ids, ends, self._asking.exhaustive)
        except ValueError as error:
            raise EngineError("teacher.labels-indistinct", str(error)) from error
