"""How the teacher is asked which of the labels apply, and what its stored answers about one row say."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.spec import Spec
from runner.tasks.multi_label.answers import read_labels
from runner.tasks.multi_label.recorded import distribution
from runner.tasks.multi_label.votes import next_votes
from runner.tasks.multi_label.yes_or_no import NO, YES, YesOrNo, YesOrNoScorer, line
from runner.tasks.shared.answered import read_reason
from runner.tasks.shared.label_list import descriptions, names
from runner.tasks.shared.labels import described
from runner.teacher.conversation import counted, missing
from runner.teacher.protocol import SECOND_ANSWER_TOKENS, Encode, Scored

LEAST_REASON = 20
"""Characters that a reason may have at the least."""


@dataclass(frozen=True)
class LabelsAnswer:
    """An answer that says which of the ``labels`` apply (:class:`runner.teacher.protocol.AnswerFormat`)."""

    labels: tuple[str, ...]
    descriptions: tuple[str, ...] = ()

    @property
    def choices(self) -> Sequence[str]:
        """The labels."""
        return self.labels

    @property
    def second_answer_tokens(self) -> int:
        """Room for a list of a few labels."""
        return SECOND_ANSWER_TOKENS

    @property
    def meanings(self) -> Sequence[str]:
        """Nothing is chosen by nearness: each label is asked about."""
        return ()

    def narrowed(self, numbers: Sequence[int]) -> LabelsAnswer:
        """All labels stay (:func:`runner.tasks.multi_label.rules.shortlist`)."""
        return self

    def listed(self) -> str:
        """The labels in one line, or with their descriptions a line each."""
        return described(self.labels, self.descriptions) if self.descriptions else ", ".join(self.labels)

    def request(self, form: str) -> str:
        """Which labels there are, and the form of an answer."""
        meaning = f"The labels:\n{self.listed()}\n\n" if self.descriptions else ""
        names = "these labels" if self.descriptions else self.listed()
        if form == "cot":
            return (
                f"{meaning}Think about the TEXT step by step first, in one or two sentences, then name all labels that "
                f"apply to it: none, one or several of {names}.\nAnswer only with JSON of this form: "
                '{"reason": "your reasoning in one or two sentences", "labels": ["each label that applies"]}'
            )
        colon = "" if self.descriptions else f": {names}"
        return (
            f"{meaning}Say of each of these labels whether it applies to the TEXT{colon}.\nNone, one or several may "
            f'apply. Answer with a line for each label, "{line("LABEL", YES[0])}" or "{line("LABEL", NO[0])}", and '
            "nothing else."
        )

    def example(self, form: str, value: Sequence[str] | str, reason: str, text: str) -> str:
        """With ``cot`` the list of labels as JSON behind its reason; else yes or no of each label.

        Of a ``value`` that is text, as recorded answers are, it says how long an answer would be.
        """
        if form == "cot" or isinstance(value, str):
            return json.dumps({"reason": reason, "labels": value}, ensure_ascii=False)
        # Each example begins with another label: the teacher is asked about each of them at the start of its turn. Did
        # all examples begin with the first, another one there would look like a list of those that apply.
        first = zlib.crc32(text.encode("utf-8", "surrogatepass")) % len(self.labels)
        turned = (*self.labels[first:], *self.labels[:first])
        return "\n".join(line(label, YES[0] if label in value else NO[0]) for label in turned)

    def made_up(self, number: int) -> str:
        """Some of the labels, or none, as JSON: each by two bits of ``number``, a quarter of all numbers."""
        labels = [label for place, label in enumerate(self.labels) if number >> (2 * place % 60) & 3 == 3]
        return json.dumps({"reason": "no model", "labels": labels}, ensure_ascii=False)

    def ask_again(self) -> str:
        """Which labels they are."""
        return (
            "Which labels are they? Answer with a JSON list of these, [] where none applies, and nothing else: "
            f"{', '.join(self.labels)}."
        )

    def schema(self, max_tokens: int) -> str:
        """The JSON Schema of a ``cot`` answer whose reason is short enough for the whole to end in time.

        A label may come twice in a list, since the engines' grammars know no ``uniqueItems``: it is read as one.
        """
        # A token holds two characters at the least where it counts: in English four or five. The list may take half.
        listed = min(sum(len(label) + 4 for label in self.labels), max_tokens)
        reason = {"type": "string", "maxLength": max(LEAST_REASON, 2 * max_tokens - 40 - listed)}
        labels = {"type": "array", "items": {"enum": list(self.labels)}, "maxItems": len(self.labels)}
        return json.dumps(
            {
                "type": "object",
                "properties": {"reason": reason, "labels": labels},
                "required": ["reason", "labels"],
                "additionalProperties": False,
            }
        )

    def read(self, answer: str) -> list[str] | None:
        """The labels that an answer says (:mod:`runner.tasks.multi_label.answers`)."""
        return read_labels(answer, self.labels)

    def next_votes(self, votes: Sequence[Sequence[str] | None], total: int, early_stop: bool) -> int:
        """As many as can still change a label's majority (:mod:`runner.tasks.multi_label.votes`)."""
        return next_votes(votes, total, early_stop)

    def scorer(self, encode: Encode, ends: Sequence[int], exhaustive: bool = False) -> YesOrNoScorer:
        """A question for each label in the model's tokens; all are asked, ``exhaustive`` or not.

        :raises ValueError: when the tokens do not tell yes from no.
        """
        return YesOrNoScorer(_questions(self.labels, encode))


def answer_format(task: Mapping[str, Any]) -> LabelsAnswer:
    """The form of an answer, from the spec's section ``task``."""
    return LabelsAnswer(names(task), descriptions(task))


def scored(spec: Spec, encode: Encode) -> Scored:
    """A request for each label, behind its tokens. :raises ValueError: when yes and no have the same tokens."""
    try:
        prefixes = [len(question.prefix) for question in _questions(spec.task.labels, encode)]
    except ValueError as error:
        raise ValueError(f"task.labels: {error}; set teacher.prompt to cot, or rename the label") from error
    return Scored(prefixes, float(len(prefixes)))


def _questions(labels: Sequence[str], encode: Encode) -> tuple[YesOrNo, ...]:
    return tuple(YesOrNo.of(label, encode) for label in labels)


def key(spec: Spec) -> dict[str, Any]:
    """The part of the task that decides an answer, besides the words of the prompt; it goes into fingerprints."""
    return {"kind": "multi-label", "labels": list(spec.task.labels)}


def probabilities_of(spec: Spec, cell: str) -> list[float] | None:
    """A recorded cell as a probability of each label; None where it is a list of labels, or says nothing."""
    return distribution(cell, spec.task.labels)


def is_open(spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether further votes are needed."""
    return bool(missing(records, answer_format(vars(spec.task)), spec.teacher.votes, spec.teacher.early_stop))


def has_answer(spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a vote that counts says a value: no label at all is one."""
    votes = counted(records, answer_format(vars(spec.task)), spec.teacher.votes, spec.teacher.early_stop)
    return any(vote is not None for vote in votes)


def reason_of(answer: str) -> str:
    """The ``reason`` of an answer in JSON, even where the rest of it cannot be read."""
    return read_reason(answer)
