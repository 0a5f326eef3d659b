"""Prompt ``direct``: the probability of every label, from the model's own log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.tasks.single_label.label_trie import LabelTrie
from runner.teacher.engines.protocol import Reply, ScoreTokens
from runner.teacher.protocol import Ask, NotFiniteError, record


@dataclass(frozen=True)
class LabelScorer:
    """The labels in one model's tokens (:class:`runner.teacher.protocol.Scorer`)."""

    trie: LabelTrie

    @property
    def reserved(self) -> int:
        """The longest label, and the token that ends it."""
        return 1 + max(len(path) for path in self.trie.paths)

    def conversation(self, prompt: list[int], earlier: Sequence[Mapping[str, Any]]) -> Distribution:
        """The questions about one row."""
        return Distribution(prompt, self.trie, earlier)


@dataclass
class Distribution:
    """The probability of every label of one row, from one question for each place where labels part.

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
