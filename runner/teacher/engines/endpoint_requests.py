"""What is asked of a server's completions API, and what its answers mean. Knows no HTTP."""

from __future__ import annotations

import math
from typing import Any

from runner.teacher.engines.protocol import Reply, Request, Sample, ScoreTokens

_PLAIN = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Said in every request: a server takes what is not said from the model's generation_config.json."""

_ZERO = -9999.0
"""What a server writes for a probability of 0, since JSON has no infinity."""


def fields_of(request: Request) -> dict[str, Any]:
    """The fields of a completions request, but for model and prompt."""
    return _score_fields(request) if isinstance(request, ScoreTokens) else _sample_fields(request)


def _score_fields(request: ScoreTokens) -> dict[str, Any]:
    return _PLAIN | {
        "max_tokens": 1,
        "temperature": 0.0,
        "logprob_token_ids": list(request.tokens),
        "logprobs": 1,  # must be there, but the tokens asked for take precedence over its number
        "return_tokens_as_token_ids": True,
    }


def _sample_fields(request: Sample) -> dict[str, Any]:
    sampling = request.sampling
    fields = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": request.seed,
    }
    return _PLAIN | fields | ({"structured_outputs": {"json": sampling.schema}} if sampling.schema else {})


def reply_of(request: Request, answer: Any) -> Reply:
    """What a server answered. :raises KeyError, IndexError, TypeError: when the answer has another form."""
    choice = answer["choices"][0]
    if isinstance(request, Sample):
        text, tokens = choice["text"], answer["usage"]["completion_tokens"]
        if not isinstance(text, str) or type(tokens) is not int:
            raise TypeError("no text")
        return Reply(text, tokens)
    logprobs = choice["logprobs"]["top_logprobs"][0]
    return Reply(tokens=1, logprobs={token: _logprob(logprobs[f"token_id:{token}"]) for token in request.tokens})


def _logprob(value: Any) -> float:
    """A number as it is meant. JSON has no NaN either: some servers write null."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return -math.inf if value <= _ZERO else float(value)
