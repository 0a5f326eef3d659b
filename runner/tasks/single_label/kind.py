"""The kind of task whose value is one of the labels: its modules are the faces of ``runner/tasks/protocol.py``."""

from runner.tasks.protocol import Learner
from runner.tasks.single_label import asking, gold, judging, predictions, scoring, showing, targets

__all__ = ["NAME", "asking", "gold", "judging", "learner", "predictions", "scoring", "showing", "targets"]

NAME = "single-label"


def learner() -> Learner:
    """How a student learns the task: for workers alone, since it imports torch."""
    from runner.tasks.single_label import learner  # in workers only: torch

    return learner
