"""One reviewer at the page: which row is asked next, and what has been decided. Knows no HTTP.

A *view* is one load of the page in one tab. A row is open, held by the view that shows it, skipped, or answered. Two
views never hold the same row; a view that is gone without a word lets go of its row after ``HOLD_SECONDS``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from runner.review.decisions import Action, Decision, ListName, text_digest
from runner.review.lists import Item
from runner.system.sanitize import clean
from runner.tasks.shared.shown import Question

HOLD_SECONDS = 150.0
"""Browsers wake a tab in the background once a minute: so long, and it misses two of its signs of life."""
LONGEST_SECONDS = 24 * 3600.0

BLIND: frozenset[ListName] = frozenset({"sample"})
"""Lists whose rows are shown without what the teacher said: nobody shall be led by it."""


class RefusedError(Exception):
    """The page asks for what no longer holds, such as an answer for a row that has one. Nothing is stored."""


class _List:
    """The rows of one list, and where each of them stands. Positions count from 0."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.at = {item.id: position for position, item in enumerate(items)}
        self.answers: dict[int, Decision] = {}
        self.skipped: dict[int, Decision] = {}  # the one skipped longest ago first
        self._held: dict[int, tuple[str, float]] = {}
        self._first = 0
        self._unclear = 0

    def candidates(self) -> Iterator[int]:
        """Rows without an answer: those never seen in the order of the list, then the skipped ones."""
        while self._first < len(self.items) and self._seen(self._first):
            self._first += 1
        yield from (position for position in range(self._first, len(self.items)) if not self._seen(position))
        yield from tuple(self.skipped)

    def _seen(self, position: int) -> bool:
        return position in self.answers or position in self.skipped

    def put(self, position: int, decision: Decision) -> None:
        self.reopen(position)
        (self.skipped if decision.action == "skip" else self.answers)[position] = decision
        self._unclear += decision.action == "unclear"
        self._held.pop(position, None)

    def reopen(self, position: int) -> None:
        answer = self.answers.pop(position, None)
        self._unclear -= answer is not None and answer.action == "unclear"
        self.skipped.pop(position, None)
        self._first = min(self._first, position)

    def hold(self, position: int, view: str, now: float) -> None:
        self._held[position] = (view, now + HOLD_SECONDS)

    def let_go(self, view: str) -> None:
        self._held = {position: held for position, held in self._held.items() if held[0] != view}

    def holder(self, position: int, now: float) -> str | None:
        view, until = self._held.get(position, (None, 0.0))
        return view if until > now else None

    def held_by(self, view: str) -> int | None:
        """Also one whose time is over, if nobody else has taken it."""
        return next((position for position, (holder, _) in self._held.items() if holder == view), None)

    def progress(self) -> dict[str, int]:
        counts = {"answered": len(self.answers), "unclear": self._unclear, "skipped": len(self.skipped)}
        return counts | {"total": len(self.items)}


class Session:
    """What one reviewer has decided and is asked, over any number of views. Safe for use by several threads.

    ``past`` are all decisions that are stored, in the order of their time; those of other reviewers are passed over,
    and those on another text than the row has now. ``append`` stores decisions and returns when they are on the disk.
    """

    def __init__(
        self,
        lists: Mapping[ListName, Sequence[Item]],
        question: Question,
        reviewer: str,
        past: Iterable[Decision],
        append: Callable[[Sequence[Decision]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reviewer, self.question = reviewer, question
        self._lists = {name: _List(items) for name, items in lists.items()}
        self._append, self._clock = append, clock
        self._lock = threading.Lock()
        self._known: dict[str, Decision] = {}
        self._undone: set[str | None] = set()
        self._history: dict[ListName, list[str]] = {name: [] for name in lists}
        self._unstored: dict[str, Decision] = {}  # a retry stores the same decision, in case that it is there after all
        self._replay([decision for decision in past if decision.reviewer == reviewer])

    def next(self, name: ListName, view: str, was: str | None = None) -> dict[str, Any]:
        """The row that ``view`` shows, from now on held by it: ``{row, progress, elsewhere}``.

        ``row`` is None where all are answered but those ``elsewhere``, which other views hold. ``was``: the view that
        was here before a reload.
        """
        with self._lock:
            return self._next(self._list(name), name, view, was)

    def decide(
        self, name: ListName, view: str, id_: str, action: Action, value: Any, seconds: float | None, decision: str
    ) -> None:
        """Store what the reviewer says of a row; ``decision`` is its id: the same one again changes nothing.

        :raises RefusedError: when the row has an answer, or another view shows it.
        :raises ValueError: when this is no answer to the question.
        :raises UserError: when it could not be stored; it may be tried again.
        """
        with self._lock:
            line, position = self._row(name, id_)
            if self._repeats(decision, name, id_):
                return
            if position in line.answers:
                given = line.answers[position]
                raise RefusedError(f"this row was answered before: {self._words(given)}. That answer stays")
            if line.holder(position, self._clock()) not in (view, None):
                raise RefusedError("this row is open in another tab: answer it there")
            if action not in ("label", "unclear", "skip") or (action == "label" and not self.question.allows(value)):
                raise ValueError(f"{action!r} with {value!r} is no answer to this question")
            given = Decision(
                list=name,
                id=id_,
                digest=text_digest(line.items[position].text),
                action=action,
                value=value if action == "label" else None,
                reviewer=self.reviewer,
                seconds=None if seconds is None else round(min(max(seconds, 0.0), LONGEST_SECONDS), 1),
                decision=decision,
            )
            line.put(position, self._store(given))
            self._history[name].append(decision)

    def undo(self, name: ListName, view: str, decision: str, undoes: str | None = None) -> dict[str, Any]:
        """Take a decision of this list back (None: the last one), and show its row again: see :meth:`next`.

        :raises RefusedError: when there is none, or it was taken back before.
        """
        with self._lock:
            line, now = self._list(name), self._clock()
            done = self._known.get(decision)
            target = self._known.get(str(done.undoes if done else undoes or (self._history[name] or [""])[-1]))
            if target is None or target.list != name or target.id not in line.at:
                raise RefusedError("there is nothing to undo in this list")
            position = line.at[target.id]
            if done is None:
                if target.decision in self._undone or self._standing(line, position) != target:
                    raise RefusedError("this answer was taken back before")
                back = Decision(
                    list=name,
                    id=target.id,
                    digest=target.digest,
                    action="undo",
                    reviewer=self.reviewer,
                    decision=decision,
                    undoes=target.decision,
                )
                self._store(back)
                self._undone.add(target.decision)
                self._history[name] = [each for each in self._history[name] if each != target.decision]
                line.reopen(position)
                line.let_go(view)
                line.hold(position, view, now)
            shown = self._next(line, name, view, None)
            before = {"action": target.action, "value": target.value}
            return shown | {"undone": before}

    def alive(self, view: str) -> None:
        """A sign of life: the view keeps its row, unless another has taken it meanwhile."""
        with self._lock:
            for line in self._lists.values():
                position = line.held_by(view)
                if position is not None:
                    line.hold(position, view, self._clock())

    def leave(self, view: str) -> None:
        """The view is gone, and its row open again."""
        with self._lock:
            for line in self._lists.values():
                line.let_go(view)

    def totals(self) -> dict[ListName, dict[str, int]]:
        """The progress of each list."""
        with self._lock:
            return {name: line.progress() for name, line in self._lists.items()}

    def _next(self, line: _List, name: ListName, view: str, was: str | None) -> dict[str, Any]:
        now = self._clock()
        for other in self._lists.values():
            if other is not line:
                other.let_go(view)
            if was:
                other.let_go(was)
        mine, elsewhere = line.held_by(view), 0
        if mine is None:
            for position in line.candidates():
                if line.holder(position, now) is None:
                    mine = position
                    break
                elsewhere += 1
        if mine is None:
            return {"row": None, "progress": line.progress(), "elsewhere": elsewhere}
        line.hold(mine, view, now)
        return {"row": self._shown(line.items[mine], name, mine), "progress": line.progress(), "elsewhere": 0}

    def _shown(self, item: Item, name: ListName, position: int) -> dict[str, Any]:
        """What the browser is told of a row; of a blind list never what the teacher said."""
        row: dict[str, Any] = {"list": name, "id": item.id, "number": position + 1, "text": clean(item.text)}
        if name in BLIND:
            return row
        value = item.value if self.question.allows(item.value) else None
        named = None if item.value is None else self.question.name_of(item.value)
        chances = [(item.probabilities or {}).get(str(choice.value)) for choice in self.question.choices]
        return row | {"value": value, "given": named, "chances": chances, "reason": clean(item.reason or "")}

    def _list(self, name: ListName) -> _List:
        if name not in self._lists:
            raise RefusedError(f"there is no list {name!r} here")
        return self._lists[name]

    def _row(self, name: ListName, id_: str) -> tuple[_List, int]:
        line = self._list(name)
        if id_ not in line.at:
            raise RefusedError(f"there is no row {id_!r} in this list: reload the page")
        return line, line.at[id_]

    def _repeats(self, decision: str, name: ListName, id_: str) -> bool:
        known = self._known.get(decision)
        if known is not None and (known.list, known.id) != (name, id_):
            raise RefusedError("this decision was stored for another row")
        return known is not None

    def _standing(self, line: _List, position: int) -> Decision | None:
        return line.answers.get(position) or line.skipped.get(position)

    def _store(self, decision: Decision) -> Decision:
        decision = self._unstored.setdefault(decision.decision, decision)
        self._append([decision])
        del self._unstored[decision.decision]
        self._known[decision.decision] = decision
        return decision

    def _words(self, decision: Decision) -> str:
        return self.question.name_of(decision.value) if decision.action == "label" else decision.action

    def _replay(self, past: Sequence[Decision]) -> None:
        self._known = {decision.decision: decision for decision in past}
        self._undone = {decision.undoes for decision in past if decision.action == "undo"}
        for decision in past:
            line = self._lists.get(decision.list)
            position = None if line is None else line.at.get(decision.id)
            if line is None or position is None or decision.action == "undo" or decision.decision in self._undone:
                continue
            if decision.digest == text_digest(line.items[position].text):
                line.put(position, decision)
                self._history[decision.list].append(decision.decision)
