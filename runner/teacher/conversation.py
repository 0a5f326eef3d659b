"""What is asked about one row until its answer stands: a small conversation with the engine.

A conversation says what to ask first, and what to ask next when a reply is heard. It keeps a record of every
raw reply, which is what is stored: reading, counting and calibrating come later and can be done again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from runner.engines.protocol import Reply, Request, Sample, Sampling, ScoreTokens
from runner.rundir.folder import fingerprint
from runner.tasks.single_label.answers import read_label
from runner.tasks.single_label.label_trie import LabelTrie, NotFiniteError
from runner.tasks.single_label.votes import next_votes
from runner.teacher.renderer import Renderer

REASK_TOKENS = 32
"""The second question asks for a label and nothing else."""


@dataclass(frozen=True)
class Ask:
    """One request. ``vote`` and ``attempt`` say which answer it is (attempt 1 asks again after an unusable one)."""

    prompt: Sequence[int]
    request: Request
    vote: int = 0
    attempt: int = 0


class Conversation(Protocol):
    """All that is asked about one row. ``records``: its raw replies, as they are stored."""

    records: list[dict[str, Any]]

    def begin(self) -> list[Ask]:
        """The first questions."""

    def on_reply(self, ask: Ask, reply: Reply) -> list[Ask]:
        """Take a reply in; the next questions, if any. Nothing under way and nothing next: the row is done.

        :raises NotFiniteError: when the model computes no numbers any more: the row has no answer.
        """


def record(ask: Ask, reply: Reply, probabilities: list[float] | None = None) -> dict[str, Any]:
    """A reply as it is stored, but for the row's id."""
    return {
        "vote": ask.vote,
        "attempt": ask.attempt,
        "text": reply.text if isinstance(ask.request, Sample) else None,
        "label_probabilities": probabilities,
        "prompt_tokens": len(ask.prompt),
        "output_tokens": reply.tokens,
    }


@dataclass
class Distribution:
    """Prompt ``direct``: the probability of every label, from one question for each place where labels part.

    With a record of it ``earlier`` there is nothing to ask.
    """

    prompt: list[int]
    trie: LabelTrie
    earlier: Sequence[Mapping[str, Any]] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    _heard: dict[tuple[int, ...], dict[int, float]] = field(default_factory=dict)
    _replies: int = 0

    def begin(self) -> list[Ask]:
        """One question for each branch of the trie; more for one that is wider than a request may be."""
        if self.earlier:
            return []
        return [
            Ask([*self.prompt, *branch.prefix], ScoreTokens(choices), vote=number)
            for number, branch in enumerate(self.trie.branches)
            for choices in branch.requests
        ]

    def on_reply(self, ask: Ask, reply: Reply) -> list[Ask]:
        """Done when every branch is heard. :raises NotFiniteError: when that is no distribution."""
        self._heard.setdefault(self.trie.branches[ask.vote].prefix, {}).update(reply.logprobs)
        self._replies += 1
        if self._replies == self.trie.requests:
            found = self.trie.probabilities(self._heard)
            # Deeper down an even share of nothing is nothing; where labels first part it would be made up.
            if all(value == -math.inf for value in self._heard[self.trie.branches[0].prefix].values()):
                raise NotFiniteError("no label has any probability")
            self.records.append(record(Ask(self.prompt, ask.request), Reply(tokens=self._replies), found))
        return []


@dataclass(frozen=True)
class Ballot:
    """How votes are drawn, for all rows alike."""

    renderer: Renderer
    labels: Sequence[str]
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
        if ask.attempt == 0 and read_label(reply.text, self.ballot.labels) is None:
            self._waiting += 1
            return [self._again(ask.vote, reply.text)]
        return [] if self._waiting else self._next()

    def _next(self) -> list[Ask]:
        so_far, ballot = [*self.earlier, *self.records], self.ballot
        asks = [
            self._first(vote) if answer is None else self._again(vote, answer)
            for vote, answer in missing(so_far, ballot.labels, ballot.votes, ballot.early_stop)
        ]
        self._waiting = len(asks)
        return asks

    def _first(self, vote: int) -> Ask:
        prompt = self.ballot.renderer.prompt(self.text_ids)
        return Ask(prompt, Sample(self.ballot.sampling, self._seed(vote, 0)), vote)

    def _again(self, vote: int, answer: str) -> Ask:
        most = self.ballot.max_context - REASK_TOKENS
        prompt = self.ballot.renderer.prompt_again(self.text_ids, answer, most)
        final = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=REASK_TOKENS)
        return Ask(prompt, Sample(final, self._seed(vote, 1)), vote, attempt=1)

    def _seed(self, vote: int, attempt: int) -> int:
        return int(fingerprint([self.row_id, vote, attempt, self.ballot.seed])[:8], 16)


@dataclass(frozen=True)
class Reading:
    """One vote as it was read: its label (None: unusable), its raw answer, and whether it was asked again."""

    label: str | None
    answer: str
    asked_again: bool

    @property
    def settled(self) -> bool:
        """Whether nothing more is asked about this vote."""
        return self.label is not None or self.asked_again


def readings(records: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> dict[int, Reading]:
    """The votes among ``records``, by number."""
    texts: dict[int, dict[int, str]] = {}
    for one in records:
        texts.setdefault(one["vote"], {})[one["attempt"]] = one["text"] or ""
    found = {}
    for vote, attempts in texts.items():
        read = (read_label(attempts[attempt], labels) for attempt in sorted(attempts))
        label = next((one for one in read if one is not None), None)
        found[vote] = Reading(label, attempts.get(0, ""), 1 in attempts)
    return found


def counted(
    records: Iterable[Mapping[str, Any]], labels: Sequence[str], total: int, early_stop: bool
) -> list[str | None]:
    """The votes that count, in order: as many of ``total`` as were needed, even where more are stored."""
    found = readings(records, labels)
    votes: list[str | None] = []
    while need := next_votes(votes, total, early_stop):
        got = [found[vote].label for vote in range(len(votes), len(votes) + need) if vote in found]
        votes += got
        if len(got) < need:
            break
    return votes


def missing(
    records: Iterable[Mapping[str, Any]], labels: Sequence[str], total: int, early_stop: bool
) -> list[tuple[int, str | None]]:
    """The votes to ask for now: the number of each and, where it is asked again, its unusable answer."""
    found = readings(records, labels)
    votes: list[str | None] = []
    while need := next_votes(votes, total, early_stop):
        wanted = range(len(votes), len(votes) + need)
        open_ = [(vote, found[vote].answer if vote in found else None) for vote in wanted if not _settled(found, vote)]
        if open_:
            return open_
        votes += [found[vote].label for vote in wanted]
    return []


def _settled(found: Mapping[int, Reading], vote: int) -> bool:
    return vote in found and found[vote].settled
