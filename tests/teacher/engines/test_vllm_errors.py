"""What becomes of the rows when vLLM's engine fails: an answer that is none, a step, a request, a start, the thread.

The engines here are stand-ins whose failures are vLLM's own; a real one cannot be made to fail on command.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.student import device
from runner.system.errors import EngineError
from runner.teacher.engines import vllm as vllm_engine
from runner.teacher.engines.protocol import Sample, Sampling, ScoreTokens
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.engines.vllm_errors import Written, advice, is_fatal
from runner.teacher.engines.vllm_requests import RequestMaker

SAMPLE = Sample(Sampling(temperature=0.8, top_p=1.0, top_k=20, max_tokens=8), seed=1)


class EngineDeadError(Exception):
    """As vLLM names it."""


class Gone(BaseException):
    """The process has ended."""


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        raise Gone

    monkeypatch.setattr(vllm_engine.os, "_exit", leave)
    return statuses


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There is no model with a tokenizer; and what a start sets does not last."""
    monkeypatch.setattr(vllm_engine, "load_tokenizer", lambda folder: "tokenizer")
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class Engine:
    """Ends every request in the first step, with what ``output`` makes of its name."""

    model_config = SimpleNamespace(max_model_len=64)
    vllm_config = SimpleNamespace(cache_config=SimpleNamespace(block_size=32))
    engine_core = SimpleNamespace(shutdown=lambda: None)
    renderer = SimpleNamespace(validate_token_ids=lambda ids: None)
    input_processor = SimpleNamespace(
        process_inputs=lambda number, prompt, parameters, tasks: SimpleNamespace(sampling_params=parameters)
    )

    def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def __init__(self, output: Any = None, in_step: Exception | None = None, in_add: Exception | None = None) -> None:
        self.output, self.in_step, self.in_add = output, in_step, in_add
        self.waiting: list[str] = []

    def add_request(self, number: str, prompt: Any, parameters: Any) -> None:
        if self.in_add:
            raise self.in_add
        self.waiting.append(number)

    def step(self) -> list[Any]:
        if self.in_step:
            raise self.in_step
        found, self.waiting = self.waiting, []
        return [self.output(number) for number in found]

    def abort_request(self, numbers: list[str]) -> None:
        self.waiting = [one for one in self.waiting if one not in numbers]


def replies(engine: Engine, request: Any = SAMPLE, rows: int = 2, on_gpu: bool = False) -> list[Any]:
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    found: list[Any] = []

    def deliver(reply: Any) -> None:
        found.append(reply)
        if len(found) == rows:
            inbox.put(None)

    for _ in range(rows):
        inbox.put(vllm_engine._Pending([1, 2], request, deliver))
    vllm_engine._Loop(engine, inbox, on_gpu).run()
    return found


def output(number: str, *answers: Any) -> Any:
    return SimpleNamespace(request_id=number, finished=True, outputs=list(answers), num_cached_tokens=None)


def answer(logprobs: Any = None, reason: str | None = "length") -> Any:
    return SimpleNamespace(text="yes", token_ids=[7], logprobs=logprobs, finish_reason=reason)


@pytest.mark.slow("vllm")
@pytest.mark.parametrize(
    ("of", "asked", "why"),
    [
        (lambda number: output(number), SAMPLE, "no reason given"),
        (lambda number: output(number, answer([], "abort")), ScoreTokens((3,)), "abort"),
        (lambda number: output(number, answer([{9: None}], "error")), ScoreTokens((3,)), "error"),
        (lambda number: output(number, answer(None, "length")), ScoreTokens((3,)), "length"),
    ],
)
def test_a_request_that_ends_without_an_answer_is_an_error_of_its_row(of: Any, asked: Any, why: str) -> None:
    found = replies(Engine(of), asked)
    assert [str(one) for one in found] == [f"the engine ended a request without an answer ({why})"] * 2


@pytest.mark.slow("vllm")
@pytest.mark.parametrize(
    "error",
    [
        EngineDeadError("EngineCore encountered an issue"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
        RuntimeError("NCCL error: unhandled cuda error"),
    ],
)
@pytest.mark.parametrize("where", ["in_step", "in_add"])
def test_a_dead_engine_ends_the_process_and_costs_no_row(ended: list[int], error: Exception, where: str) -> None:
    assert is_fatal(error)
    found: list[Any] = []
    with pytest.raises(Gone):
        found = replies(Engine(**{where: error}))
    assert (ended, found) == ([vllm_engine.FATAL], [])


@pytest.mark.slow("vllm")
def test_a_request_that_is_refused_harms_no_other(ended: list[int]) -> None:
    found = replies(Engine(in_add=ValueError("The decoder prompt is empty")))
    assert [type(one) for one in found] == [ValueError, ValueError]
    assert ended == []


@pytest.mark.slow("vllm")
@pytest.mark.parametrize("answers", [True, False])
def test_after_an_error_the_gpu_is_asked(ended: list[int], monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    monkeypatch.setattr(device, "gpu_answers", lambda: answers)
    engine = Engine(in_step=RuntimeError("a kernel failed"))
    if answers:
        assert [str(one) for one in replies(engine, on_gpu=True)] == ["a kernel failed"] * 2
    else:
        with pytest.raises(Gone):
            replies(engine, on_gpu=True)
    assert ended == ([] if answers else [vllm_engine.FATAL])


def test_without_its_thread_the_process_ends(
    ended: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Any) -> None:
        raise MemoryError("what nobody has thought of")

    monkeypatch.setattr(vllm_engine, "_start", lambda folder, settings: Engine())
    monkeypatch.setattr(vllm_engine._Loop, "run", broken)
    monkeypatch.setattr(vllm_engine.threading, "excepthook", lambda arguments: None)
    engine = vllm_engine.VllmEngine(tmp_path, EngineSettings(max_context=64, gpus=0, seed=0))
    engine._thread.join(10)
    assert ended == [vllm_engine.FATAL]
    assert "what nobody has thought of" in capfd.readouterr().err


SENTENCE = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.slow("subprocess")
def test_why_an_engine_of_several_processes_did_not_start_is_said(tmp_path: Path) -> None:
    """What its processes wrote is where vLLM points to; Ray has it in a file."""
    code = f"""
        import subprocess, sys
        from pathlib import Path
        from runner.student import device, load
        from runner.teacher.engines import vllm as vllm_engine
        from runner.teacher.engines import vllm_arguments

        def start(folder, settings):
            words = "(EngineCore pid=7) ERROR 11-30 10:00:00 [core.py:1] ValueError: 10 heads are not divisible by 4"
            subprocess.run([sys.executable, "-c", f"import sys; print({{words!r}}, file=sys.stderr)"])
            print("RuntimeError: Worker initialization failed, see stack trace", file=sys.stderr, flush=True)
            raise RuntimeError({SENTENCE!r})

        print("RuntimeError: of before", file=sys.stderr, flush=True)
        vllm_engine._start, vllm_engine.load_tokenizer = start, lambda folder: "tokenizer"
        try:
            vllm_engine.VllmEngine(Path("."), vllm_arguments.EngineSettings(max_context=64, gpus=2, seed=0))
        except vllm_engine.EngineError as error:
            print(error)
    """
    with open(tmp_path / "worker.err", "w", encoding="utf-8") as err:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=err, text=True, timeout=120
        )
    assert done.stdout.strip() == (
        "the teacher's engine could not start: ValueError: 10 heads are not divisible by 4; "
        "`tutelage doctor` shows what works on this machine"
    )


def test_where_nothing_more_is_known_vllms_sentence_stays() -> None:
    assert advice(RuntimeError(SENTENCE), ["no error here"]).startswith(SENTENCE)
    memory = advice(RuntimeError(SENTENCE), ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"])
    assert memory.startswith("OutOfMemoryError: CUDA out of memory.") and "ask for more GPUs" in memory


def test_a_terminal_is_no_file() -> None:
    read, write = os.pipe()
    before = os.dup(2)
    try:
        os.dup2(write, 2)
        assert Written().lines() == []
    finally:
        os.dup2(before, 2)
        for descriptor in (read, write, before):
            os.close(descriptor)


@pytest.mark.slow("vllm")
@pytest.mark.parametrize("own", [None, "1"])
def test_flashinfers_sampler_is_off_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str | None
) -> None:
    """Its kernels would be compiled at the start, with an nvcc that images do not have."""
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER", raising=False)
    if own:
        monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", own)
    with suppress(Exception):  # there is no model in this folder
        vllm_engine._start(tmp_path, EngineSettings(max_context=64, gpus=0, seed=0))
    assert os.environ["VLLM_USE_FLASHINFER_SAMPLER"] == (own or "0")


def test_an_engine_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def start(folder: Path, settings: Any) -> Any:
        raise ValueError("max_model_len (64) is too large")

    monkeypatch.setattr(vllm_engine, "_start", start)
    with pytest.raises(EngineError, match=r"set teacher\.max_context to what the model holds"):
        vllm_engine.VllmEngine(tmp_path, EngineSettings(max_context=64, gpus=0, seed=0))


@pytest.mark.slow("vllm")
def test_a_teacher_without_gpus_takes_none_that_nobody_gave_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The vLLM for CUDA takes GPU 0 whatever it was given."""
    import vllm.platforms

    cuda = SimpleNamespace(is_cpu=lambda: False, device_name="cuda")
    monkeypatch.setattr(vllm.platforms, "current_platform", cuda, raising=False)
    with pytest.raises(EngineError, match=r"gpus is 0, and the vLLM .* computes on cuda alone.*ask for gpus: 1"):
        vllm_engine.VllmEngine(tmp_path, EngineSettings(max_context=64, gpus=0, seed=0))


def test_an_engine_whose_own_process_is_gone_ends_this_one(
    ended: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's client waits for ever where the process was killed without a word."""
    process = SimpleNamespace(engine_dead=False)

    class Waiting(Engine):
        engine_core = SimpleNamespace(shutdown=lambda: None, resources=process)

    monkeypatch.setattr(vllm_engine, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(vllm_engine, "_start", lambda folder, settings: Waiting())
    monkeypatch.setattr(vllm_engine.threading, "excepthook", lambda arguments: None)
    engine = vllm_engine.VllmEngine(tmp_path, EngineSettings(max_context=64, gpus=1, seed=0))
    time.sleep(0.1)
    assert ended == []
    process.engine_dead = True
    for _ in range(500):
        if ended:
            break
        time.sleep(0.01)
    assert ended == [vllm_engine.FATAL]
    engine.close()


def test_an_engine_that_is_closed_is_no_dead_one(
    ended: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = SimpleNamespace(engine_dead=False)

    class Closing(Engine):
        engine_core = SimpleNamespace(shutdown=lambda: setattr(process, "engine_dead", True), resources=process)

    monkeypatch.setattr(vllm_engine, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(vllm_engine, "_start", lambda folder, settings: Closing())
    vllm_engine.VllmEngine(tmp_path, EngineSettings(max_context=64, gpus=1, seed=0)).close()
    assert process.engine_dead
    time.sleep(0.1)
    assert ended == []


@pytest.mark.slow("vllm")
def test_requests_of_a_kind_are_copies_of_the_first_with_their_own_prompt_and_seed() -> None:
    class Checks(Engine):
        checked = 0

        class input_processor:  # as vLLM's engine has it
            @staticmethod
            def process_inputs(number: str, prompt: Any, parameters: Any, tasks: Any) -> Any:
                Checks.checked += 1
                return SimpleNamespace(sampling_params=parameters)

    requests = RequestMaker(Checks())
    one, two = (
        requests.make(name, [1, 2, place], Sample(SAMPLE.sampling, seed=place)) for place, name in ((7, "a"), (8, "b"))
    )
    assert (one.request_id, one.prompt_token_ids, one.sampling_params.seed) == ("a", [1, 2, 7], 7)
    assert (two.request_id, two.prompt_token_ids, two.sampling_params.seed) == ("b", [1, 2, 8], 8)
    three, four = (requests.make("c", [1], ScoreTokens(tokens)) for tokens in ((3, 4), (5, 6)))
    assert [one.sampling_params.logprob_token_ids for one in (three, four)] == [[3, 4], [5, 6]]
    assert Checks.checked == 3
    for prompt in ([], [1] * 64):
        with pytest.raises(ValueError, match="does not fit into a context of 64"):
            requests.make("d", prompt, SAMPLE)
