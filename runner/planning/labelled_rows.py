"""A file in which experts have labelled some texts, or all: which of them measure, and which are left to learn from.

A text is never in both parts, as a run compares them (:func:`runner.data.sources.normalised`). Writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.data.preview import preview_rows, shown_path
from runner.data.reading import row_id
from runner.data.sources import normalised
from runner.planning.inspection import Inspection
from runner.system.errors import DataError, did_you_mean
from runner.tasks.shared.labels import find

TEST_MOST, TEST_SHARE = 500, 0.5
"""The most texts that measure, and the most of all: the rest is left to learn from."""
SHOWN = 3


@dataclass
class Parts:
    """Texts to learn from, and texts with their label to measure with. ``dropped`` counts rows by the reason."""

    train: list[str] = field(default_factory=list)
    test: list[tuple[str, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def part(found: Inspection, text: str, label: str, labels: Sequence[str]) -> Parts:
    """Which rows of the file measure: of the labelled ones :data:`TEST_MOST` at most, chosen by the texts' ids.

    :raises DataError: when a cell is none of ``labels``, or those that are labelled do not show two of them.
    """
    texts: dict[str, str] = {}
    given: dict[str, set[str]] = {}
    parts, unknown, count = Parts(), list[str](), 0
    for row in preview_rows(found.source, [text, label]):
        key, cell = normalised(row.values[text]), row.values[label]
        if not key:
            parts.dropped["empty"] += 1
            continue
        if key in texts:
            parts.dropped["duplicate"] += 1
        texts.setdefault(key, row.values[text])
        if not cell.strip():
            continue
        known = find(cell, labels)
        if known is None:
            count += 1
            unknown += [f"{row.place}: {cell[:60]!r}{did_you_mean(cell, labels)}"] if count <= SHOWN else []
        else:
            given.setdefault(key, set()).add(known)
    if unknown:
        more = f", and {count - SHOWN} more" if count > SHOWN else ""
        raise DataError(
            "data.label-unknown",
            f"{shown_path(found.source.path)}: column {label!r} has labels that --labels does not name: "
            f"{'; '.join(unknown)}{more}; add them, or correct the file",
        )
    conflicting = {key for key, labels_of in given.items() if len(labels_of) > 1}
    parts.dropped["conflicting labels"] += len(conflicting)
    labelled = sorted(given.keys() - conflicting, key=lambda key: row_id(texts[key]))
    measuring = set(labelled[: min(TEST_MOST, int(TEST_SHARE * (len(texts) - len(conflicting))))])
    parts.train = [one for key, one in texts.items() if key not in measuring and key not in conflicting]
    parts.test = [(one, next(iter(given[key]))) for key, one in texts.items() if key in measuring]
    if len({one for _, one in parts.test}) < 2 or not parts.train:
        raise DataError(
            "data.too-few-labelled",
            f"{shown_path(found.source.path)}: column {label!r} labels {len(labelled)} texts, too few to measure with "
            "(two labels at least, and texts that are left to learn from): leave --label out",
        )
    parts.dropped = +parts.dropped
    return parts
