"""The kind: its modules are the faces."""

from vowels import asking, auditing, gold, judging, predictions, rules, scoring, showing, targets

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

NAME = "vowels"


def learner():
    from vowels import learner

    return learner
