"""Better values without any person: what the teacher and students that did not see the row come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.spec import Spec
from runner.tasks.kinds import task_of


@dataclass(frozen=True)
class Consensus:
    """Verdicts by row id, how many got another ``value`` than the teacher's, and how many had none before."""

    verdicts: dict[str, dict[str, Any]]
    changed: int
    filled: int


def apply(spec: Spec, verdicts: Mapping[str, Mapping[str, Any]], findings: Iterable[Mapping[str, Any]]) -> Consensus:
    """Put the consensus in the place of the teacher's value, with its probabilities.

    ``verdicts`` are rows of ``votes.parquet`` by id, ``findings`` those of ``queue.parquet``; rows without a finding
    stay as they are.

    :raises KeyError: when a finding is of a row without a verdict: it belongs to other votes.
    """
    auditing = task_of(spec).auditing
    result = {id_: dict(verdict) for id_, verdict in verdicts.items()}
    changed = filled = 0
    for finding in findings:
        before = result[finding["id"]]
        after = result[finding["id"]] = auditing.agreed(before, finding)
        filled += before["label"] is None and after["label"] is not None
        changed += before["label"] is not None and after["label"] != before["label"]
    return Consensus(result, changed, filled)
