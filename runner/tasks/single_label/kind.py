"""The kind of task whose value is one of the labels: its modules are the faces of ``runner/tasks/protocol.py``."""

from runner.tasks.single_label import asking, gold, judging, scoring

__all__ = ["NAME", "asking", "gold", "judging", "scoring"]

NAME = "single-label"
