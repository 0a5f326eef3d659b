"""What only a GPU shows, in under fifteen minutes: ``pytest -m gpu``. Without a GPU all of it is skipped.

``TUTELAGE_REHEARSE=1 pytest -m gpu`` goes the same way on the processor: it shows that these tests work, and nothing of
any GPU. Models are tiny and random, with real weights: what they say is compared with transformers' own arithmetic.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner.teacher.engines.protocol import Reply, Sample, Sampling, ScoreTokens
from runner.teacher.engines.vllm import VllmEngine
from runner.teacher.engines.vllm_arguments import EngineSettings

REPOSITORY = Path(__file__).parents[2]
REHEARSAL = os.environ.get("TUTELAGE_REHEARSE") == "1"
GPUS = 0 if REHEARSAL else torch.cuda.device_count()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (GPUS or REHEARSAL), reason="torch sees no GPU here; TUTELAGE_REHEARSE=1 tries the tests"),
]

CONTEXT = 512
SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL_CACHE = {"kv_cache_memory_bytes": 2**28}
TOKENS = (5, 17, 400, 901)
SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=20, max_tokens=12)


def _saved(folder: Path, kind: str, **more: Any) -> Path:
    """A random model with a tokenizer of numbers as words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    model_class = getattr(transformers, kind)
    config = model_class.config_class(
        vocab_size=1024, num_key_value_heads=4, max_position_embeddings=CONTEXT, **SIZES, **more
    )
    # Random weights of the usual size say nearly the same of every token.
    model = model_class(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4.0) if weights.dim() > 1 else None
    model.to(torch.bfloat16).save_pretrained(folder)
    plain = Tokenizer(models.WordLevel({str(number): number for number in range(1024)}, unk_token="0"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="0", eos_token="1", pad_token="2"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("llm") / "model", "LlamaForCausalLM")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VllmEngine]:
    """The engine as the label stage starts it, on one GPU."""
    one = VllmEngine(folder, EngineSettings(CONTEXT, min(1, GPUS), 0, 15.0, dict(SMALL_CACHE)))
    yield one
    one.close()


def asked(engine: VllmEngine, prompts: Sequence[Sequence[int]], requests: Sequence[Any]) -> list[Reply]:
    """All at once; the replies in their order."""
    inbox: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    for number, (prompt, request) in enumerate(zip(prompts, requests, strict=True)):
        engine.submit(prompt, request, lambda reply, number=number: inbox.put((number, reply)))
    found = dict(inbox.get(timeout=300) for _ in prompts)
    for reply in found.values():
        assert isinstance(reply, Reply), reply
    return [found[number] for number in range(len(found))]


def prompts(count: int, length: int = 40) -> list[list[int]]:
    chance = np.random.default_rng(0)
    return [chance.integers(3, 1024, length).tolist() for _ in range(count)]


def expected(folder: Path, prompt: Sequence[int]) -> np.ndarray[Any, Any]:
    """transformers' log-probabilities of :data:`TOKENS` as the next one, in fp32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([list(prompt)])).logits[0, -1]
    return np.asarray(torch.log_softmax(logits, 0)[list(TOKENS)])


def test_labels_are_scored_as_transformers_scores_them(engine: VllmEngine, folder: Path) -> None:
    rows = prompts(6)
    for prompt, reply in zip(rows, asked(engine, rows, [ScoreTokens(TOKENS)] * len(rows)), strict=True):
        ours = np.array([reply.logprobs[token] for token in TOKENS])
        assert np.isfinite(ours).all()
        assert ours == pytest.approx(expected(folder, prompt), abs=0.15), "bf16 against fp32"


def test_a_seed_decides_what_is_drawn(engine: VllmEngine) -> None:
    one = prompts(1) * 8
    same = asked(engine, one, [Sample(SAMPLING, 7)] * 8)
    others = asked(engine, one, [Sample(SAMPLING, seed) for seed in range(8)])
    assert len({reply.text for reply in same}) == 1
    assert len({reply.text for reply in others}) > 4


def test_many_rows_at_once_lose_none(engine: VllmEngine) -> None:
    rows = prompts(300, 60)
    requests = [ScoreTokens(TOKENS) if number % 2 else Sample(SAMPLING, number) for number in range(len(rows))]
    for reply, request in zip(asked(engine, rows, requests), requests, strict=True):
        assert reply.logprobs if isinstance(request, ScoreTokens) else reply.tokens > 0


@pytest.mark.skipif(GPUS < 2 and not REHEARSAL, reason="needs two GPUs")
def test_two_gpus_score_as_one_does(engine: VllmEngine, folder: Path) -> None:
    if REHEARSAL:
        pytest.skip("tensor parallelism on the processor: tests/teacher/engines/test_tiny_mixtral.py")
    rows = prompts(4)
    alone = asked(engine, rows, [ScoreTokens(TOKENS)] * len(rows))
    both = VllmEngine(folder, EngineSettings(CONTEXT, 2, 0, 15.0, dict(SMALL_CACHE)))
    try:
        for one, other in zip(alone, asked(both, rows, [ScoreTokens(TOKENS)] * len(rows)), strict=True):
            assert [other.logprobs[t] for t in TOKENS] == pytest.approx([one.logprobs[t] for t in TOKENS], abs=0.15)
    finally:
        both.close()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_a_student_learns_and_says_the_same_everywhere(precision: str, tiny_model: Path, tmp_path: Path) -> None:
    from runner.student import fit as training
    from runner.student.device import device
    from runner.student.fit_config import Fit
    from runner.student.predict import Student
    from runner.student.rows import Rows
    from runner.tasks.single_label import learner

    on = device()
    assert on.type == ("cpu" if REHEARSAL else "cuda")
    if on.type == "cuda" and precision == "bf16" and torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this GPU has no bf16")
    kinds = {"positive": "Profit rose", "negative": "Profit fell", "neutral": "It stayed"}
    texts = [f"{words} in the year {1900 + year}." for year in range(40) for words in kinds.values()]
    targets = np.tile(np.eye(3, dtype=np.float32), (40, 1))
    fit = Fit(
        model=tiny_model,
        outputs=tuple(kinds),
        epochs=20,
        learning_rate=2e-3,
        batch_size=16,
        max_length=64,
        precision=precision,
        seed=0,
    )
    training.fit(learner, fit, Rows(texts, targets), Rows(texts[:30], targets[:30]), tmp_path / "student")
    found = Student.load(learner, tmp_path / "student", precision=precision)
    assert found.fell_back is None
    said = found.predict(texts)
    assert np.isfinite(said).all()
    assert (said.argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.95
    plain = Student.load(learner, tmp_path / "student", precision="fp32").predict(texts)
    assert np.abs(said - plain).max() < 0.05


def test_the_bench_makes_a_record(tmp_path: Path) -> None:
    out = tmp_path / "gpu-{date}.json"
    command = [sys.executable, str(REPOSITORY / "bench" / "gpu.py"), "--record", str(out), "--only", "student"]
    more = ["--rehearse"] if REHEARSAL else ["--minutes", "6"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    [kept] = tmp_path.glob("gpu-2*.json")
    record = json.loads(kept.read_text())
    assert record["rehearsal"] == REHEARSAL and record["left_out"] == []
    assert record["student"]["fp16"]["say"]["texts_per_second"]["ours"] > 0
    assert record["machine"]["count"] == (0 if REHEARSAL else GPUS)
