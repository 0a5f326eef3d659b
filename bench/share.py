"""Which share of a machine's matrix rate a teacher's engine reaches, both measured where and when the work runs.

A large matrix product runs on the engine's own thread, with the threads and the precision that it computes with,
before and after each round of the work. The work is counted: linear layers over the tokens that are read, the head over
one of them, and attention; word vectors are looked up and cost nothing. The rate is the fastest that any product
reached, so that a share is never too high; where it comes out above one all the same, it is not known.
"""

from __future__ import annotations

import json
import queue
import statistics
from pathlib import Path
from typing import Any

from common import matrix_rate


def rate_in(engine: Any, dtype: str) -> float:
    """Operations per second of a large matrix product on the thread of ``engine`` (a VllmEngine) while it is idle."""
    import torch

    from runner.teacher.engines.protocol import ScoreTokens

    found: queue.SimpleQueue[float | Exception] = queue.SimpleQueue()

    def measure(_: Any) -> None:  # the engine hands out replies on the thread that computes
        try:
            found.put(matrix_rate(getattr(torch, dtype)))
        except Exception as error:  # it must not end the engine's thread
            found.put(error)

    tokens = engine.tokenizer("a", add_special_tokens=False).input_ids
    engine.submit(tokens, ScoreTokens((tokens[0],)), measure)
    rate = found.get()
    if isinstance(rate, Exception):
        raise rate
    return rate


def work_of(config: Path, parameters: int, read: float, cached: int) -> float:
    """Floating-point operations for one row, of which ``read`` tokens are computed behind ``cached`` ones.

    ``config`` is the model's config.json, ``parameters`` those that are at work for a token (of experts, the chosen).
    """
    facts = json.loads(config.read_text(encoding="utf-8"))
    vectors = facts["vocab_size"] * facts["hidden_size"]
    body = parameters - vectors * (1 if facts.get("tie_word_embeddings") else 2)
    width = facts["num_attention_heads"] * (
        facts.get("head_dim") or facts["hidden_size"] // facts["num_attention_heads"]
    )
    attention = 4 * facts["num_hidden_layers"] * width * read * (cached + read / 2)
    return 2 * body * read + 2 * vectors + attention


def share_of(rows_per_second: float, work: float, rates: list[float]) -> float | None:
    """The share, or None where it cannot be: then products were held up more than the work was."""
    share = rows_per_second * work / max(rates)
    return share if share <= 1 else None


def said(result: dict[str, Any]) -> str:
    """A line on the share that a comparison's result has, with how steady the machine was."""
    rates, work = result["matrix_rates"], result["operations_per_row"]
    spread = f"{statistics.median(rates) / 1e9:.0f} in the middle of {len(rates)} measurements between the rounds"
    line = f"{result['name']}: {result['ours']:.2f} rows/s x {work / 1e9:.0f} GFLOP a row is "
    top = f"the {max(rates) / 1e9:.0f} GFLOP/s that a large matrix product reached on the same threads ({spread})"
    share = result["share_of_matrix_rate"]
    if share is None:
        return f"{line}more than {top}: the machine was busy, and the share is not known"
    return f"{line}{share:.0%} of {top}"
