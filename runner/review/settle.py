"""From decisions to what holds: each reviewer's last word on each row, and what reviewers agree on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.review.decisions import Decision, ListName, read
from runner.review.pace import seconds
from runner.review.sample import drawn
from runner.rundir.folder import Folder, fingerprint
from runner.spec.reviewed import Reviewed


@dataclass(frozen=True)
class Row:
    """What reviewers say of one row. ``words``: each reviewer's last decision, ``label`` or ``unclear``, by name."""

    list: ListName
    id: str
    words: Mapping[str, Decision]

    @property
    def values(self) -> Counter[str]:
        """How many reviewers gave each value, as JSON text."""
        return Counter(_as_text(word.value) for word in self.words.values() if word.action == "label")

    @property
    def conflict(self) -> bool:
        """Whether no value has more reviewers than any other, so that the row is open."""
        first = self.values.most_common(2)
        return len(first) == 2 and first[0][1] == first[1][1]

    @property
    def value(self) -> Any:
        """What most reviewers say; None where they are in conflict, or none could say."""
        return None if self.conflict or not self.values else json.loads(self.values.most_common(1)[0][0])


def rows(decisions: Iterable[Decision]) -> dict[tuple[ListName, str], Row]:
    """The rows that somebody has decided on, by list and id. Skipped and undone ones are as if never seen."""
    decisions = list(decisions)
    undone = {decision.undoes for decision in decisions if decision.action == "undo"}
    last: dict[tuple[ListName, str], dict[str, Decision]] = {}
    for decision in decisions:
        if decision.action in ("label", "unclear") and decision.decision not in undone:
            last.setdefault((decision.list, decision.id), {})[decision.reviewer] = decision
    return {key: Row(*key, words) for key, words in last.items()}


def settled(decisions: Iterable[Decision]) -> Reviewed:
    """The values that hold. Rows in conflict stay out until reviewers agree."""
    decisions = list(decisions)
    found = rows(decisions)
    values = {key: row.value for key, row in found.items() if row.value is not None}
    of_sample = {id_: value for (name, id_), value in values.items() if name == "sample"}
    corrections = {id_: value for (name, id_), value in values.items() if name == "queue"}
    unclear = frozenset(
        id_ for (name, id_), row in found.items() if name == "sample" and not row.values and not row.conflict
    )
    if not (of_sample or corrections or unclear):
        return Reviewed()
    digest = fingerprint([sorted(of_sample.items()), sorted(corrections.items()), sorted(unclear)])
    return Reviewed(of_sample, corrections, unclear, seconds(decisions), digest)


def reviewed(run: Folder) -> Reviewed:
    """What people have decided in a run. :raises DataError: see :func:`runner.review.decisions.read`."""
    decided = settled(read(run))
    if not decided.sample or (sample := drawn(run)) is None:
        return decided
    return replace(decided, digest=fingerprint([decided.digest, sample.name]))  # another draw, other probabilities


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)
