"""Answers of other tools as decisions: nothing is taken that is not certain, and all that is wrong is said at once.

An answer is refused where its row is not in the run, its text came back altered, its value is none of the question's,
another answer of the same reviewer contradicts it, or a row of the blind sample was answered with the teacher's value
in sight. The same file again adds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.review.decisions import Decision
from runner.review.lists import Item
from runner.review.tools.answers import BLIND
from runner.review.tools.checks import Reading, Refused, RefusedError, Taken, said_by
from runner.review.tools.choices import Choices
from runner.tasks.shared.shown import Question


@dataclass(frozen=True)
class Imported:
    """What files hold: the new ``decisions``, which are still to be stored, and how many of which answers there were.

    ``open`` rows have no answer. ``known`` answers are in the run already. ``changed`` ones replace what their reviewer
    said before; ``older`` ones do not, for they were given before it. ``refused`` ones are not taken. ``notes`` are
    sentences for the user.
    """

    decisions: tuple[Decision, ...]
    open: int
    known: int
    changed: int
    older: int
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]


def import_answers(
    items: Sequence[Item],
    paths: Sequence[Path],
    question: Question,
    reviewer: str,
    stored: Iterable[Decision] = (),
    skip_bad: bool = False,
) -> Imported:
    """What ``paths`` hold for the rows of a run.

    ``items`` are the rows of both lists, each in its order; ``reviewer`` is the one where a file names none; ``stored``
    are the run's decisions.

    :raises RefusedError: when an answer is refused, unless with ``skip_bad``.
    :raises DataError: when a file is broken, breaks off, or is of none of the tools.
    """
    stored = list(stored)
    reading = Reading(items, Choices(question), reviewer)
    for path in paths:
        reading.take_file(path)
    reading.settle()
    if reading.refused and not skip_bad:
        raise RefusedError.of(reading.refused)
    counts, decisions = _new(reading.taken, stored)
    notes = [*reading.notes, *_of_sample(items, [*stored, *decisions])]
    return Imported(
        tuple(decisions),
        reading.open,
        counts["known"],
        counts["changed"],
        counts["older"],
        tuple(reading.refused),
        tuple(notes),
    )


def _new(taken: Iterable[Taken], stored: Sequence[Decision]) -> tuple[Counter[str], list[Decision]]:
    """The decisions that are not in the run yet, and how many answers are known, changed or older."""
    undone = {decision.undoes for decision in stored if decision.action == "undo"}
    identities = {decision.decision.partition("-")[0] for decision in stored}
    last = {(one.id, one.reviewer): one for one in stored if one.action != "undo" and one.decision not in undone}
    counts: Counter[str] = Counter()
    new = []
    for one in taken:
        before = last.get((one.decision.id, one.decision.reviewer))
        identity = _identity(one)
        if identity in identities or (before is not None and said_by(before) == said_by(one.decision)):
            counts["known"] += 1
            continue
        if before is not None and "skip" not in (before.action, one.decision.action):
            counts["older" if one.decision.time < before.time else "changed"] += 1
        when = hashlib.sha256(one.decision.time.encode()).hexdigest()[:8]
        new.append(replace(one.decision, decision=f"{identity}-{when}"))
    return counts, new


def _identity(taken: Taken) -> str:
    """What makes an answer the same when it is read again: who said what of which text in which tool, and when.

    Where the tool does not know when, the file's content stands for it.
    """
    decision = taken.decision
    said = [decision.tool, decision.list, decision.id, decision.digest, decision.reviewer, *said_by(decision)]
    text = json.dumps([*said, decision.time if taken.timed else taken.source])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _of_sample(items: Sequence[Item], decisions: Iterable[Decision]) -> Iterator[str]:
    """What is to be said of a sample in which rows between others have no answer."""
    answered = {decision.id for decision in decisions if decision.action in ("label", "unclear")}
    order = [item.id in answered for item in items if item.list == BLIND]
    asked = max((number for number, has_answer in enumerate(order, start=1) if has_answer), default=0)
    missing = asked - sum(order)
    if missing:
        yield (
            f"the sample: {asked - missing:,} of its first {asked:,} rows are answered. The estimate is wrong if the "
            f"other {missing:,} were left out for being hard: answer them too, or as unclear"
        )
