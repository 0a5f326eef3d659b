"""A Mixtral of two layers and eight experts, with random weights, for real on the processor: alone and on two workers.

Tensor parallelism is vLLM's own, by the same code as on GPUs: an engine in processes of its own, experts and heads
divided among two workers. It computes on processors; nothing here runs on a GPU. Two engines are started, one after the
other, so that this is of `make test-cluster`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm")

REPOSITORY = Path(__file__).parents[2]
TOKENS = (5, 17, 300, 500)
PROMPTS = [np.random.default_rng(n).integers(3, 512, 20 + n).tolist() for n in range(4)]
SCRIPT = """\
import json, queue, sys
import psutil
from pathlib import Path
from runner.teacher.engines.protocol import ScoreTokens, Sample, Sampling
from runner.teacher.engines.vllm import VllmEngine
from runner.teacher.engines.vllm_arguments import EngineSettings

def main():
    folder, size, prompts, tokens = json.loads(sys.argv[1])
    # As many workers as GPUs are asked for; what is of processors alone is said by hand, for there are none.
    options = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 2**26}
    options |= {"max_num_batched_tokens": 4096, "enable_chunked_prefill": False}
    engine = VllmEngine(Path(folder), EngineSettings(512, size, 0, 8.0, options))
    inbox = queue.SimpleQueue()
    requests = [ScoreTokens(tuple(tokens))] * len(prompts) + [Sample(Sampling(0.0, 1.0, 0, 8), 0)] * len(prompts)
    for number, request in enumerate(requests):
        prompt = prompts[number % len(prompts)]
        engine.submit(prompt, request, lambda reply, number=number: inbox.put((number, reply)))
    found = dict(inbox.get(timeout=200) for _ in requests)
    failed = [str(reply) for reply in found.values() if isinstance(reply, Exception)]
    assert not failed, failed
    replies = [found[number] for number in range(len(requests))]
    half = len(prompts)
    names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    workers = sum("Worker" in name for name in names)
    scores = [[one.logprobs[t] for t in tokens] for one in replies[:half]]
    print("FOUND " + json.dumps([scores, [one.text for one in replies[half:]], workers]), flush=True)
    engine.close()

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("mixtral")
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_local_experts": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = MixtralForCausalLM(MixtralConfig(vocab_size=512, max_position_embeddings=512, **sizes, **heads))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(4.0)  # else all tokens are nearly as likely
    model.save_pretrained(folder)
    plain = Tokenizer(models.WordLevel({str(number): number for number in range(512)}, unk_token="0"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="0", eos_token="1").save_pretrained(folder)
    return folder


def on(mixtral: Path, workers: int) -> Any:
    """Log-probabilities of each prompt's tokens, what is written behind it, and how many processes compute."""
    given = json.dumps([str(mixtral), workers, PROMPTS, TOKENS])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, given],
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")] or [done.stderr[-3000:]]
    return json.loads(line.removeprefix("FOUND "))


def by_transformers(mixtral: Path) -> np.ndarray[Any, Any]:
    import torch
    from transformers import MixtralForCausalLM

    model = MixtralForCausalLM.from_pretrained(mixtral, dtype=torch.float32)
    with torch.no_grad():
        last = [torch.log_softmax(model(torch.tensor([prompt])).logits[0, -1], 0) for prompt in PROMPTS]
    return np.array([[float(row[token]) for token in TOKENS] for row in last])


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_two_workers_say_what_one_says_and_what_transformers_computes(mixtral: Path) -> None:
    expected = by_transformers(mixtral)
    assert expected.std() > 0.5, "the model tells its tokens apart"
    (alone, text_alone, _), (both, text_both, workers) = on(mixtral, 1), on(mixtral, 2)
    assert workers == 2
    assert np.array(alone) == pytest.approx(expected, abs=2e-2)
    assert np.array(both) == pytest.approx(expected, abs=2e-2)
    assert text_both == text_alone and all(text.split() for text in text_both)
