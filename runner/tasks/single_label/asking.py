"""How the teacher is asked for one of the labels, and what its stored answers about one row say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from runner.spec import Spec
from runner.tasks.shared.answered import read_reason
from runner.tasks.shared.label_list import descriptions, names
from runner.tasks.shared.labels import described
from runner.tasks.single_label.answers import read_label
from runner.tasks.single_label.distribution import LabelScorer, Places, expected_requests
from runner.tasks.single_label.label_trie import LabelTrie
from runner.tasks.single_label.recorded import distribution
from runner.tasks.single_label.votes import next_votes
from runner.teacher.conversation import counted, missing
from runner.teacher.protocol import SECOND_ANSWER_TOKENS, AnswerFormat, Encode, Scored
from runner.teacher.shortlist import typical


@dataclass(frozen=True)
class LabelAnswer:
    """An answer that names one of the ``labels`` (:class:`runner.teacher.protocol.AnswerFormat`).

    ``descriptions`` say what each label means, or are empty; ``out_of_scope`` is the label that means none of the
    others, where there is one.
    ``shown``: the numbers of those that the teacher is told of; None: all.
    """

    labels: tuple[str, ...]
    descriptions: tuple[str, ...] = ()
    out_of_scope: str | None = None
    shown: tuple[int, ...] | None = None

    @property
    def choices(self) -> Sequence[str]:
        """The labels that the teacher is told of."""
        return self.labels if self.shown is None else tuple(self.labels[number] for number in self.shown)

    @property
    def meanings(self) -> Sequence[str]:
        """The labels as words, with their descriptions."""
        words = (" ".join(label.replace("_", " ").split()) or label for label in self.labels)
        descriptions = self.descriptions or ("",) * len(self.labels)
        pairs = zip(words, descriptions, strict=True)
        return tuple(f"{name}: {description}" if description else name for name, description in pairs)

    def narrowed(self, numbers: Sequence[int]) -> LabelAnswer:
        """The same with these labels to choose from, and that for texts which none of the others fits."""
        outside = () if self.out_of_scope is None else (self.labels.index(self.out_of_scope),)
        return replace(self, shown=tuple(dict.fromkeys([*numbers, *outside])))

    @property
    def second_answer_tokens(self) -> int:
        """Room for a label."""
        return SECOND_ANSWER_TOKENS

    def request(self, form: str) -> str:
        """Which labels there are, and with ``cot`` the JSON that an answer is."""
        meaning = f"The labels:\n{self.listed()}\n\n" if self.descriptions else ""
        which = "one of these labels" if self.descriptions else "one label"
        names = "" if self.descriptions else f": {self.listed()}"
        others = "" if self.out_of_scope is None else f" Where no other label fits, the label is {self.out_of_scope}."
        if form == "cot":
            return (
                f"{meaning}Think about the TEXT step by step first, in one or two sentences, then choose exactly "
                f"{which}{names}.{others}\nAnswer only with JSON of this form: "
                '{"reason": "your reasoning in one or two sentences", "label": "one of the labels"}'
            )
        return f"{meaning}Answer with exactly {which}, and nothing else{names}.{others}"

    def listed(self) -> str:
        """The labels in one line, or with their descriptions a line each."""
        if not self.descriptions:
            return ", ".join(self.choices)
        shown = range(len(self.labels)) if self.shown is None else self.shown
        return described(self.choices, [self.descriptions[number] for number in shown])

    def example(self, form: str, value: str, reason: str, text: str) -> str:
        """The label, with ``cot`` as JSON behind its reason."""
        return json.dumps({"reason": reason, "label": value}, ensure_ascii=False) if form == "cot" else value

    def made_up(self, number: int) -> str:
        """One of the labels, as JSON."""
        return f'{{"reason": "no model", "label": "{self.labels[number % len(self.labels)]}"}}'

    def ask_again(self) -> str:
        """Which label it is."""
        return f"Which one label is it? Answer with exactly one of these, and nothing else: {', '.join(self.choices)}."

    def schema(self, max_tokens: int) -> str:
        """The JSON Schema of a ``cot`` answer whose reason is short enough for the whole to end in time."""
        # A token holds two characters at the least where it counts: in English four or five.
        reason = {"type": "string", "maxLength": max(20, 2 * max_tokens - 40)}
        properties = {"reason": reason, "label": {"enum": list(self.choices)}}
        return json.dumps(
            {
                "type": "object",
                "properties": properties,
                "required": ["reason", "label"],
                "additionalProperties": False,
            }
        )

    def read(self, answer: str) -> str | None:
        """The one label that an answer names (:mod:`runner.tasks.single_label.answers`)."""
        return read_label(answer, self.labels)

    def next_votes(self, votes: Sequence[str | None], total: int, early_stop: bool) -> int:
        """As many as can still change the majority (:mod:`runner.tasks.single_label.votes`)."""
        return next_votes(votes, total, early_stop)

    def scorer(self, encode: Encode, ends: Sequence[int], exhaustive: bool = False) -> LabelScorer:
        """The labels in the model's tokens. :raises ValueError: when these do not tell them apart."""
        try:
            trie = LabelTrie.build(encode(self.choices), *ends)
        except ValueError as error:
            raise ValueError(f"the model cannot tell the labels apart: {error}; rename them") from error
        return LabelScorer(trie, exhaustive, None if self.shown is None else Places(self.shown, len(self.labels)))


def answer_format(task: Mapping[str, Any]) -> LabelAnswer:
    """The form of an answer, from the spec's section ``task``."""
    return LabelAnswer(names(task), descriptions(task), task.get("out_of_scope"))


def scored(spec: Spec, encode: Encode) -> Scored:
    """A request for each branch of the label tree, behind the tokens that lead there; of a typical shortlist.

    :raises ValueError: when the labels have the same tokens.
    """
    form: AnswerFormat = answer_format(vars(spec.task))
    ids = encode(typical(form, spec.teacher.shortlist).choices)
    try:
        trie = LabelTrie.build(ids, 1 + max(max(row, default=0) for row in ids))
    except ValueError as error:
        said = f"task.labels: {spec.teacher.model} cannot tell the labels apart: {error}; rename them"
        raise ValueError(said) from error
    prefixes = [len(branch.prefix) for branch in trie.branches for _ in branch.requests]
    return Scored(prefixes, len(prefixes) if spec.teacher.exhaustive else expected_requests(trie))


def key(spec: Spec) -> dict[str, Any]:
    """The part of the task that decides an answer, besides the words of the prompt; it goes into fingerprints."""
    labels = spec.task.labels
    ends = {"ends": "all"} if spec.teacher.prompt == "direct" and _overlap(labels) else {}
    return {"labels": list(labels)} | ends


def _overlap(labels: Sequence[str]) -> bool:
    """Whether a label begins another, so that the end of the turn tells them apart."""
    return any(later.startswith(earlier) for earlier, later in pairwise(sorted(labels)))


def probabilities_of(spec: Spec, cell: str) -> list[float] | None:
    """A recorded cell as probabilities by label; None where it names a label, or nothing."""
    return distribution(cell, spec.task.labels)


def is_open(spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether further votes are needed."""
    return bool(missing(records, answer_format(vars(spec.task)), spec.teacher.votes, spec.teacher.early_stop))


def has_answer(spec: Spec, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a vote that counts names a label."""
    return any(counted(records, answer_format(vars(spec.task)), spec.teacher.votes, spec.teacher.early_stop))


def reason_of(answer: str) -> str:
    """The ``reason`` of an answer in JSON, even where the rest of it cannot be read."""
    return read_reason(answer)
