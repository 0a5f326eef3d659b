"""A label as the teacher writes it: token paths, and the probability of each path.

Labels may share tokens ("neutral", "neutral to positive"), so that no single token tells them apart.
All labels, each closed by the end-of-turn token, form a trie; wherever it branches the engine is asked
for the log-probabilities of the branches, and a label's probability is the product along its path.
That is the distribution of constrained decoding, computed exactly. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Path = tuple[int, ...]


@dataclass(frozen=True)
class Branch:
    """A place where labels part: the tokens that lead there, and the tokens that may follow."""

    prefix: Path
    choices: tuple[int, ...]


@dataclass(frozen=True)
class LabelTrie:
    """The token paths of all labels (each closed by ``end``) and the branches that tell them apart."""

    paths: tuple[Path, ...]
    branches: tuple[Branch, ...]

    @classmethod
    def build(cls, token_ids: Sequence[Sequence[int]], end: int) -> LabelTrie:
        """:raises ValueError: when two labels have the same tokens, or a label has none."""
        paths = tuple((*ids, end) for ids in token_ids)
        if len(set(paths)) < len(paths) or any(len(path) < 2 for path in paths):
            raise ValueError("every label needs tokens of its own")
        following: dict[Path, set[int]] = {}
        for path in paths:
            for depth, token in enumerate(path):
                following.setdefault(path[:depth], set()).add(token)
        branches = (Branch(prefix, tuple(sorted(next_))) for prefix, next_ in following.items() if len(next_) > 1)
        return cls(paths, tuple(sorted(branches, key=lambda branch: (len(branch.prefix), branch.prefix))))

    def probabilities(self, logprobs: Mapping[Path, Mapping[int, float]]) -> list[float]:
        """One probability per label, summing to one, from each branch's log-probabilities.

        ``logprobs[prefix][token]`` need not be normalised: each branch is, over its own choices.
        """
        share: dict[tuple[Path, int], float] = {}
        for branch in self.branches:
            weights = softmax([logprobs[branch.prefix][token] for token in branch.choices])
            share.update({(branch.prefix, token): w for token, w in zip(branch.choices, weights, strict=True)})
        return [
            math.prod(share.get((path[:depth], token), 1.0) for depth, token in enumerate(path)) for path in self.paths
        ]


def softmax(values: Sequence[float]) -> list[float]:
    """Probabilities proportional to ``exp(values)``; -inf counts as nothing, all -inf as even."""
    top = max(values)
    if math.isinf(top):
        return [1.0 / len(values)] * len(values)
    weights = [math.exp(value - top) for value in values]
    total = sum(weights)
    return [weight / total for weight in weights]
