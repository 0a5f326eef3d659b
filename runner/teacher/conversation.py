"""Prompt ``cot``: sampled answers about one row, as many as can still change the outcome.

The conversation says what to ask first, and what to ask next when a reply is heard. It keeps a record of every
raw reply, which is what is stored: reading, counting and calibrating come later and can be done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.rundir.folder import fingerprint
from runner.teacher.engines.protocol import Reply, Sample, Sampling
from runner.teacher.protocol import AnswerFormat, Ask, record
from runner.teacher.renderer import Renderer


@dataclass(frozen=True)
class Ballot:
    """How votes are drawn, for all rows alike."""

    renderer: Renderer
    votes: int
    early_stop: bool
    sampling: Sampling
    seed: int
    max_context: int


@dataclass
class Votes:
    """Prompt ``cot``: sampled answers, as many as can still change the majority.

    ``earlier`` are records of former runs. Each vote's seed comes from the row and the vote's number, so that
    a run that goes on draws what it would have drawn.
    """

    row_id: str
    text_ids: list[int]
    ballot: Ballot
    earlier: Sequence[Mapping[str, Any]] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    _waiting: int = 0

    def begin(self) -> list[Ask]:
        """The votes that are needed at the least."""
        return self._next()

    def on_reply(self, ask: Ask, reply: Reply) -> list[Ask]:
        """An unusable answer is asked about once more; when all are in, the next votes, if they matter."""
        self.records.append(record(ask, reply))
        self._waiting -= 1
        if ask.attempt == 0 and self.ballot.renderer.task.answers.read(reply.text) is None:
            self._waiting += 1
            return [self._again(ask.vote, reply.text)]
        return [] if self._waiting else self._next()

    def _next(self) -> list[Ask]:
        so_far, ballot = [*self.earlier, *self.records], self.ballot
        asks = [
            self._first(vote) if answer is None else self._again(vote, answer)
            for vote, answer in missing(so_far, ballot.renderer.task.answers, ballot.votes, ballot.early_stop)
        ]
        self._waiting = len(asks)
        return asks

    def _first(self, vote: int) -> Ask:
        prompt = self.ballot.renderer.prompt(self.text_ids)
        return Ask(prompt, Sample(self.ballot.sampling, self._seed(vote, 0)), vote)

    def _again(self, vote: int, answer: str) -> Ask:
        tokens = self.ballot.renderer.task.answers.second_answer_tokens
        most = self.ballot.max_context - tokens
        prompt = self.ballot.renderer.prompt_again(self.text_ids, answer, most)
        final = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=tokens)
        return Ask(prompt, Sample(final, self._seed(vote, 1)), vote, attempt=1)

    def _seed(self, vote: int, attempt: int) -> int:
        return int(fingerprint([self.row_id, vote, attempt, self.ballot.seed])[:8], 16)


@dataclass(frozen=True)
class Reading:
    """One vote as it was read: its value (None: unusable), its raw answer, and whether it was asked again."""

    value: Any
    answer: str
    asked_again: bool

    @property
    def settled(self) -> bool:
        """Whether nothing more is asked about this vote."""
        return self.value is not None or self.asked_again


def readings(records: Iterable[Mapping[str, Any]], answers: AnswerFormat) -> dict[int, Reading]:
    """The votes among ``records``, by number."""
    texts: dict[int, dict[int, str]] = {}
    for one in records:
        texts.setdefault(one["vote"], {})[one["attempt"]] = one["text"] or ""
    found = {}
    for vote, attempts in texts.items():
        values = (answers.read(attempts[attempt]) for attempt in sorted(attempts))
        value = next((value for value in values if value is not None), None)
        found[vote] = Reading(value, attempts.get(0, ""), 1 in attempts)
    return found


def counted(records: Iterable[Mapping[str, Any]], answers: AnswerFormat, total: int, early_stop: bool) -> list[Any]:
    """The votes that count, in order: as many of ``total`` as were needed, even where more are stored."""
    found = readings(records, answers)
    votes: list[Any] = []
    while need := answers.next_votes(votes, total, early_stop):
        got = [found[vote].value for vote in range(len(votes), len(votes) + need) if vote in found]
        votes += got
        if len(got) < need:
            break
    return votes


def missing(
    records: Iterable[Mapping[str, Any]], answers: AnswerFormat, total: int, early_stop: bool
) -> list[tuple[int, str | None]]:
    """The votes to ask for now: the number of each and, where it is asked again, its unusable answer."""
    found = readings(records, answers)
    votes: list[Any] = []
    while need := answers.next_votes(votes, total, early_stop):
        wanted = range(len(votes), len(votes) + need)
        open_ = [(vote, found[vote].answer if vote in found else None) for vote in wanted if not _settled(found, vote)]
        if open_:
            return open_
        votes += [found[vote].value for vote in wanted]
    return []


def _settled(found: Mapping[int, Reading], vote: int) -> bool:
    return vote in found and found[vote].settled
