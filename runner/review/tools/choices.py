"""The values of a question by their names, as people see and write them in a tool.

Besides its values a question can be answered with "unclear" (the text cannot be decided) and, where a tool has no
button for it, with "skip" (to be asked again). Where a value has such a name, the word stands in brackets.
"""

from __future__ import annotations

from typing import Any

from runner.review.lists import Item
from runner.system.errors import UserError, did_you_mean
from runner.tasks.shared.labels import find, listed, shown
from runner.tasks.shared.shown import Question


class Choices:
    """The names of a question's values, in order, and the words for what is no value."""

    def __init__(self, question: Question) -> None:
        """:raises UserError: when the question is not a choice among values."""
        if question.kind != "choice":
            raise UserError(
                "review.question-needs-page",
                f"answers of the kind {question.kind!r} cannot be given in another tool: review them in the page "
                "(tutelage review RUN)",
            )
        self.question = question
        self.names = [choice.name for choice in question.choices]
        self.unclear, self.skip = self._word("unclear"), self._word("skip")

    def _word(self, word: str) -> str:
        return word if find(word, self.names) is None else f"({word})"

    def name(self, value: Any) -> str | None:
        """What people see of a value; None where it is no answer to the question, as an abstention."""
        return self.question.name_of(value) if self.question.allows(value) else None

    def value(self, name: str) -> Any:
        """The value that a name stands for; capitals and blanks do not count.

        :raises ValueError: when it is none of them, with the nearest one.
        """
        found = find(name, self.names)
        if found is None:
            known = listed([*self.names, self.unclear])
            raise ValueError(
                f"{shown(name, self.names)} is none of the answers ({known}){did_you_mean(name, self.names)}"
            )
        return self.question.choices[self.names.index(found)].value

    def probability(self, item: Item) -> float | None:
        """The teacher's probability of its own value, where it gave one."""
        return (item.probabilities or {}).get(item.value)
