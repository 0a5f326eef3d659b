"""Self-consistency (Wang et al. 2023, arXiv:2203.11171) with several labels: a majority of the votes for each label.

Votes are drawn only as long as they can change the outcome, which is that of drawing all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

SMOOTHING = 0.08
"""Imagined votes by which a label's share of a row's votes is drawn to its share in all rows (a beta prior). With one
vote a label that is given has about 0.93, and one that is not a thirteenth of how often it is given at all. As many as
two labels have where a text has one label (:mod:`runner.tasks.single_label.votes`)."""


def still_needed(votes: Sequence[Sequence[str] | None], total: int) -> int:
    """How many further votes must be drawn at least before the outcome of all ``total`` can be known.

    ``votes`` are the labels so far, None for an answer that says none. 0 means that the outcome stands: whatever the
    rest say, no label gains a majority of the usable votes or loses it. Without a usable vote nothing stands.
    """
    remaining = total - len(votes)
    usable = [vote for vote in votes if vote is not None]
    return max(_needed(2 * count - len(usable), remaining) for count in _counts(usable))


def next_votes(votes: Sequence[Sequence[str] | None], total: int, early_stop: bool) -> int:
    """How many votes are drawn next, at once: with ``early_stop`` those of :func:`still_needed`, else all that lack."""
    return still_needed(votes, total) if early_stop else total - len(votes)


def majority(votes: Sequence[Sequence[str] | None], labels: Sequence[str]) -> list[str] | None:
    """The labels that more than half of the usable votes have; None where no vote is usable."""
    usable = [vote for vote in votes if vote is not None]
    if not usable:
        return None
    counts = Counter(label for vote in usable for label in vote)
    return [label for label in labels if 2 * counts[label] > len(usable)]


def agreement(votes: Sequence[Sequence[str] | None], value: Sequence[str]) -> float:
    """How far the usable votes agree with ``value``: the mean of Jaccard's index, from 0 to 1.

    The mean over labels of how many votes say the same would be near 1 whatever they say, where most labels apply to
    few texts. Two empty lists agree wholly.
    """
    usable = [set(vote) for vote in votes if vote is not None]
    wanted = set(value)
    each = [len(vote & wanted) / len(vote | wanted) if vote | wanted else 1.0 for vote in usable]
    return sum(each) / len(each) if each else 0.0


def _counts(usable: Sequence[Sequence[str]]) -> list[int]:
    """How many votes have each label that one has; and 0, for a label that none has."""
    return [0, *Counter(label for vote in usable for label in vote).values()]


def _needed(lead: int, remaining: int) -> int:
    """Votes until one label stands whose yes is ``lead`` ahead of its no (a tie is a no)."""
    if lead > remaining or -lead >= remaining:
        return 0
    # With n more votes all for the side ahead, lead + n must exceed the remaining - n, or reach it for a no.
    return (remaining - lead) // 2 + 1 if lead > 0 else (remaining + lead + 1) // 2
