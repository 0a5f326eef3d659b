"""What a kind of task offers to whoever asks the teacher: the form of an answer, and the conversation about a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runner.teacher.engines.protocol import Reply, Request, Sample

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Answers in tokens, each as the model would write it at the start of its turn."""

SECOND_ANSWER_TOKENS = 32
"""Room for one answer of a few words, asked for once more and with nothing else."""


class NotFiniteError(ValueError):
    """A model gave something other than log-probabilities: NaN, infinity, or no probability for any answer."""


@dataclass(frozen=True)
class Ask:
    """One request. ``vote`` and ``attempt`` say which answer it is (attempt 1 asks again after an unusable one)."""

    prompt: Sequence[int]
    request: Request
    vote: int = 0
    attempt: int = 0


class Conversation(Protocol):
    """All that is asked about one row. ``records``: its raw replies, as they are stored."""

    records: list[dict[str, Any]]

    def begin(self) -> list[Ask]:
        """The first questions."""

    def on_reply(self, ask: Ask, reply: Reply) -> list[Ask]:
        """Take a reply in; the next questions, if any. Nothing under way and nothing next: the row is done.

        :raises NotFiniteError: when the model computes no numbers any more: the row has no answer.
        """


class Scorer(Protocol):
    """Prompt ``direct`` with one model: the probabilities of answers that are known beforehand."""

    @property
    def reserved(self) -> int:
        """Tokens of the context that a prompt must leave free."""

    def conversation(self, prompt: list[int], earlier: Sequence[Mapping[str, Any]]) -> Conversation:
        """What is asked about the row of that prompt; nothing where ``earlier`` records have it."""


class AnswerFormat(Protocol):
    """The form of an answer, in the prompt and when it is read. It goes to workers: a small value that pickles.

    ``form`` is the spec's ``teacher.prompt``: ``direct`` or ``cot``.
    """

    @property
    def choices(self) -> Sequence[str]:
        """The answers that are named in the prompt, where there are only so many."""

    @property
    def second_answer_tokens(self) -> int:
        """Tokens that a second answer, which is the value and nothing else, may have."""

    @property
    def meanings(self) -> Sequence[str]:
        """What each of the choices means, in words that can be compared with a text; empty where there are none."""

    def narrowed(self, numbers: Sequence[int]) -> AnswerFormat:
        """The same with only the choices of these numbers to choose from; itself where there are no choices.

        What an answer says is read as before, and the probabilities of a :meth:`scorer` are of all choices, 0 for those
        that are left out.
        """

    def listed(self) -> str:
        """The answers as a template of the user's own names them (``{labels}``)."""

    def request(self, form: str) -> str:
        """The sentence that says how to answer."""

    def example(self, form: str, value: Any, reason: str, text: str) -> str:
        """What the teacher should have said of the ``text`` of a few-shot example; of a ``value`` that is text, as
        recorded answers are, how long an answer would be."""

    def made_up(self, number: int) -> str:
        """An answer that any ``number`` decides and that means nothing: what an engine without a model says."""

    def ask_again(self) -> str:
        """The turn that follows an answer that cannot be read."""

    def schema(self, max_tokens: int) -> str:
        """The JSON Schema of a ``cot`` answer whose whole ends within ``max_tokens``."""

    def read(self, answer: str) -> Any:
        """The value that an answer says; None where it says none, or more than one. Never a guess."""

    def next_votes(self, votes: Sequence[Any], total: int, early_stop: bool) -> int:
        """How many of ``total`` votes are drawn next, after ``votes``; 0 where no vote can change the outcome."""

    def scorer(self, encode: Encode, ends: Sequence[int], exhaustive: bool = False) -> Scorer:
        """``ends``: the tokens with which the model may end its turn; ``exhaustive``: ask even where hardly any
        probability is left. :raises ValueError: when it cannot be asked.
        """


@dataclass(frozen=True)
class Scored:
    """What prompt ``direct`` asks about one row: of each request that there may be, how many of the answer's tokens
    stand behind the prompt, and how many requests are ``expected`` to be made on average.
    """

    prefixes: list[int]
    expected: float


def is_settled(answer: Mapping[str, Any], exhaustive: bool) -> bool:
    """Prompt ``direct``: whether a stored answer will do; one that left something ``unasked`` is none where all is
    wanted.
    """
    return not exhaustive or not answer.get("unasked")


def record(
    ask: Ask, reply: Reply, probabilities: list[float] | None = None, unasked: float | None = None
) -> dict[str, Any]:
    """A reply as it is stored, but for the row's id.

    ``unasked``: how much of the probability reached answers that were not told apart, so that each of their
    ``probabilities`` may be off by as much.
    """
    return {
        "vote": ask.vote,
        "attempt": ask.attempt,
        "text": reply.text if isinstance(ask.request, Sample) else None,
        "label_probabilities": probabilities,
        "unasked": unasked,
        "prompt_tokens": len(ask.prompt),
        "output_tokens": reply.tokens,
    }
