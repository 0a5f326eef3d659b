"""The two lists that people work through: the blind sample, which measures, and the queue, which mends.

A row is in one of them only. The sample has neither the teacher's value nor its doubt: who sees them is anchored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.review.decisions import ListName


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row of a list. In the sample all that the teacher said is None.

    ``value`` is the teacher's, None where it abstained; ``probabilities`` are by value, where it gave some; ``reason``
    is its own words, or why it abstained; ``doubt`` is the estimated probability that the value is wrong.
    """

    list: ListName
    id: str
    text: str
    value: Any = None
    probabilities: Mapping[str, float] | None = None
    reason: str | None = None
    doubt: float | None = None


@dataclass(frozen=True)
class Lists:
    """Both lists of a run, each in the order in which its rows are asked, decided ones included.

    ``teacher`` has the teacher's value of every row of both by id, None where it abstained: not for those who look.
    """

    sample: Sequence[Item]
    queue: Sequence[Item]
    teacher: Mapping[str, Any]
