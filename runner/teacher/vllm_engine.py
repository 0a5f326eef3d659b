"""vLLM: the one file that knows its API. An engine in this process, fed with token ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import EngineError

BLOCK_TOKENS = 32
"""Prefix caching reuses whole blocks. vLLM's CPU default, 128, wastes much of a 200-token prefix."""

CPU_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is started with; lengths in tokens."""

    max_context: int
    gpus: int
    seed: int


@dataclass(frozen=True)
class Sample:
    """One sampled answer and how many tokens it took."""

    text: str
    tokens: int


class VllmEngine:
    """A model in vLLM.

    :raises EngineError: when it cannot start, with what to change.
    """

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        # In this process: the actor is the process that Ray restarts, and nothing outlives it.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0" if settings.gpus <= 1 else "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        if settings.gpus == 0:
            # Compiling takes a minute or more and gains nothing that could be measured on CPUs.
            os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
        from vllm import LLM

        options: dict[str, Any] = {}
        if settings.gpus == 0:
            options = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True, "dtype": "bfloat16"}
        try:
            self._llm = LLM(
                str(folder),
                max_model_len=settings.max_context,
                tensor_parallel_size=max(1, settings.gpus),
                block_size=BLOCK_TOKENS,
                enable_prefix_caching=True,
                seed=settings.seed,
                disable_log_stats=True,
                trust_remote_code=False,
                **options,
            )
        except Exception as error:  # vLLM raises whatever its layers raise
            raise EngineError(f"the teacher's engine could not start: {_advice(error)}") from error
        self.tokenizer = self._llm.get_tokenizer()

    def next_token_logprobs(
        self, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[int]]
    ) -> list[dict[int, float]]:
        """For each prompt, the log-probability of each of its ``choices`` as the next token."""
        from vllm import SamplingParams

        parameters = [
            SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens), detokenize=False)
            for tokens in choices
        ]
        outputs = self._generate(prompts, parameters)
        return [
            {token: output.outputs[0].logprobs[0][token].logprob for token in tokens}
            for output, tokens in zip(outputs, choices, strict=True)
        ]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        votes: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seeds: Sequence[int],
    ) -> list[list[Sample]]:
        """``votes`` sampled answers for each prompt; a prompt's seed makes them repeatable."""
        from vllm import SamplingParams

        parameters = [
            SamplingParams(n=votes, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
            for seed in seeds
        ]
        return [
            [Sample(answer.text, len(answer.token_ids)) for answer in output.outputs]
            for output in self._generate(prompts, parameters)
        ]

    def _generate(self, prompts: Sequence[Sequence[int]], parameters: list[Any]) -> list[Any]:
        inputs: list[Any] = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        outputs: list[Any] = self._llm.generate(inputs, parameters, use_tqdm=False)
        return outputs


def _advice(error: Exception) -> str:
    """The engine's own words, and what to do about them."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    # Pydantic counts its errors on the first line and says them on the next.
    text = lines[min(1, len(lines) - 1) if "validation error" in lines[0] else 0].strip()[:300]
    lowered = text.lower()
    if "memory" in lowered or "kv cache" in lowered:
        return f"{text}; ask for more GPUs or a larger accelerator, a smaller model, or a smaller teacher.max_context"
    if "max_model_len" in lowered or "max_position" in lowered:
        return f"{text}; set teacher.max_context to what the model holds"
    return f"{text}; `tutelage doctor` shows what works on this machine"
