"""Which answers of files can be taken as decisions, and why the others are refused."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.review.decisions import Decision, text_digest
from runner.review.lists import Item
from runner.review.tools import argilla, tool_of
from runner.review.tools.alterations import alteration
from runner.review.tools.answers import BLIND, Answer, Unreadable
from runner.review.tools.choices import Choices
from runner.system.errors import DataError
from runner.tasks.shared.labels import same

SAID = 40
"""So many refusals are said one by one; the rest is counted."""


@dataclass(frozen=True)
class Refused:
    """An answer that is not taken: where it stands, and why."""

    place: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


class RefusedError(DataError):
    """Some answers are refused, and nothing is imported. ``refused`` holds all of them."""

    refused: Sequence[Refused] = ()

    @classmethod
    def of(cls, refused: Sequence[Refused]) -> RefusedError:
        """The error for ``refused``."""
        more = len(refused) - SAID
        lines = [*map(str, refused[:SAID]), *([f"... and {more:,} more"] if more > 0 else [])]
        advice = "nothing was imported: correct the files, or import the other answers with --skip-bad"
        error = cls("review.answers-refused", "\n".join([*lines, advice]))
        error.refused = tuple(refused)
        return error


@dataclass(frozen=True)
class Taken:
    """An answer as a decision; ``timed``: its tool knows when it was given. ``source`` names the file's content."""

    place: str
    decision: Decision
    timed: bool
    source: str


class Reading:
    """Goes through files; what is taken, refused and said adds up."""

    def __init__(self, items: Sequence[Item], choices: Choices, reviewer: str) -> None:
        self._items = {item.id: item for item in items}
        self._choices, self._reviewer = choices, reviewer
        self.taken: list[Taken] = []
        self.refused: list[Refused] = []
        self.notes: list[str] = []
        self.open = 0

    def take_file(self, path: Path) -> None:
        """Read one file, whichever tool it comes from."""
        tool = tool_of(path)
        source = _digest(path)
        answers = [answer for answer in tool.read(path) if not self._is_open(answer)]
        rows = [answer for answer in answers if isinstance(answer, Answer)]
        if rows and not any(answer.id in self._items for answer in rows):
            why = f"none of its {len(rows):,} answered rows is in this run: it was exported from another one"
            self.refused.append(Refused(path.name, why))
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        for answer in answers:
            if isinstance(answer, Unreadable):
                self.refused.append(Refused(answer.place, answer.why))
            elif (wrong := self._wrong(answer)) is not None:
                self.refused.append(Refused(answer.place, wrong))
            else:
                self.taken.append(self._decision(answer, tool.NAME, source, now))
        if rows and tool.NAME == argilla.NAME and not argilla.says_status(path):
            self.notes.append(
                f"{path.name}: this form of Argilla's export does not say which responses are drafts or discarded: all "
                f"{len(rows):,} were taken as submitted (to_list(flatten=True) says it)"
            )

    def _is_open(self, answer: Answer | Unreadable) -> bool:
        is_open = isinstance(answer, Answer) and answer.action == "open"
        self.open += is_open
        return is_open

    def _wrong(self, answer: Answer) -> str | None:
        """Why an answer is refused; None where it is fine."""
        item = self._items.get(answer.id)
        if item is None:
            return "this row is not in the run, or no longer: its text was changed or left out since; export again"
        if item.list == BLIND and answer.list != BLIND:
            return (
                "this row belongs to the blind sample, and was answered in the queue, where the teacher's value is in "
                "sight: answer it again without it"
            )
        if altered := alteration(item.text, answer.text):
            return f"the text came back altered, so that nobody knows what was answered: {altered}"
        try:
            self._said(answer)
        except ValueError as error:
            return str(error)
        return None

    def _said(self, answer: Answer) -> tuple[Any, Any]:
        """The action and the value of an answer. :raises ValueError: when it is none of the question's."""
        name = answer.value
        if answer.action != "label" or name is None:
            return answer.action, None
        if not isinstance(name, str):
            return self._of_several(name)
        for word, action in ((self._choices.unclear, "unclear"), (self._choices.skip, "skip")):
            if same(name, word):
                return action, None
        return "label", self._choices.value(name)

    def _of_several(self, names: Sequence[str]) -> tuple[Any, Any]:
        if any(same(name, self._choices.unclear) for name in names):
            raise ValueError(f"says {self._choices.unclear!r} and names labels as well: leave one of the two")
        return "label", self._choices.value(names)

    def _decision(self, answer: Answer, tool: str, source: str, now: str) -> Taken:
        action, value = self._said(answer)
        time = _utc(answer.time)
        decision = Decision(
            list=self._items[answer.id].list,
            id=answer.id,
            digest=text_digest(answer.text),
            action=action,
            value=value,
            reviewer=answer.reviewer or self._reviewer,
            seconds=_seconds(answer.seconds),
            time=time or now,
            tool=tool,
            decision="",
        )
        return Taken(answer.place, decision, time is not None, source)

    def settle(self) -> None:
        """One answer of each reviewer to each row: the same twice is one, and a skip gives way to an answer."""
        by_row: dict[tuple[str, str], list[Taken]] = {}
        for taken in self.taken:
            by_row.setdefault((taken.decision.id, taken.decision.reviewer), []).append(taken)
        self.taken = []
        for (_, reviewer), answers in by_row.items():
            answers = [one for one in answers if one.decision.action != "skip"] or answers[:1]
            first = answers[0]
            other = next((one for one in answers if said_by(one.decision) != said_by(first.decision)), None)
            if other is None:
                self.taken.append(first)
                continue
            said = [_named(self._choices, one.decision) for one in (first, other)]
            why = f"{reviewer} says {said[1]} here and {said[0]} at {first.place}: keep one of them"
            advice = " (if they are of two people, import each file with its own --reviewer)"
            self.refused.append(Refused(other.place, why + advice * (first.source != other.source)))


def said_by(decision: Decision) -> tuple[str, str, str]:
    """What a decision says of which text, to be compared."""
    return decision.action, json.dumps(decision.value, sort_keys=True), decision.digest


def _named(choices: Choices, decision: Decision) -> str:
    return repr(choices.name(decision.value)) if decision.action == "label" else decision.action


def _digest(path: Path) -> str:
    file = path / "records.json" if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _utc(time: str | None) -> str | None:
    """A time as decisions have it; None where there is none, or none that can be read."""
    try:
        read = datetime.fromisoformat(time or "")
    except ValueError:
        return None
    read = read if read.tzinfo else read.replace(tzinfo=UTC)
    return read.astimezone(UTC).isoformat(timespec="milliseconds")


def _seconds(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None
