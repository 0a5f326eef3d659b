"""How far a review has come, in a sentence for the page, and whether it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from runner.report.text import interval, percent
from runner.review.decisions import Decision, ListName, read
from runner.review.page.server import Status
from runner.review.sample import DrawnSample, inclusion
from runner.review.settle import rows, settled
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.tasks.kinds import task_of

FEWEST = 20
"""Of fewer labelled rows nothing is said: an interval of a handful misleads."""

FEWEST_TO_STOP = 50
"""Rows before which the sample is never enough: the first narrow interval of many may be narrow by chance."""

WIDTHS = (0.05, 0.03, 0.02, 0.01, 0.005)
"""Half-widths that are worth naming as the next aim."""


@dataclass(frozen=True)
class Progress:
    """What the page asks after each decision. ``teacher`` has the teacher's value of every row by id."""

    run: Folder
    spec: Spec
    sample: DrawnSample
    teacher: Mapping[str, Any]

    def __call__(self, name: ListName) -> Status:
        """Of the queue: how many labels were changed. Of the sample: how often the teacher is right, and how sure."""
        decisions = read(self.run)
        return self._queue(decisions) if name == "queue" else self._sample(decisions)

    def _queue(self, decisions: list[Decision]) -> Status:
        decided = [row for (name, _), row in rows(decisions).items() if name == "queue"]
        changed = sum(row.value is not None and row.value != self.teacher.get(row.id) for row in decided)
        return Status(f"{len(decided):,} checked, {changed:,} labels changed" if decided else "")

    def _sample(self, decisions: list[Decision]) -> Status:
        truth = settled(decisions).sample
        known = inclusion(self.sample, truth.keys())
        if len(known) < FEWEST:
            return Status(f"{FEWEST - len(known)} more until there is an estimate")
        scoring = task_of(self.spec).scoring
        population = [row | {"inclusion": known.get(row["id"])} for row in self.sample.findings.to_pylist()]
        found = scoring.estimates(self.spec, truth, self.teacher, None, population)["teacher"]
        low, high = found["ci95"][scoring.PRIMARY]
        half_width, aim = (high - low) / 2, self.spec.review.audit.half_width
        primary, figure = task_of(self.spec).showing.FIGURES[0], percent(found[scoring.PRIMARY])
        share = f"Teacher {primary.adjective} on" if primary.adjective else f"Teacher: {primary.words}"
        said = f"{share} {figure} ({interval(low, high)})"
        if aim is not None and half_width <= aim and len(known) >= FEWEST_TO_STOP:
            return Status(f"{said}: as narrow as review.audit.half_width asks for", enough=True)
        return Status(said + self._still(len(known), half_width, aim, decisions))

    def _still(self, labelled: int, half_width: float, aim: float | None, decisions: list[Decision]) -> str:
        """How many more rows the aim takes, or the next width that is worth it, and how long that is."""
        target = aim if aim is not None else next((width for width in WIDTHS if width < half_width), None)
        if target is None:
            return ""
        more = max(1, rows_needed(labelled, half_width, target, len(self.sample.ids)) - labelled)
        left = self.sample.rows - labelled
        if more > left:
            return f"; ±{100 * target:g} points take more than the {left:,} rows that are left in the sample"
        return f"; for ±{100 * target:g} points about {more:,} more{_minutes(more, decisions)}"


def rows_needed(labelled: int, half_width: float, target: float, population: int) -> int:
    """Rows to be labelled for an interval of ``target`` to either side, as far as ``labelled`` rows tell.

    An interval's square is in proportion to ``1 / n - 1 / N``: the finite population makes it vanish at ``n = N``.
    """
    spread = half_width**2 / (1 / labelled - 1 / population) if labelled < population else 0.0
    return min(population, round(1 / (target**2 / spread + 1 / population))) if spread else labelled


def _minutes(more: int, decisions: list[Decision]) -> str:
    """The time that so many rows take at the pace so far; nothing where nobody measured it."""
    measured = [each.seconds for each in decisions if each.seconds is not None and each.list == "sample"]
    if not measured:
        return ""
    minutes = max(1, round(more * median(measured) / 60))
    return f", {minutes:,} {'minute' if minutes == 1 else 'minutes'} at your pace"
