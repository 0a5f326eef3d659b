"""What makes a teacher slower or less sure than it could be, as its tokenizer and a second request tell."""

from __future__ import annotations

import queue
from collections.abc import Sequence

from runner.teacher.engines.protocol import Engine, Reply, Sample, Sampling
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.renderer import Renderer

PROBE = "Net sales rose in the second quarter of the year"
TOO_SHORT_TO_KEEP = (
    "the engine keeps {block} tokens of a prompt together, and what all prompts share has {shared}: it is computed "
    "again for every row. "
)
PUT_LAST = "Put {{text}} at the end of teacher.template"
SHOW_ALIKE = "task.examples.select: diverse shows all rows the same examples"
SHOW_MORE = "More examples or longer instructions, up to {block} tokens, would cost nothing"
NOTHING_KEPT = (
    "the engine kept nothing of the {shared} tokens that all prompts share, and computes them again for every row: "
    "it has no prefix cache for this model"
)


def cache_warnings(engine: Engine, renderer: Renderer, settings: EngineSettings, own_examples: bool) -> list[str]:
    """What to say of the tokens of the prompt, and of the part of it that the engine keeps from row to row.

    ``own_examples``: each row is shown examples of its own, so that prompts share little.
    """
    template = renderer.task.template
    try:
        text_ids = renderer.text_ids(PROBE)
        seam = None if template else renderer.seam(PROBE)
    except ValueError:  # a word of the probe is a control token of this model
        return []
    warnings = [f"the teacher's tokenizer cuts the prompt in other tokens than the model knows: {seam}"] if seam else []
    block, shared = engine.block_tokens, len(renderer.head)
    if block is None or settings.options.get("enable_prefix_caching") is False:
        return warnings
    if shared < block:
        way = PUT_LAST if template else SHOW_ALIKE if own_examples else SHOW_MORE
        return [*warnings, TOO_SHORT_TO_KEEP.format(block=block, shared=shared) + way.format(block=block)]
    cached = _cached_tokens(engine, renderer.prompt(text_ids))
    return warnings if cached else [*warnings, NOTHING_KEPT.format(shared=shared)]


def _cached_tokens(engine: Engine, prompt: Sequence[int]) -> int | None:
    """How many tokens of a prompt the engine did not have to compute again."""
    inbox: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
    one_token = Sample(Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=1), seed=0)
    engine.submit(prompt, one_token, inbox.put)
    reply = inbox.get()
    return None if isinstance(reply, Exception) else reply.cached
