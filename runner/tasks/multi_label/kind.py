"""The kind of task whose value is a list of labels: its modules are the faces of ``runner/tasks/protocol.py``."""

from runner.tasks.multi_label import asking, auditing, gold, judging, rules
from runner.tasks.multi_label.rules import NAME

__all__ = ["NAME", "asking", "auditing", "gold", "judging", "rules"]
