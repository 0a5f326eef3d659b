"""How long a review took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from runner.review.agreement import pace
from runner.review.decisions import Decision


def seconds(decisions: Sequence[Decision]) -> float | None:
    """The time that all decisions took, long pauses cut (:func:`runner.review.agreement.pace`); None: not measured."""
    measured = [found.total for each in by_reviewer(decisions).values() if (found := pace(d.seconds for d in each))]
    return sum(measured) if measured else None


def by_reviewer(decisions: Sequence[Decision]) -> dict[str, list[Decision]]:
    """The decisions of each reviewer, by name; undone ones took time as well."""
    found: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.action != "undo":
            found[decision.reviewer].append(decision)
    return dict(sorted(found.items()))
