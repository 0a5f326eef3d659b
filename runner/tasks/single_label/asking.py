"""What stored answers about one row say, and whether more is to be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.spec import Spec
from runner.tasks.single_label.recorded import distribution
from runner.teacher.conversation import counted, missing


def probabilities_of(spec: Spec, cell: str) -> list[float] | None:
    """A recorded cell as probabilities by label; None where it names a label, or nothing."""
    return distribution(cell, spec.task.labels)


def is_open(spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether further votes are needed."""
    return bool(missing(records, spec.task.labels, spec.teacher.votes, spec.teacher.early_stop))


def has_answer(spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a vote that counts names a label."""
    return any(counted(records, spec.task.labels, spec.teacher.votes, spec.teacher.early_stop))
