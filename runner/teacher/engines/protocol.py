"""What every engine offers: take a request now, hand its reply over when it is there.

An engine never makes its callers wait for each other. Rows of many batches are inside it at once, each
finished one makes room for the next, and no batch is a barrier. Engines: ``vllm`` (a model in this process),
``endpoint`` (a server that the user hosts), ``noop`` (nothing, for measuring the rest).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class ScoreTokens:
    """Ask for the log-probability of each of these tokens as the next one; nothing is drawn."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. ``schema``: the JSON Schema that it must keep to, as text."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    schema: str | None = None


@dataclass(frozen=True)
class Sample:
    """Ask for one sampled answer. The same prompt, sampling and seed give the same answer."""

    sampling: Sampling
    seed: int


Request = ScoreTokens | Sample


@dataclass(frozen=True)
class Reply:
    """What came back: the text of a :class:`Sample`, or the log-probabilities of a :class:`ScoreTokens`.

    ``cached``: tokens of the prompt that the engine had computed before; None where it does not say.
    """

    text: str = ""
    tokens: int = 0
    logprobs: dict[int, float] = field(default_factory=dict)
    cached: int | None = None


Deliver = Callable[[Reply | Exception], None]


class Engine(Protocol):
    """A model that answers token prompts.

    ``block_tokens``: how many tokens of a prompt its cache keeps together, so that only whole blocks are reused; None
    where it does not say.
    """

    tokenizer: Any
    block_tokens: int | None

    def submit(self, prompt: Sequence[int], request: Request, deliver: Deliver) -> None:
        """Take a request. ``deliver`` is called once, from another thread: it must be quick and not raise."""

    def close(self) -> None:
        """Let go of what the engine holds; requests under way get an error."""
