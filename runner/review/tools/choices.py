"""The values of a question by their names, as people see and write them in a tool.

Besides its values a question can be answered with "unclear" (the text cannot be decided), where several choices may be
given with "none", and, where a tool has no button for it, with "skip" (to be asked again). Where a value has such a
name, the word stands in brackets. Several names stand in one cell with semicolons between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.review.lists import Item
from runner.system.errors import UserError, did_you_mean
from runner.tasks.shared.labels import find, listed, same, shown
from runner.tasks.shared.shown import BETWEEN, Question


class Choices:
    """The names of a question's values, in order, and the words for what is no value."""

    def __init__(self, question: Question) -> None:
        """:raises UserError: when the question is not about choices, or their names cannot be told apart in a cell."""
        if question.kind not in ("choice", "choices"):
            raise UserError(
                "review.question-needs-page",
                f"answers of the kind {question.kind!r} cannot be given in another tool: review them in the page "
                "(tutelage review RUN)",
            )
        self.question, self.several = question, question.several
        self.names = [choice.name for choice in question.choices]
        self.unclear, self.skip, self.none = self._word("unclear"), self._word("skip"), question.none
        if self.several and (parted := [name for name in self.names if BETWEEN.strip() in name]):
            raise UserError(
                "review.name-has-separator",
                f"the choice {parted[0]!r} holds {BETWEEN.strip()!r}, which parts several in a cell: review them in "
                "the page (tutelage review RUN)",
            )

    def _word(self, word: str) -> str:
        return word if find(word, self.names) is None else f"({word})"

    @property
    def offered(self) -> list[str]:
        """All that can be chosen of a list, besides "skip"."""
        return [*self.names, *([self.none] if self.several else []), self.unclear]

    def name(self, value: Any) -> str | None:
        """What people see of a value; None where it is no answer to the question, as an abstention."""
        return self.question.name_of(value) if self.question.allows(value) else None

    def names_of(self, value: Any) -> list[str]:
        """What is chosen of a list for a value; nothing where it is no answer to the question."""
        if not self.question.allows(value):
            return []
        if not self.several:
            return [self.question.name_of(value)]
        return [self.question.name_of([one]) for one in value] or [self.none]

    def value(self, name: str | Sequence[str]) -> Any:
        """The value that a name stands for, or several; capitals and blanks do not count.

        :raises ValueError: when it is none of them, with the nearest one, or not as many as are asked for.
        """
        if not self.several:
            if not isinstance(name, str):
                said = ", ".join(name)[:80]
                raise ValueError(f"has several answers ({said}) where one is asked for: leave one")
            return self.question.choices[self._place(name)].value
        given = name.split(BETWEEN.strip()) if isinstance(name, str) else list(name)
        given = [one for one in given if one.strip()]
        if [one for one in given if same(one, self.none)]:
            if len(given) > 1:
                raise ValueError(f"says {self.none!r} and names labels as well: leave one of the two")
            return []
        if not given:
            raise ValueError(f"names nothing: write {self.none!r} where no label applies")
        return [self.question.choices[place].value for place in sorted({self._place(one) for one in given})]

    def _place(self, name: str) -> int:
        found = find(name, self.names)
        if found is None:
            known = listed([*self.names, *([self.none] if self.several else []), self.unclear])
            raise ValueError(
                f"{shown(name, self.names)} is none of the answers ({known}){did_you_mean(name, self.names)}"
            )
        return self.names.index(found)

    def probability(self, item: Item) -> float | None:
        """The teacher's probability of its own value, where it gave one; of several choices there is none."""
        return None if self.several else (item.probabilities or {}).get(item.value)
