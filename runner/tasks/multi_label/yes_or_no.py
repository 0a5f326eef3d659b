"""Prompt ``direct``: the probability of each label, from one yes-or-no question a label behind the text.

The teacher's turn is begun for it with a label and a colon (``merger:``), and the engine is asked with which
probability it would go on with yes or with no. All that stands before that label is the same for all of them, so that
an engine with a cache computes instructions, labels and text once: a row takes as many requests of one token each as
there are labels. What the model would rather have written than yes or no does not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.teacher.engines.protocol import Reply, ScoreTokens
from runner.teacher.protocol import Ask, Encode, NotFiniteError, record

YES = ("yes", "Yes", "YES")
NO = ("no", "No", "NO")


def line(label: str, word: str) -> str:
    """How an answer says yes or no of a label."""
    return f"{label}: {word}"


@dataclass(frozen=True)
class YesOrNo:
    """The question about one label: the tokens that begin the answer, and those that go on with yes and with no."""

    prefix: tuple[int, ...]
    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, label: str, encode: Encode) -> YesOrNo:
        """:raises ValueError: when the model's tokens do not tell a yes from a no behind the label."""
        ids = encode([line(label, word) for word in (*YES, *NO)])
        yes, no = ids[: len(YES)], ids[len(YES) :]
        size = _shared(yes[0], no[0])
        if size == min(len(yes[0]), len(no[0])):
            raise ValueError(f"{line(label, YES[0])!r} and {line(label, NO[0])!r} do not part")
        prefix = yes[0][:size]
        said, denied = ({one[size] for one in many if one[:size] == prefix and len(one) > size} for many in (yes, no))
        both = said & denied  # of another spelling: what begins both says neither
        return cls(tuple(prefix), tuple(sorted(said - both)), tuple(sorted(denied - both)))

    def probability(self, logprobs: Mapping[int, float]) -> float | None:
        """That of yes among yes and no; None where neither has any. :raises NotFiniteError: for NaN or infinity."""
        if any(math.isnan(logprobs[token]) or logprobs[token] == math.inf for token in (*self.yes, *self.no)):
            raise NotFiniteError("a log-probability is NaN or infinite")
        top = max(logprobs[token] for token in (*self.yes, *self.no))
        if top == -math.inf:
            return None
        yes, no = (math.fsum(math.exp(logprobs[token] - top) for token in many) for many in (self.yes, self.no))
        return yes / (yes + no)


@dataclass(frozen=True)
class YesOrNoScorer:
    """The questions in one model's tokens (:class:`runner.teacher.protocol.Scorer`)."""

    questions: tuple[YesOrNo, ...]

    @property
    def reserved(self) -> int:
        """The longest label with its colon, and the word."""
        return 1 + max(len(question.prefix) for question in self.questions)

    def conversation(self, prompt: list[int], earlier: Sequence[Mapping[str, Any]]) -> AllLabels:
        """The questions about one row."""
        return AllLabels(prompt, self.questions, earlier)


@dataclass
class AllLabels:
    """The probability of every label of one row, from one request for each. With a record of it ``earlier`` there is
    nothing to ask."""

    prompt: list[int]
    questions: Sequence[YesOrNo]
    earlier: Sequence[Mapping[str, Any]] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    _heard: dict[int, float] = field(default_factory=dict)

    def begin(self) -> list[Ask]:
        """One question for each label."""
        if self.earlier:
            return []
        return [
            Ask([*self.prompt, *question.prefix], ScoreTokens((*question.yes, *question.no)), vote=number)
            for number, question in enumerate(self.questions)
        ]

    def on_reply(self, ask: Ask, reply: Reply) -> list[Ask]:
        """Done when every label is heard. :raises NotFiniteError: when one has neither a yes nor a no."""
        found = self.questions[ask.vote].probability(reply.logprobs)
        if found is None:
            raise NotFiniteError("neither yes nor no has any probability")
        self._heard[ask.vote] = found
        if len(self._heard) == len(self.questions):
            shares = [self._heard[number] for number in range(len(self.questions))]
            answered = Reply(tokens=len(self.questions))
            self.records.append(record(Ask(self.prompt, ask.request), answered, shares))
        return []


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two answers begin with that are the same."""
    size = 0
    while size < min(len(one), len(other)) and one[size] == other[size]:
        size += 1
    return size
