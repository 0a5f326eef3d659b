"""What is said of a teacher's memory before anything is spent: whether it fits, how much it has in hand, what would do.

Two verdicts are certain: weights and one context that are more than vLLM takes of a GPU do not fit, whatever else it
needs; and what fits with all that it is estimated to need. Between them it is tight, and said to be so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.models import ModelFacts
from runner.models.architecture import Part, UnknownArchitectureError
from runner.planning.hardware.layouts import IndivisibleError
from runner.planning.hardware.memory import FEW_SEQUENCES, Fit, Steps, fit, utilisation
from runner.planning.hardware.weights import parts_of
from runner.system.accelerators import GIB, Accelerator, accelerators

SMALL_STEP = {"max_num_batched_tokens": 2048, "max_num_seqs": 128}
"""Options of vLLM that leave more room for the cache; steps are smaller, and there are more of them."""
SCALED_ALREADY = {"default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
"""Kinds of rotary positions whose factor vLLM does not apply to ``max_position_embeddings`` (vllm/config/model.py)."""


@dataclass(frozen=True)
class Asked:
    """What a spec asks for: the model's name, GPUs of a kind, tokens of a context, and options of vLLM."""

    model: str
    gpu: Accelerator
    gpus: int
    max_context: int
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """Tokens of a row that the cache holds: ``shared`` with all others, and its ``own``."""

    shared: int
    own: int


@dataclass
class Verdict:
    """``fit`` is None where nothing can be counted. A problem stops the run, a note does not."""

    arithmetic: str
    fit: Fit | None = None
    sequences: int | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, in GiB on each GPU."""
        if self.fit is None:
            return {"arithmetic": self.arithmetic}
        found = {"weights": self.fit.weight_bytes, "reserve": self.fit.reserve, "cache": max(0, self.fit.room)}
        return {
            "need_gib": (self.fit.weight_bytes + self.fit.reserve) / GIB,
            "have_gib": self.fit.budget / GIB,
            **{f"{name}_gib": size / GIB for name, size in found.items()},
            "kv_bytes_per_token": self.fit.cache.bytes_per_token,
            "dtype": self.fit.dtype,
            "sequences": self.sequences,
            "arithmetic": self.arithmetic,
        }


def judge(asked: Asked, facts: ModelFacts, row: Row | None = None) -> Verdict:
    """Whether the model fits into what is asked for; with ``row``, also how many rows are in hand at once."""
    if reason := context_too_long(asked.model, asked.max_context, facts, asked.options):
        return Verdict("not counted: the context is longer than the model's", problems=[reason])
    if facts.config is None:
        return _undivided(asked, facts)
    try:
        parts = parts_of(facts.config, facts.folder)
        found = fit(facts.config, parts, asked.gpu, asked.gpus, asked.max_context, asked.options)
    except UnknownArchitectureError as error:
        return Verdict(f"unknown: {error}", notes=[f"teacher.resources: memory is not counted, for {error}"])
    except IndivisibleError as error:
        return Verdict(str(error), problems=[f"teacher.resources.gpus: {asked.model}: {error}"])
    verdict = Verdict(_arithmetic(asked, found), found)
    verdict.problems += _wrong_dtype(asked, found)
    if not found.may_hold(asked.max_context):
        verdict.problems.append(
            f"teacher.resources: {asked.model} does not fit: {verdict.arithmetic}. {_would_do(asked, facts, parts)}"
        )
    elif not found.holds(asked.max_context):
        verdict.notes.append(
            f"teacher.resources: {asked.model} may not fit: {verdict.arithmetic}. {_smaller_step(asked, facts, parts)}"
        )
    elif row is not None:
        verdict.sequences = found.sequences(row.shared, row.own)
        verdict.arithmetic += f": {verdict.sequences:,} rows at once"
        verdict.notes += _few(asked, verdict.sequences, found.step)
    return verdict


def context_too_long(model: str, max_context: int, facts: ModelFacts, options: Mapping[str, Any]) -> str | None:
    """Why a teacher cannot read ``max_context`` tokens: vLLM refuses more than the model has positions for.

    None where it can, where the model's own number is not known, or where something else stretches it
    (``_get_and_verify_max_len`` of vllm/config/model.py).
    """
    if facts.context is None or max_context <= facts.context or options.get("hf_overrides"):
        return None
    config = facts.config or {}
    if config.get("model_max_length") is not None or _stretched(config):
        return None
    return (
        f"teacher.max_context: {max_context} tokens are more than {model} reads ({facts.context}): "
        f"set it to {facts.context} or less"
    )


def _stretched(config: Mapping[str, Any]) -> bool:
    """Whether rotary positions are scaled by a factor that ``max_position_embeddings`` does not have in it yet."""
    found = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(found, Mapping):
        return found is not None
    kinds = [one for one in found.values() if isinstance(one, Mapping)] or [found]  # one for all layers, or for each
    return any(str(one.get("rope_type", one.get("type", "default"))) not in SCALED_ALREADY for one in kinds)


def _undivided(asked: Asked, facts: ModelFacts) -> Verdict:
    """Of a model of which only the size is known: divided evenly, and without its cache."""
    if facts.weight_bytes is None:
        return Verdict("unknown: the model is not on this machine")
    each, take = facts.weight_bytes / asked.gpus, utilisation(asked.options) * asked.gpu.memory_bytes
    arithmetic = f"weights {each / GIB:.1f} GiB on each of {asked.gpus} x {asked.gpu.name}: {take / GIB:.1f} GiB"
    if each > take:
        return Verdict(arithmetic, problems=[f"teacher.resources: {asked.model} does not fit: {arithmetic}"])
    return Verdict(f"{arithmetic}; its KV cache is not counted, for it has no config.json here")


def _arithmetic(asked: Asked, fit: Fit) -> str:
    gpu, share = asked.gpu, utilisation(asked.options)
    quantised = f" ({fit.layout.name})" if fit.layout.name else ""
    left = f"; {fit.room / GIB:.1f} GiB are left for the KV cache" if fit.room > 0 else ""
    return (
        f"weights {fit.weight_bytes / GIB:.1f} GiB{quantised} and about {fit.reserve / GIB:.1f} GiB to work with, "
        f"on each of {asked.gpus} x {gpu.name}, where vLLM takes {share:.0%} of {gpu.memory_bytes / GIB:.1f} GiB: "
        f"{fit.budget / GIB:.1f} GiB{left}"
    )


def _wrong_dtype(asked: Asked, fit: Fit) -> list[str]:
    """vLLM asks this in its worker alone, after the model's configuration is loaded (``check_if_supports_dtype``)."""
    if fit.dtype == "bfloat16" and not asked.gpu.bf16:
        return [
            f"teacher.engine_options.dtype: {asked.gpu.name} does not compute in bfloat16 (compute capability "
            f"{'.'.join(map(str, asked.gpu.capability))}, 8.0 is needed): leave it out, or set float16"
        ]
    return []


def _few(asked: Asked, sequences: int, step: Steps) -> list[str]:
    if sequences >= FEW_SEQUENCES:
        return []
    if sequences == step.sequences:  # the cache holds as many, or more
        given = asked.options.get("max_num_seqs") == sequences
        option = "max_num_seqs" if given else "max_num_batched_tokens"
        return [
            f"teacher.engine_options.{option}: a step has {sequences} rows at most, and under {FEW_SEQUENCES} a GPU "
            "mostly waits for its own memory: raise it, or leave it out"
        ]
    return [
        f"teacher.resources: the KV cache holds {sequences} rows at once, and under {FEW_SEQUENCES} a GPU mostly waits "
        "for its own memory: take more or larger GPUs, a quantised build, or engine_options.kv_cache_dtype: fp8"
    ]


def _smaller_step(asked: Asked, facts: ModelFacts, parts: Counter[Part]) -> str:
    assert facts.config is not None
    smaller = _small_step(asked)
    less = fit(facts.config, parts, asked.gpu, asked.gpus, asked.max_context, {**asked.options, **smaller})
    if smaller and less.holds(asked.max_context):
        told = ", ".join(f"{name}: {value}" for name, value in smaller.items())
        return f"With engine_options: {{{told}}} it should. {_would_do(asked, facts, parts)}"
    return _would_do(asked, facts, parts)


def _small_step(asked: Asked) -> dict[str, int]:
    """Options for a smaller step than is asked for: no more than that, and whole contexts where prompts are read whole
    (vllm/config/scheduler.py refuses less)."""
    small = dict(SMALL_STEP)
    if asked.options.get("enable_chunked_prefill") is False:
        small["max_num_batched_tokens"] = max(small["max_num_batched_tokens"], asked.max_context)
    now = {name: asked.options.get(name) for name in small}
    return {name: size for name, size in small.items() if (mine := now[name]) is None or mine > size}


def would_do(facts: ModelFacts, parts: Counter[Part], max_context: int, options: Mapping[str, Any]) -> dict[str, int]:
    """The fewest GPUs (1, 2, 4 or 8) of each kind that hold the model, for the kinds that do."""
    assert facts.config is not None
    found = {}
    for gpu in accelerators().values():
        for gpus in (1, 2, 4, 8):
            try:
                if fit(facts.config, parts, gpu, gpus, max_context, options).holds(max_context):
                    found[gpu.name] = gpus
                    break
            except IndivisibleError:
                continue
    return found


def _would_do(asked: Asked, facts: ModelFacts, parts: Counter[Part]) -> str:
    enough = would_do(facts, parts, asked.max_context, asked.options)
    kinds = ", ".join(f"{gpus} x {name}" for name, gpus in enough.items())
    ways = "a quantised build, a smaller model, or a smaller teacher.max_context"
    return f"Enough are {kinds}; or take {ways}" if kinds else f"No kind of GPU in one node is enough: take {ways}"
