"""Prompts in tokens: the part that all rows share once, and each row's text on its own.

The text of a row is tokenised with control tokens read as plain characters, so that data cannot end a turn or open one.
Needs only a Hugging Face tokenizer; knows no engine.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from runner.teacher.parts import part_tokenizer
from runner.teacher.prompt import Task, messages

_MARK = "\u2402TEXT\u2403"
_ANSWER_MARK = "\u2402ANSWER\u2403"
_SYSTEM_MARK = "\u2402SYSTEM\u2403"

# Turn markers of the common chat formats. Some models (Mixtral) spell them as plain text, so that a
# tokenizer's list of special tokens does not hold them.
_CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<\uff5c[^\uff5c]{1,40}\uff5c>|\[/?[A-Z_]{3,24}\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
)
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")
_BLANKS = " \t\r\n\u2581"

CONTROL_LEFT = "the text holds a control token of the model"

MOST_STARS = 256
"""How far a prompt is lengthened to fill blocks: where one holds hundreds of tokens, that would be a page of them."""


def neutralise(text: str, added: Sequence[str] = ()) -> str:
    """``text`` with every control sequence broken by a blank, so that it reads as what it is: text."""
    text = _UNENCODABLE.sub(" ", text)
    text = _CONTROL.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
    for token in added:
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


class Renderer:
    """Token ids of the whole prompt for a text, for one task and one tokenizer.

    With ``align`` the part that all prompts share ends where a block of so many tokens ends: an engine's cache
    reuses whole blocks, and what is over would be computed again for every row.
    """

    def __init__(self, tokenizer: Any, task: Task, align: int = 1) -> None:
        self.tokenizer, self.task = tokenizer, task
        self._parts = part_tokenizer(tokenizer)
        added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        # Some tokenizers (Gemma, GPT-NeoX) also add runs of blanks and line ends: these say nothing.
        added = {number: token for number, token in added.items() if token.strip(_BLANKS)}
        self._added_ids, self._added = set(added), list(added.values())
        self._take_apart()
        if align > 1 and task.template is None:
            self._align(align)

    def _take_apart(self) -> None:
        """What stands before a text and after it."""
        head, tail = render_chat(self.tokenizer, messages(self.task, _MARK)).split(_MARK)
        # The blank belongs to the text: tokenizers join it to the first word.
        self.head = self._parts.whole(head.rstrip(" "))
        self._blank = " " if head.endswith(" ") else ""
        self.tail = self._parts.trusted(tail)

    def _align(self, block: int) -> None:
        """Lengthen the instructions by a rule of asterisks until the fixed part fills whole blocks."""
        plain = self.task
        for stars in range(MOST_STARS):
            self.task = replace(plain, filler=" ".join("*" * stars))
            self._take_apart()
            if len(self.head) % block == 0:
                return
        self.task = plain
        self._take_apart()

    @cached_property
    def _second_question(self) -> tuple[list[int], list[int]]:
        """What stands between the text and the teacher's first answer, and between that and its second."""
        turns = [
            *messages(self.task, _MARK),
            {"role": "assistant", "content": _ANSWER_MARK},
            {"role": "user", "content": self.task.answers.ask_again()},
        ]
        middle, end = render_chat(self.tokenizer, turns).split(_MARK)[1].split(_ANSWER_MARK)
        return self._parts.trusted(middle), self._parts.trusted(end)

    @property
    def fixed_tokens(self) -> int:
        """Tokens of a prompt besides the text."""
        return len(self.head) + len(self.tail)

    def text_ids(self, text: str) -> list[int]:
        """The text's own tokens. :raises ValueError: when a control token is left among them."""
        found = self.all_text_ids([text])[0]
        if found is None:
            raise ValueError(CONTROL_LEFT)
        return found

    def all_text_ids(self, texts: Sequence[str]) -> list[list[int] | None]:
        """Each text's own tokens, encoded together; None where a control token is left among them."""
        found = self._parts.data([self._blank + neutralise(text, self._added) for text in texts])
        return [None if self._added_ids.intersection(ids) else ids for ids in found]

    def prompt(self, text_ids: Sequence[int]) -> list[int]:
        """The whole prompt around a text's tokens."""
        return [*self.head, *text_ids, *self.tail]

    def prompt_again(self, text_ids: Sequence[int], first_answer: str, most: int) -> list[int]:
        """The prompt with an answer that could not be read and the question what it is, in at most ``most`` tokens."""
        middle, end = self._second_question
        (said,) = self._parts.data([neutralise(first_answer, self._added)])
        room = most - len(self.head) - len(text_ids) - len(middle) - len(end)
        return [*self.head, *text_ids, *middle, *said[: max(0, room)], *end]

    @property
    def again_tokens(self) -> int:
        """Tokens that the second question adds to a prompt, without the first answer."""
        return sum(map(len, self._second_question)) - len(self.tail)

    def answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        """Answers as the model would write each at the start of its turn: with the blank that the chat template puts
        before an answer, if it does."""
        before = _before_answer(self.tokenizer)
        return self._parts.data([before + text for text in answers])

    def seam(self, text: str) -> str | None:
        """Where the prompt around ``text`` differs from its joint encoding, for people; None where it does not.

        A difference does no harm by itself, but the model may never have seen such tokens side by side.
        """
        apart = self.prompt(self.text_ids(text))
        joint = self._parts.whole(render_chat(self.tokenizer, messages(self.task, neutralise(text, self._added))))
        if apart == joint:
            return None
        pairs = enumerate(zip(apart, joint, strict=False))
        place = next((n for n, (one, other) in pairs if one != other), min(len(apart), len(joint)))
        said = (self.tokenizer.convert_ids_to_tokens(ids[max(0, place - 1) : place + 3]) for ids in (apart, joint))
        return "{} where the whole prompt has {}".format(*map(" ".join, said))


def render_chat(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    """The conversation in the model's own chat template, up to where the model speaks.

    A template without a system role gets the system part at the head of the first user turn; a model
    without a template gets plain paragraphs.
    """
    if not tokenizer.chat_template:
        return "\n\n".join(turn["content"] for turn in turns) + "\n"
    if turns[0]["role"] == "system" and not _knows_system(tokenizer):
        system, first, *rest = turns
        merged = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
        turns = [merged, *rest]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return text


def end_tokens(tokenizer: Any, named: Sequence[int] = ()) -> list[int]:
    """All tokens with which a model ends its turn: the tokenizer's, the chat template's, and those that are ``named``.

    A template says it by what it puts behind an answer. What is not in the vocabulary is left out.
    """
    added = tokenizer.added_tokens_decoder
    found = [tokenizer.eos_token_id, *named, *_after_answer(tokenizer)[:1]]
    size = max([len(tokenizer) if hasattr(tokenizer, "__len__") else 2**31, *(number + 1 for number in added)])
    return list(dict.fromkeys(one for one in found if one is not None and 0 <= one < size))


def _before_answer(tokenizer: Any) -> str:
    """The blanks that the chat template puts between the end of a prompt and an answer to it."""
    if not tokenizer.chat_template:
        return ""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER_MARK}]
    try:
        asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    except Exception:  # a template raises whatever its author chose
        return ""
    between: str = whole.removeprefix(asked).split(_ANSWER_MARK)[0] if whole.startswith(asked) else ""
    return between if not between.strip() else ""


def _after_answer(tokenizer: Any) -> list[int]:
    """The control tokens that follow the words of the assistant's turn at once."""
    if not tokenizer.chat_template:
        return []
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER_MARK}]
    try:
        whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
        after = tokenizer(whole.split(_ANSWER_MARK)[1], add_special_tokens=False)["input_ids"]
    except Exception:  # a template raises whatever its author chose
        return []
    return list(itertools.takewhile(tokenizer.added_tokens_decoder.__contains__, after))


def _knows_system(tokenizer: Any) -> bool:
    probe = [{"role": "system", "content": _SYSTEM_MARK}, {"role": "user", "content": "x"}]
    try:
        return _SYSTEM_MARK in tokenizer.apply_chat_template(probe, tokenize=False, add_generation_prompt=True)
    except Exception:  # a template raises whatever its author chose
        return False
