"""What a review came to: how much was looked at, by whom, how fast, how far they agree, and what was found."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from runner.review.agreement import Agreement, agreement, pace
from runner.review.decisions import Decision
from runner.review.pace import by_reviewer, seconds
from runner.review.settle import Row, rows

POINTS = 60
"""Of the curve of errors found, at most."""


def summary(decisions: Sequence[Decision], teacher: Mapping[str, Any]) -> dict[str, Any] | None:
    """The review of a run as JSON-able values; None where nobody has decided anything.

    ``teacher`` has the teacher's value of each row by id, None where it abstained. Times are in seconds.
    """
    decided = rows(decisions)
    if not decided:
        return None
    sample, queue = ([row for (name, _), row in decided.items() if name == which] for which in ("sample", "queue"))
    said: dict[Hashable, dict[str, Any]] = {
        key: {name: word.value for name, word in row.words.items() if word.action == "label"}
        for key, row in decided.items()
    }
    agreed = agreement(said)
    return {
        "sample": {"rows": sum(row.value is not None for row in sample), "unclear": _unclear(sample)},
        "queue": {
            "rows": len(queue),
            "changed": sum(_changed(row, teacher) for row in queue),
            "unclear": _unclear(queue),
        },
        "curve": _curve(queue, teacher),
        "reviewers": _reviewers(decisions),
        "agreement": _agreement(agreed) if agreed.rows else None,
        "open": sum(row.conflict for row in decided.values()),
        "seconds": seconds(decisions),
    }


def _unclear(found: Sequence[Row]) -> int:
    return sum(row.value is None and not row.conflict for row in found)


def _changed(row: Row, teacher: Mapping[str, Any]) -> bool:
    return row.value is not None and row.value != teacher.get(row.id)


def _curve(queue: Sequence[Row], teacher: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(rows reviewed, labels changed by then), in the order in which they were decided."""
    in_time = sorted(queue, key=lambda row: min(word.time for word in row.words.values()))
    found, points = 0, [(0, 0)]
    for number, row in enumerate(in_time, 1):
        found += _changed(row, teacher)
        points.append((number, found))
    step = max(1, -(-len(points) // POINTS))
    return [*points[:-1:step], points[-1]]


def _reviewers(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    lines = []
    for name, each in by_reviewer(decisions).items():
        found = pace(decision.seconds for decision in each)
        lines.append(
            {"name": name, "decisions": len(each)}
            | ({"median": found.median, "seconds": found.total} if found else {"median": None, "seconds": None})
        )
    return lines


def _agreement(found: Agreement) -> dict[str, Any]:
    pairs = [asdict(pair) for pair in found.pairs]
    return {"rows": found.rows, "alpha": found.alpha, "pairs": pairs, "conflicts": len(found.conflicts)}
