"""An engine without a model: instant answers that mean nothing, to measure and test all that stands around one."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from runner.teacher.engines.protocol import Deliver, Reply, Request, ScoreTokens

_WORD = re.compile(r"\w+|[^\w\s]")


class NoopTokenizer:
    """Words as tokens, by a hash; no chat template."""

    chat_template = None
    eos_token_id = 0
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012  # the shape of a Hugging Face tokenizer

    def __call__(self, texts: Sequence[str], **options: Any) -> dict[str, list[list[int]]]:
        """Token ids from 1 up; equal words, equal ids."""
        return {
            "input_ids": [[zlib.crc32(word.encode()) % 2**31 + 1 for word in _WORD.findall(text)] for text in texts]
        }

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """Their numbers: the words are not kept."""
        return list(map(str, ids))


class NoopEngine:
    """Answers at once: a distribution that the prompt's hash decides, or what ``made_up`` makes of it.

    ``seconds`` makes each answer take that long (``engine_options: {seconds: 0.01}``).
    """

    def __init__(self, made_up: Callable[[int], str], seconds: float = 0.0) -> None:
        self.tokenizer = NoopTokenizer()
        self.block_tokens: int | None = None
        self._made_up, self._seconds = made_up, seconds

    def submit(self, prompt: Sequence[int], request: Request, deliver: Deliver) -> None:
        """See :class:`runner.teacher.engines.protocol.Engine`; here the reply comes before ``submit`` returns."""
        if self._seconds:
            time.sleep(self._seconds)
        number = hash(tuple(prompt[-64:]))
        if isinstance(request, ScoreTokens):
            deliver(Reply(tokens=1, logprobs={t: -float((number >> i) % 7) for i, t in enumerate(request.tokens)}))
        else:
            deliver(Reply(self._made_up(number ^ request.seed), tokens=8))

    def answering(self, made_up: Callable[[int], str]) -> NoopEngine:
        """The same for another task."""
        return NoopEngine(made_up, self._seconds)

    def close(self) -> None:
        """Nothing is held."""
