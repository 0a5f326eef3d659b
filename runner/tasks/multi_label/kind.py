"""The kind of task whose value is a list of labels: its modules are the faces of ``runner/tasks/protocol.py``."""

from runner.tasks.multi_label import (
    asking,
    auditing,
    gold,
    judging,
    predictions,
    rules,
    scoring,
    showing,
    targets,
)
from runner.tasks.multi_label.rules import NAME
from runner.tasks.protocol import Learner

__all__ = [
    "NAME",
    "asking",
    "auditing",
    "gold",
    "judging",
    "learner",
    "predictions",
    "rules",
    "scoring",
    "showing",
    "targets",
]


def learner() -> Learner:
    """How a student learns the task: for workers alone, since it imports torch."""
    from runner.tasks.multi_label import learner  # in workers only: torch

    return learner
