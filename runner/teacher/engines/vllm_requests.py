"""Requests as vLLM takes them, and what its outputs mean."""

from __future__ import annotations

import copy
import time
from typing import Any

from runner.system.errors import EngineError
from runner.teacher.engines.protocol import Reply, Request, Sample, Sampling, ScoreTokens


class RequestMaker:
    """vLLM's requests. It checks the parameters of the first of each kind and fills them in, which takes a tenth of a
    millisecond; the others are copies of that one, with a prompt and a seed of their own.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._first: dict[tuple[int, ...] | Sampling, Any] = {}

    def make(self, number: str, prompt: list[int], request: Request) -> Any:
        """A request named ``number``. :raises ValueError: when vLLM refuses its parameters, or it is too long."""
        kind = request.tokens if isinstance(request, ScoreTokens) else request.sampling
        if kind not in self._first:
            self._first[kind] = self._checked(number, prompt, request)
        self._check(prompt)
        made = copy.copy(self._first[kind])
        made.request_id, made.prompt_token_ids, made.arrival_time = number, prompt, time.time()
        if isinstance(request, Sample):
            made.sampling_params = copy.copy(made.sampling_params)
            made.sampling_params.seed = request.seed
        return made

    def _checked(self, number: str, prompt: list[int], request: Request) -> Any:
        from vllm.inputs.engine import tokens_input

        tasks = self._engine.get_supported_tasks()
        return self._engine.input_processor.process_inputs(number, tokens_input(prompt), _parameters(request), tasks)

    def _check(self, prompt: list[int]) -> None:
        """What vLLM checks of every prompt. :raises ValueError: where one would break the step for all."""
        most = self._engine.model_config.max_model_len
        if not 0 < len(prompt) < most:
            raise ValueError(f"a prompt of {len(prompt)} tokens does not fit into a context of {most}")
        self._engine.renderer.validate_token_ids(prompt)


def _parameters(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    final = RequestOutputKind.FINAL_ONLY
    if isinstance(request, ScoreTokens):
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(request.tokens),
            detokenize=False,
            output_kind=final,
        )
    sampling = request.sampling
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        seed=request.seed,
        output_kind=final,
        structured_outputs=StructuredOutputsParams(json=sampling.schema) if sampling.schema else None,
    )


def outcome_of(request: Request, output: Any) -> Reply | EngineError:
    """What is delivered of a request that has ended."""
    try:
        return _reply(request, output)
    except (IndexError, KeyError, TypeError, AttributeError):
        why = next((str(end.finish_reason) for end in output.outputs or () if end.finish_reason), "no reason given")
        return EngineError("teacher.no-answer", f"the engine ended a request without an answer ({why})")


def _reply(request: Request, output: Any) -> Reply:
    answer = output.outputs[0]
    if isinstance(request, Sample):
        return Reply(answer.text, len(answer.token_ids), cached=output.num_cached_tokens)
    logprobs = answer.logprobs[0]
    found = {token: logprobs[token].logprob for token in request.tokens}
    return Reply(tokens=1, logprobs=found, cached=output.num_cached_tokens)
