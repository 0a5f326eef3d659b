"""How far several reviewers agree: Krippendorff's alpha, Cohen's kappa by pair, conflicts, majority, and their pace.

A *row* is any hashable name of a row. Values are JSON-able and compared whole: two values are the same or not, as
befits labels (nominal data). A reviewer without a value for a row (not asked, skipped, or "unclear") is missing there.
Knows no files and no lists.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

Said = Mapping[Hashable, Mapping[str, Any]]
"""Of each row, what each reviewer said of it."""

PAUSE_TIMES, PAUSE_SECONDS = 10.0, 60.0
"""A time is a pause where it is longer than both: so many medians of its reviewer, and so many seconds."""


@dataclass(frozen=True)
class Pair:
    """Two reviewers on the ``rows`` that both have: on how many they gave the ``same`` value, and Cohen's kappa."""

    one: str
    other: str
    rows: int
    same: int
    kappa: float | None


@dataclass(frozen=True)
class Conflict:
    """A row on which reviewers differ; ``majority`` is the value of more than half of them, or None: open."""

    row: Hashable
    said: dict[str, Any]
    majority: Any | None


@dataclass(frozen=True)
class Agreement:
    """``rows`` that two or more reviewers have a value for, and how far these agree."""

    reviewers: tuple[str, ...]
    rows: int
    alpha: float | None
    pairs: tuple[Pair, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True)
class Pace:
    """How long one reviewer takes for a decision.

    ``median`` and ``mean`` are in seconds; the ``mean`` counts each of the ``pauses`` as a median. ``total`` is the
    time that all ``timed`` decisions took in that way, in seconds.
    """

    timed: int
    median: float
    mean: float
    total: float
    pauses: int


def agreement(said: Said) -> Agreement:
    """How far reviewers agree on rows that two or more of them have a value for."""
    shared = {row: dict(values) for row, values in said.items() if len(values) > 1}
    reviewers = tuple(sorted({reviewer for values in said.values() for reviewer in values}))
    return Agreement(
        reviewers,
        len(shared),
        krippendorff_alpha(values.values() for values in shared.values()),
        tuple(pair for one, other in combinations(reviewers, 2) if (pair := _pair(shared, one, other)) is not None),
        tuple(
            Conflict(row, values, majority(values.values()))
            for row, values in shared.items()
            if len(set(map(_key, values.values()))) > 1
        ),
    )


def krippendorff_alpha(units: Iterable[Iterable[Any]]) -> float | None:
    """Krippendorff's alpha of nominal data: 1 is perfect agreement, 0 what chance gives.

    ``units`` are the values given to each row, by any number of reviewers; those with fewer than two do not count.
    None where it is not defined: nothing to pair, or one value alone was ever given.

    Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C:
    ``1 - (n - 1) * sum(o[c, k]) / sum(n[c] * n[k])`` over pairs of different values, where a row of m values adds
    1 / (m - 1) to ``o`` for each ordered pair, ``n[c]`` are its row sums and n is the sum of all.
    """
    differing = 0.0
    totals: Counter[str] = Counter()
    for unit in units:
        counts = Counter(map(_key, unit))
        size = counts.total()
        if size < 2:
            continue
        totals.update(counts)
        differing += (size**2 - sum(count**2 for count in counts.values())) / (size - 1)
    values = totals.total()
    by_chance = values**2 - sum(count**2 for count in totals.values())
    return 1 - (values - 1) * differing / by_chance if by_chance else None


def cohen_kappa(one: Sequence[Any], other: Sequence[Any]) -> float | None:
    """Cohen's kappa of two reviewers' values for the same rows.

    None where it is not defined: no rows, or both gave one and the same value throughout.

    Source: J. Cohen, A Coefficient of Agreement for Nominal Scales (1960): ``(p_o - p_e) / (1 - p_e)``.
    """
    rows = len(one)
    first, second = Counter(map(_key, one)), Counter(map(_key, other))
    same = sum(_key(a) == _key(b) for a, b in zip(one, other, strict=True))
    by_chance = sum(count * second[value] for value, count in first.items())  # times rows**2
    return (rows * same - by_chance) / (rows**2 - by_chance) if rows**2 != by_chance else None


def majority(values: Iterable[Any]) -> Any | None:
    """The value that more than half of ``values`` are; None where no value is."""
    given = list(values)
    if not given:
        return None
    value, count = Counter(map(_key, given)).most_common(1)[0]
    return json.loads(value) if 2 * count > len(given) else None


def pace(seconds: Iterable[float | None]) -> Pace | None:
    """One reviewer's pace from the seconds of each decision; None where none was measured.

    Nobody says when they leave the desk. A time that is over ten times the reviewer's median, and over a minute, is
    taken for a pause: it stays in the median, which it does not move, and counts as one in mean and total.
    """
    measured = [value for value in seconds if value is not None]
    if not measured:
        return None
    middle = median(measured)
    longest = max(PAUSE_TIMES * middle, PAUSE_SECONDS)
    worked = [value if value <= longest else middle for value in measured]
    pauses = sum(value > longest for value in measured)
    return Pace(len(measured), middle, sum(worked) / len(worked), sum(worked), pauses)


def _pair(shared: Said, one: str, other: str) -> Pair | None:
    """None where they have no row in common."""
    both = [(values[one], values[other]) for values in shared.values() if one in values and other in values]
    if not both:
        return None
    left, right = zip(*both, strict=True)
    same = sum(_key(a) == _key(b) for a, b in both)
    return Pair(one, other, len(both), same, cohen_kappa(left, right))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
