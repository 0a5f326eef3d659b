"""vLLM: an engine in this process, fed with token ids.

One thread owns the engine, starts it, adds what has arrived and steps: requests join and leave at every
step (continuous batching), whoever they belong to.
"""

from __future__ import annotations

import atexit
import itertools
import os
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.student import device
from runner.student.load import load_tokenizer
from runner.system.errors import EngineError
from runner.teacher.engines.protocol import Deliver, Request
from runner.teacher.engines.vllm_arguments import EngineSettings, engine_options
from runner.teacher.engines.vllm_errors import Written, advice, is_fatal
from runner.teacher.engines.vllm_requests import RequestMaker, outcome_of

OLDEST_WITH_FLASH_ATTENTION = 80
"""CUDA's compute capability, times ten."""

WATCH_SECONDS = 1.0
"""From one look at the engine's own process to the next."""

FATAL = 70
"""Exit status of a process whose engine is dead."""


@dataclass(frozen=True)
class _Pending:
    prompt: Sequence[int]
    request: Request
    deliver: Deliver


class VllmEngine:
    """A model in vLLM.

    :raises EngineError: when it cannot start, or has not within ``start_minutes``, with what to change.
    """

    tokenizer: Any
    block_tokens: int | None = None

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        self._inbox: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._failed: EngineError | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        # vLLM ties its computing threads to the thread that starts it: that one must also step.
        self._thread = threading.Thread(target=self._run, args=(folder, settings), name="vllm", daemon=True)
        self._thread.start()
        if not self._ready.wait(settings.start_minutes * 60):
            raise EngineError(
                "teacher.start-too-slow",
                f"the teacher's engine did not start within {settings.start_minutes:g} minutes; raise "
                "teacher.start_minutes if the model is large or its disk slow, else look at the node's GPUs",
            )
        if self._failed:
            raise self._failed

    def submit(self, prompt: Sequence[int], request: Request, deliver: Deliver) -> None:
        """See :class:`runner.teacher.engines.protocol.Engine`."""
        self._inbox.put(_Pending(prompt, request, deliver))

    def close(self) -> None:
        """Stop the thread; what is under way gets an error."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self, folder: Path, settings: EngineSettings) -> None:
        written = Written()
        try:
            # Not vLLM's, which is a pool: each thread that finds it busy has it copied, which takes a second.
            self.tokenizer = load_tokenizer(folder)
            engine = _start(folder, settings)
            # Else an exit would wait for the engine's own process, which waits for this one.
            atexit.register(self._shut_down, engine)
            # Not always the one that was asked for: a hybrid model's blocks hold a whole state, hundreds of tokens.
            self.block_tokens = engine.vllm_config.cache_config.block_size
        except BaseException as error:  # vLLM raises whatever its layers raise
            self._failed = EngineError(
                "teacher.start-failed", f"the teacher's engine could not start: {advice(error, written.lines())}"
            )
            return
        finally:
            self._ready.set()
        if (process := getattr(engine.engine_core, "resources", None)) is not None:
            threading.Thread(target=self._watch, args=(process,), name="vllm-watch", daemon=True).start()
        try:
            _Loop(engine, self._inbox, settings.gpus > 0).run()
            atexit.unregister(self._shut_down)
            self._shut_down(engine)
        except BaseException:
            # Without this thread every row would wait for ever.
            traceback.print_exc()
            os._exit(FATAL)

    def _watch(self, process: Any) -> None:
        """End this process when the engine's own is gone: vLLM's client would wait for it for ever (0.32)."""
        while not self._over.wait(WATCH_SECONDS):
            if process.engine_dead:
                print("the engine's process is gone", file=sys.stderr, flush=True)
                os._exit(FATAL)

    def _shut_down(self, engine: Any) -> None:
        self._over.set()
        engine.engine_core.shutdown()


class _Loop:
    """Add what arrives, step, hand out what is finished; until told to stop."""

    def __init__(self, engine: Any, inbox: queue.SimpleQueue[_Pending | None], on_gpu: bool) -> None:
        self._engine, self._inbox, self._on_gpu = engine, inbox, on_gpu
        self._requests = RequestMaker(engine)
        self._running: dict[str, _Pending] = {}
        self._suspects: list[_Pending] = []
        self._numbers = map(str, itertools.count())

    def run(self) -> None:
        while self._receive():
            if not self._running and self._suspects:
                self._add(self._suspects.pop())
            if not self._running:
                continue
            try:
                outputs = self._engine.step()
            except Exception as error:  # as above
                self._broken(error)
                continue
            for output in outputs:
                if output.finished and (pending := self._running.pop(output.request_id, None)):
                    pending.deliver(outcome_of(pending.request, output))
        for pending in [*self._running.values(), *self._suspects]:
            pending.deliver(EngineError("teacher.engine-stopped", "the engine was stopped"))

    def _receive(self) -> bool:
        """Take in what has arrived; wait only while there is nothing to compute. False: stop."""
        idle = not self._running and not self._suspects
        while idle or not self._inbox.empty():
            pending = self._inbox.get()
            if pending is None:
                return False
            self._add(pending)
            idle = False
        return True

    def _add(self, pending: _Pending) -> None:
        number = next(self._numbers)
        try:
            made = self._requests.make(number, list(pending.prompt), pending.request)
            # The engine makes the name unique; its output carries ours again.
            self._engine.add_request(number, made, made.sampling_params)
        except Exception as error:  # a request that vLLM refuses harms no other
            self._leave_if_fatal(error)
            pending.deliver(error)
            return
        self._running[number] = pending

    def _broken(self, error: Exception) -> None:
        """A step failed: the one request that ran is at fault; of several, each is tried alone."""
        self._leave_if_fatal(error)
        running, self._running = self._running, {}
        self._engine.abort_request(list(running))
        if len(running) == 1:
            next(iter(running.values())).deliver(error)
        else:
            self._suspects += running.values()

    def _leave_if_fatal(self, error: Exception) -> None:
        if is_fatal(error) or (self._on_gpu and not device.gpu_answers()):
            # Nothing in this process can be computed any more. Ray starts the actor anew, here or on another node, and
            # what was in flight is done again; an error for each row would lose them all.
            traceback.print_exception(error)
            os._exit(FATAL)


def _start(folder: Path, settings: EngineSettings) -> Any:
    # On a GPU in a process of its own: its scheduler and the launches of its kernels would wait for the interpreter
    # lock behind tokenising, and the GPU for them. On processors in this one, which has the cores anyway. Ray ends the
    # actor's whole process group, so that nothing outlives it.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "1" if settings.gpus else "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Its kernels are compiled at the first start, which needs nvcc; and it draws without seeds, while ours are seeded.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    if settings.gpus == 0:
        device.compile_nothing()
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    if settings.gpus == 0 and not current_platform.is_cpu():
        raise EngineError(
            "teacher.no-gpu",
            f"teacher.resources.gpus is 0, and the vLLM that is installed computes on {_devices(current_platform)} "
            "alone, where no GPU was reserved for it: ask for gpus: 1, or install vLLM for processors",
        )
    options = engine_options(settings, folder)
    if settings.gpus and not current_platform.has_device_capability(OLDEST_WITH_FLASH_ATTENTION):
        # What vLLM would take on a T4 is compiled at the first start, with an nvcc that images do not have.
        options = {"attention_backend": "TRITON_ATTN"} | options
    arguments = EngineArgs(model=str(folder), **options)
    return LLMEngine.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


def _devices(platform: Any) -> str:
    """What vLLM calls the devices that it computes on; of a GPU build on a machine without one it names none."""
    return str(platform.device_name or "GPUs")
