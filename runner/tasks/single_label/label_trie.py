"""A label as the teacher writes it: token paths, and the probability of each path.

Labels may share tokens ("neutral", "neutral to positive"), so that no single token tells them apart.
All labels, each closed by the end of the turn, form a trie; wherever it branches the engine can be asked
for the log-probabilities of what follows, and a label's probability is the product along its path. Labels below a
branch that was not asked share the probability that reached it evenly.
A model may end its turn with more than one token: where a label may end, their probabilities are summed.
That is the distribution of constrained decoding, computed exactly. Knows no engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

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
        """Requests that one row takes at most."""
        return sum(len(branch.requests) for branch in self.branches)

    @cached_property
    def below(self) -> dict[tuple[Path, int], int]:
        """The number of the branch that comes next behind a branch's ``prefix`` and one of its choices, if any."""
        found: dict[tuple[Path, int], int] = {}
        prefixes = {branch.prefix for branch in self.branches}
        for number, branch in enumerate(self.branches):
            above = (branch.prefix[:depth] for depth in reversed(range(len(branch.prefix))))
            nearest = next((prefix for prefix in above if prefix in prefixes), None)
            if nearest is not None:
                found[nearest, branch.prefix[len(nearest)]] = number
        return found

    @cached_property
    def labels_below(self) -> Mapping[Path, int]:
        """How many labels begin with each prefix."""
        return Counter(path[:depth] for path in self.paths for depth in range(len(path)))

    def shares(self, branch: Branch, logprobs: Mapping[int, float]) -> dict[int, float]:
        """The probability of each token behind ``branch``, summing to one; that of all ends is the first end's.

        :raises NotFiniteError: when a log-probability is NaN or infinite (-inf is a probability of 0).
        """
        found: dict[int, float] = {}
        weights = softmax([logprobs[token] for token in branch.choices])
        for token, weight in zip(branch.choices, weights, strict=True):
            token = self.ends[0] if token in self.ends else token
            found[token] = found.get(token, 0.0) + weight
        return found

    def probabilities(self, logprobs: Mapping[Path, Mapping[int, float]]) -> list[float]:
        """One probability per label, summing to one, from the log-probabilities of each branch that was asked.

        ``logprobs[prefix][token]`` need not be normalised: each branch is, over its own choices. Labels below a branch
        without log-probabilities share what reached it evenly, so that none is off by more than that.
        :raises NotFiniteError: when one is NaN or infinite (-inf is a probability of 0).
        """
        heard = {branch.prefix: branch for branch in self.branches if branch.prefix in logprobs}
        share = {prefix: self.shares(branch, logprobs[prefix]) for prefix, branch in heard.items()}
        skipped = {branch.prefix for branch in self.branches if branch.prefix not in logprobs}

        def probability(path: Path) -> float:
            product = 1.0
            for depth, token in enumerate(path):
                prefix = path[:depth]
                if prefix in skipped:
                    return product / self.labels_below[prefix]
                product *= share[prefix][token] if prefix in share else 1.0
            return product

        return [probability(path) for path in self.paths]


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
