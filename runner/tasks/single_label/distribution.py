"""Prompt ``direct``: the probability of every label, from the model's own log-probabilities.

The label tree is asked best first: the place where labels first part, then only those below it that have probability
left. What is not asked about is less than :data:`UNASKED` of a row's probability, and its answer says how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.tasks.single_label.label_trie import LabelTrie
from runner.teacher.engines.protocol import Reply, ScoreTokens
from runner.teacher.protocol import Ask, NotFiniteError, is_settled, record

UNASKED = 0.001
"""What reaches the branches that are not asked about is less than this: no label's probability is off by more."""

EXPECTED_BELOW, AT_LEAST_BELOW = 0.5, 2
"""The share of the requests below the first branch that a row is expected to take, and their least number. Of the 28 of
CLINC150's 150 intents a teacher of 1.5 B parameters took 12.4 a row; one that is surer of itself takes fewer."""


@dataclass(frozen=True)
class Places:
    """Which of ``total`` labels the tree has, in its order; the others get a probability of 0."""

    numbers: tuple[int, ...]
    total: int

    def spread(self, shares: Sequence[float]) -> list[float]:
        """The ``shares`` of the tree's labels among all."""
        found = [0.0] * self.total
        for number, share in zip(self.numbers, shares, strict=True):
            found[number] = share
        return found


@dataclass(frozen=True)
class LabelScorer:
    """The labels in one model's tokens (:class:`runner.teacher.protocol.Scorer`).

    ``exhaustive``: every branch is asked about, whatever reaches it.
    """

    trie: LabelTrie
    exhaustive: bool = False
    places: Places | None = None

    @property
    def reserved(self) -> int:
        """The longest label, and the token that ends it."""
        return 1 + max(len(path) for path in self.trie.paths)

    def conversation(self, prompt: list[int], earlier: Sequence[Mapping[str, Any]]) -> Distribution:
        """The questions about one row."""
        return Distribution(prompt, self.trie, earlier, self.exhaustive, self.places)


@dataclass
class Distribution:
    """The probability of every label of one row, from one question for each branch of the trie that is asked.

    With a record of it ``earlier`` there is nothing to ask, unless ``exhaustive`` is set and that one left branches
    out.
    """

    prompt: list[int]
    trie: LabelTrie
    earlier: Sequence[Mapping[str, Any]] = ()
    exhaustive: bool = False
    places: Places | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    _heard: dict[tuple[int, ...], dict[int, float]] = field(default_factory=dict)
    _reached: dict[int, float] = field(default_factory=lambda: {0: 1.0})
    """Of each branch that is known to be reached, by its number, with what probability."""
    _open: set[int] = field(default_factory=lambda: {0})
    """Those of them that are not asked about yet."""
    _waiting: dict[int, int] = field(default_factory=dict)
    """Requests under way about a branch."""
    _replies: int = 0

    def begin(self) -> list[Ask]:
        """The branch where labels first part; all branches where all are asked about."""
        if any(is_settled(answer, self.exhaustive) for answer in self.earlier):
            return []
        return self._about(list(range(len(self.trie.branches))) if self.exhaustive else [0])

    def on_reply(self, ask: Ask, reply: Reply) -> list[Ask]:
        """The branches that must be asked about, as soon as that is known; none of them could be spared later.

        :raises NotFiniteError: when the replies are no distribution.
        """
        number, branch = ask.vote, self.trie.branches[ask.vote]
        self._heard.setdefault(branch.prefix, {}).update(reply.logprobs)
        self._replies += 1
        self._waiting[number] -= 1
        more: list[Ask] = []
        if not self._waiting[number]:
            del self._waiting[number]
            if not self.exhaustive:
                self._descend(number)
                more = self._about(worth_asking({open_: self._reached[open_] for open_ in self._open}))
        if not self._waiting:
            self._finish(ask)
        return more

    def _about(self, numbers: Sequence[int]) -> list[Ask]:
        """One question for each branch; more for one that is wider than a request may be."""
        self._open -= set(numbers)
        branches = {number: self.trie.branches[number] for number in numbers}
        self._waiting |= {number: len(branch.requests) for number, branch in branches.items()}
        return [
            Ask([*self.prompt, *branch.prefix], ScoreTokens(choices), vote=number)
            for number, branch in branches.items()
            for choices in branch.requests
        ]

    def _descend(self, number: int) -> None:
        """What reaches the branches below one that was heard."""
        branch = self.trie.branches[number]
        logprobs = self._heard[branch.prefix]
        if number == 0:
            self._require_some(logprobs)
        for token, share in self.trie.shares(branch, logprobs).items():
            below = self.trie.below.get((branch.prefix, token))
            if below is not None:
                self._reached[below] = self._reached[number] * share
                self._open.add(below)

    def _finish(self, ask: Ask) -> None:
        shares = self.trie.probabilities(self._heard)
        self._require_some(self._heard[self.trie.branches[0].prefix])
        unasked = math.fsum(self._reached[number] for number in self._open)
        if self.places:
            shares = self.places.spread(shares)
        reply = Reply(tokens=self._replies)
        self.records.append(record(Ask(self.prompt, ask.request), reply, shares, unasked))

    @staticmethod
    def _require_some(logprobs: Mapping[int, float]) -> None:
        # Deeper down an even share of nothing is nothing; where labels first part it would be made up.
        if all(value == -math.inf for value in logprobs.values()):
            raise NotFiniteError("no label has any probability")


def expected_requests(trie: LabelTrie) -> float:
    """Requests that a row takes on average where nothing was measured: those of the first branch, and for the others
    an estimate.
    """
    first = len(trie.branches[0].requests)
    below = trie.requests - first
    return first + max(min(below, AT_LEAST_BELOW), EXPECTED_BELOW * below)


def worth_asking(reached: Mapping[int, float]) -> list[int]:
    """The fewest branches, most probable first, so that less than :data:`UNASKED` reaches all others together.

    Whatever is found out about other branches, these must be asked: that can only add to what is not looked at.
    """
    left_out = 0.0
    ascending = sorted(reached, key=lambda number: (reached[number], -number))
    for place, number in enumerate(ascending):
        left_out += reached[number]
        if left_out >= UNASKED:
            return ascending[place:][::-1]
    return []
