"""An engine in a process of its own, as on GPUs: the same answers, gone with its actor, and its death is noticed.

A real engine on the processor, with a random model of two small layers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from runner import models

pytestmark = pytest.mark.slow("vllm")

ROOT = Path(__file__).parents[2]
WORK = """
    import json, os, queue, signal, sys
    from pathlib import Path
    import psutil
    from runner.teacher.engines.protocol import ScoreTokens, Sample, Sampling
    from runner.teacher.engines.vllm import VllmEngine
    from runner.teacher.engines.vllm_arguments import EngineSettings

    def is_engine(process):
        try:
            return "VLLM" in " ".join(process.cmdline())
        except psutil.Error:  # it has ended
            return False

    def children():
        return list(filter(is_engine, psutil.Process().children(recursive=True)))

    def answer(engine, request):
        inbox = queue.SimpleQueue()
        engine.submit(list(range(100, 164)), request, inbox.put)
        return inbox.get()

    engine = VllmEngine(Path(sys.argv[1]), EngineSettings(256, 0, 7, 10.0, {"kv_cache_memory_bytes": 2**26}))
    choice, draw = ScoreTokens((5, 6, 7)), Sample(Sampling(temperature=0.8, top_p=1.0, top_k=20, max_tokens=6), seed=3)
    first, again = answer(engine, choice), answer(engine, choice)
    drawn = [answer(engine, draw) for _ in range(2)]
    told = {
        "logprobs": [list(one.logprobs.values()) for one in (first, again)],
        "texts": [one.text for one in drawn],
        "tokens": drawn[0].tokens,
        "cached": drawn[1].cached,
        "block": engine.block_tokens,
        "processes": len(children()),
    }
    print(json.dumps(told), flush=True)
    if sys.argv[2] == "kill":
        engine.submit(list(range(100, 164)), Sample(Sampling(1.0, 1.0, 0, 100), 1), print)
        for one in children():
            one.send_signal(signal.SIGKILL)
        queue.SimpleQueue().get()  # as an actor waits: for ever
    elif sys.argv[2] == "close":
        engine.close()
        assert not children()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("two-layers")
    source = models.ensure("catalog:smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=256, **sizes)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def work(model: Path, way: str, own_process: bool) -> tuple[int, dict[str, Any], str]:
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(own_process)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(WORK), str(model), way]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, json.loads(lines[0]) if lines else {}, done.stderr[-3000:]


@pytest.fixture(scope="module")
def inside(model: Path) -> dict[str, Any]:
    status, told, err = work(model, "exit", own_process=False)
    assert status == 0, err
    return told


@pytest.mark.parametrize("way", ["close", "exit"])
def test_beside_the_actor_it_answers_as_inside_and_ends_with_it(model: Path, inside: dict[str, Any], way: str) -> None:
    status, told, err = work(model, way, own_process=True)
    assert status == 0, err
    assert told["processes"] >= 1 and inside["processes"] == 0
    assert {**told, "processes": 0, "logprobs": []} == {**inside, "logprobs": []}
    assert told["logprobs"][0] == pytest.approx(inside["logprobs"][0], abs=1e-4)
    assert told["cached"] == 32 == told["block"], "one block of the prompt is reused; the last token never is"


def test_killed_without_a_word_it_ends_the_actor(model: Path) -> None:
    status, told, err = work(model, "kill", own_process=True)
    assert told["processes"] >= 1
    assert status == 70 and "the engine's process is gone" in err
