"""The largest step of an engine is vLLM's: against the snapshot of common cases, and against its own configuration."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from runner.planning.hardware.memory import largest_step
from runner.system.accelerators import accelerators
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.engines.vllm_config import Case, ask

from .test_counts import config_of

SNAPSHOT = Path(__file__).parents[2] / "accelerators" / "snapshot.json"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"enable_chunked_prefill": False},
    {"enable_chunked_prefill": True},
    {"performance_mode": "throughput"},
    {"performance_mode": "throughput", "max_num_seqs": 100},
    {"performance_mode": "throughput", "max_num_batched_tokens": 4096},
    {"performance_mode": "throughput", "enable_chunked_prefill": False},
    {"max_num_seqs": None, "max_num_batched_tokens": None},
    {"max_num_seqs": 2},
    {"max_num_batched_tokens": 100},
    {"max_num_batched_tokens": 40_000, "max_num_seqs": 300},
]
CASES = [(kind, context, options) for kind in ("L4", "H100") for context in (512, 32_768) for options in OPTIONS]


def test_the_common_cases_have_the_steps_of_the_snapshot() -> None:
    kept = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["teachers"]
    context = kept["everywhere"]["chosen.max_model_len"]
    seen = 0
    for name, facts in kept.items():
        if "chosen.max_num_seqs" in facts:
            step = largest_step(accelerators()[name.rpartition(" x ")[2]], {}, context)
            asked = (facts["chosen.max_num_batched_tokens"], facts["chosen.max_num_seqs"])
            assert (step.tokens, step.sequences) == asked, name
            seen += 1
    assert seen > 20


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.slow("vllm")
def test_under_options_the_step_is_vllms(tmp_path: Path) -> None:
    config = config_of("llama", max_position_embeddings=32_768)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    asked = [
        Case(str(tmp_path), EngineSettings(context, 1, 0, options=options), kind) for kind, context, options in CASES
    ]
    differ, compared = [], 0
    for (kind, context, options), answer in zip(CASES, ask(asked, 400), strict=True):
        assert answer.not_asked is None, answer.not_asked
        if answer.refused:  # a step that holds no whole context, where prompts are read whole
            continue
        step = largest_step(accelerators()[kind], options, context)
        vllms = (answer.chosen["max_num_batched_tokens"], answer.chosen["max_num_seqs"])
        compared += 1
        if (step.tokens, step.sequences) != vllms:
            differ.append(f"{kind}, {context}, {options}: {step} for vLLM's {vllms}")
    assert differ == []
    assert compared == len(CASES)
