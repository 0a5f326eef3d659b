"""A label as the teacher writes it: token paths, and the probability of each path.

Labels may share tokens ("neutral", "neutral to positive"), so that no single token tells them apart.
All labels, each closed by the end of the turn, form a trie; wherever it branches the engine is asked
for the log-probabilities of the branches, and a label's probability is the product along its path.
A model may end its turn with more than one token: where a label may end, their probabilities are summed.
That is the distribution of constrained decoding, computed exactly. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.teacher.protocol import NotFiniteError

Path = tuple[int, ...]

MOST_CHOICES = 128
"""Tokens that one request may ask about: vLLM refuses more (its ``MAX_LOGPROB_TOKEN_IDS``)."""

_NO_END = -1
"""Closes the paths where the model has no token that ends a turn; never asked about."""


@dataclass(frozen=True)
class Branch:
    """A place where labels part: the tokens that lead there, and the tokens that may follow."""

    prefix: Path
    choices: tuple[int, ...]

    @property
    def requests(self) -> list[tuple[int, ...]]:
        """The choices in as many parts as there must be requests. Log-probabilities of one prompt go together."""
        return [self.choices[start : start + MOST_CHOICES] for start in range(0, len(self.choices), MOST_CHOICES)]


@dataclass(frozen=True)
class LabelTrie:
    """The token paths of all labels, each closed by the first of ``ends``, and the branches that tell them apart."""

    paths: tuple[Path, ...]
    branches: tuple[Branch, ...]
    ends: tuple[int, ...]

    @classmethod
    def build(cls, token_ids: Sequence[Sequence[int]], *ends: int) -> LabelTrie:
        """``ends``: all tokens with which the model may end its turn.

        :raises ValueError: when two labels have the same tokens, a label has none, or one begins another and
            the model has no token that ends a turn.
        """
        inside = {token for ids in token_ids for token in ids}
        ends = tuple(end for end in dict.fromkeys(ends) if end not in inside) or (_NO_END,)
        paths = tuple((*ids, ends[0]) for ids in token_ids)
        if len(set(paths)) < len(paths) or any(len(path) < 2 for path in paths):
            raise ValueError("every label needs tokens of its own")
        following: dict[Path, set[int]] = {}
        for path in paths:
            for depth, token in enumerate(path):
                following.setdefault(path[:depth], set()).add(token)
        parting = {prefix: next_ for prefix, next_ in following.items() if len(next_) > 1}
        if any(_NO_END in next_ for next_ in parting.values()):
            raise ValueError("one label begins another, and the model has no token that ends a turn")
        branches = (
            Branch(prefix, tuple(sorted(next_.union(ends) if ends[0] in next_ else next_)))
            for prefix, next_ in parting.items()
        )
        return cls(paths, tuple(sorted(branches, key=lambda branch: (len(branch.prefix), branch.prefix))), ends)

    @property
    def requests(self) -> int:
        """Requests that one row takes."""
        return sum(len(branch.requests) for branch in self.branches)

    def probabilities(self, logprobs: Mapping[Path, Mapping[int, float]]) -> list[float]:
        """One probability per label, summing to one, from each branch's log-probabilities.

        ``logprobs[prefix][token]`` need not be normalised: each branch is, over its own choices.
        :raises NotFiniteError: when one is NaN or infinite (-inf is a probability of 0).
        """
        share: dict[tuple[Path, int], float] = {}
        for branch in self.branches:
            weights = softmax([logprobs[branch.prefix][token] for token in branch.choices])
            for token, weight in zip(branch.choices, weights, strict=True):
                place = (branch.prefix, self.ends[0] if token in self.ends else token)
                share[place] = share.get(place, 0.0) + weight
        return [
            math.prod(share.get((path[:depth], token), 1.0) for depth, token in enumerate(path)) for path in self.paths
        ]


def softmax(values: Sequence[float]) -> list[float]:
    """Probabilities proportional to ``exp(values)``; -inf counts as nothing, all -inf as even.

    :raises NotFiniteError: when a value is NaN or +inf.
    """
    if any(math.isnan(value) or value == math.inf for value in values):
        raise NotFiniteError("a log-probability is NaN or infinite")
    top = max(values)
    if math.isinf(top):
        return [1.0 / len(values)] * len(values)
    weights = [math.exp(value - top) for value in values]
    total = sum(weights)
    return [weight / total for weight in weights]
