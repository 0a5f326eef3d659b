"""One teacher on this machine's GPUs, in a process of its own: ours, or `vllm.LLM.chat`. A part of `bench/gpu.py`.

Both get the same rows with prompt `direct` (the label) and `cot` (three votes), and say rows/s and generated tokens/s.
Ours also says what is in the engine on average, how much processor time a row takes beside the GPU, and which share of
the prompts' tokens came out of the engine's cache.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from gpu_machine import used_gib
from gpu_models import ROOT, texts

VOTES = 3
SAMPLE_SECONDS = 0.02
PROMPTS = ("direct", "cot")


def spec_for(job: dict[str, Any], prompt: str) -> Any:
    """The quickstart's task with this teacher; answers are short, so that a round ends."""
    from runner.spec import load_spec

    more = [f"teacher.votes={VOTES}", f"teacher.max_tokens={job['max_tokens']}"] if prompt == "cot" else []
    kind = [f"teacher.resources.accelerator={job['kind']}"] if job["kind"] and job["gpus"] else []
    gpus = f"teacher.resources.gpus={job['gpus']}"
    model = f"teacher.model={job['model']}"
    spec = load_spec(ROOT / "specs" / "quickstart.yaml", [model, f"teacher.prompt={prompt}", gpus, *kind, *more])
    # Specs may not name another way to load weights; a stand-in has none.
    options = spec.teacher.engine_options | ({} if job["real"] else {"load_format": "dummy"})
    return replace(spec, teacher=replace(spec.teacher, engine_options=options))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What one contender does: ``ours``, ``chat`` (vLLM's defaults) or ``careful`` (with our options)."""
    return _ours(job) if job["contender"] == "ours" else _chat(job)


def planned(job: dict[str, Any]) -> dict[str, Any]:
    """What `plan` says of the teacher's memory, and vLLM of its configuration.

    Not by ``make_plan``: it takes the hash of the weights, which for a stand-in of 90 GB are as many zeros.
    """
    from runner import models
    from runner.planning.memory import teacher_memory
    from runner.teacher.engines import vllm_config

    spec = spec_for(job, "cot")
    memory, problems = teacher_memory(spec, models.describe(spec.teacher.model))
    said = vllm_config.report(spec)
    return {"memory": memory, "problems": [*problems, *vllm_config.problems(said)], "vllm": said}


def _ours(job: dict[str, Any]) -> dict[str, Any]:
    import teacher as bench

    from runner.teacher import worker

    before, start, found = used_gib(), time.perf_counter(), {"contender": "ours"}
    with observed() as seen:
        label = bench.actor(_folder(job), spec_for(job, "direct"))
        found["start_seconds"] = round(time.perf_counter() - start, 2)
        found["memory"] = _memory(seen, before)
        found["direct"] = _measured(label, job, "direct", seen)
        opened, engine = worker.open_engine, seen["labellers"][0]._engine
        # The second actor asks the same engine: two would not fit beside each other.
        worker.open_engine = lambda *_: (engine, Path(_folder(job)))
        try:
            found["cot"] = _measured(bench.actor(_folder(job), spec_for(job, "cot")), job, "cot", seen)
        finally:
            worker.open_engine = opened
    return found


def _chat(job: dict[str, Any]) -> dict[str, Any]:
    """vLLM as its documentation shows it, or with our engine options and one token for a label."""
    import teacher as bench

    from runner.teacher.engines.vllm_arguments import engine_options
    from runner.teacher.request import settings_of

    careful, spec = job["contender"] == "careful", spec_for(job, "direct")
    start, before = time.perf_counter(), used_gib()
    plain = {"max_model_len": spec.teacher.max_context, "tensor_parallel_size": max(1, job["gpus"])}
    plain |= {} if job["real"] else {"load_format": "dummy"}
    # On processors its default takes half of the machine's memory.
    plain |= {} if job["gpus"] else {"kv_cache_memory_bytes": 2**30}
    options = engine_options(settings_of(spec.teacher), Path(_folder(job))) if careful else plain
    from vllm import LLM

    llm = LLM(_folder(job), **options)
    found = {"contender": job["contender"], "start_seconds": round(time.perf_counter() - start, 2)}
    found["memory"] = {"before_gib": before, "used_gib": used_gib()}
    for prompt in PROMPTS:
        found[prompt] = _measured(_chatting(llm, spec_for(job, prompt), careful, bench), job, prompt, None)
    return found


def _chatting(llm: Any, spec: Any, careful: bool, bench: Any) -> Callable[[list[str]], Any]:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from runner.teacher.prompt import messages
    from runner.teacher.request import prompt_task

    task, teacher = prompt_task(spec), spec.teacher
    if teacher.prompt == "direct":
        choice = StructuredOutputsParams(choice=list(task.answers.choices))
        parameters = SamplingParams(temperature=0.0, max_tokens=1 if careful else 16, structured_outputs=choice)
    else:
        names = ("temperature", "top_k", "top_p", "max_tokens")
        parameters = SamplingParams(n=teacher.votes, **{name: getattr(teacher, name) for name in names})

    def label(rows: list[str]) -> dict[str, int]:
        outputs = llm.chat([messages(task, text) for text in rows], parameters, use_tqdm=False)
        return {"tokens": sum(len(one.token_ids) for output in outputs for one in output.outputs)}

    return label


def _folder(job: dict[str, Any]) -> str:
    from runner import models

    return str(models.ensure(job["model"]))


def _measured(label: Callable[[list[str]], Any], job: dict[str, Any], prompt: str, seen: Any) -> dict[str, Any]:
    """Rates over so many rows as take about ``job["seconds"]``, after a round that warms up and tells how many."""
    warm = texts(job["rows"])
    start = time.perf_counter()
    label(warm)
    rate = len(warm) / (time.perf_counter() - start)
    count = max(job["rows"], min(job["most_rows"], round(rate * job["seconds"])))
    rows = texts(job["rows"] + count)[job["rows"] :]
    if seen is not None:
        seen.update(cached=0, prompt=0, generated=0, in_hand=[])
    before, start = _processor_seconds(), time.perf_counter()
    told = label(rows)
    taken = time.perf_counter() - start
    spent = [now - earlier for now, earlier in zip(_processor_seconds(), before, strict=True)]
    found: dict[str, Any] = {"rows": len(rows), "rows_per_second": len(rows) / taken}
    tokens = seen["generated"] if seen is not None else told["tokens"]
    found |= {"tokens_per_second": tokens / taken, "tokens_per_row": tokens / len(rows)}
    found["processor_us_per_row"] = {
        "this process": round(1e6 * spent[0] / len(rows)),
        "its children": round(1e6 * spent[1] / len(rows)),
    }
    if seen is not None:
        found["sequences_in_hand"] = statistics.fmean(seen["in_hand"]) if seen["in_hand"] else None
        found["prefix_hits"] = seen["cached"] / seen["prompt"] if seen["prompt"] else None
    return found


def _processor_seconds() -> tuple[float, float]:
    """Of this process with all its threads, and of those that it started."""
    own = time.process_time()
    children = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        children += times.user + times.system
    return own, children


@contextmanager
def observed() -> Iterator[dict[str, Any]]:
    """Look into the engines that are started meanwhile: how many requests they hold, and what their outputs say."""
    from runner.teacher import worker
    from runner.teacher.engines import vllm

    seen: dict[str, Any] = {"engines": [], "labellers": [], "in_hand": [], "cached": 0, "prompt": 0, "generated": 0}
    start, reply, begin = vllm._start, vllm._reply, worker.Labeller.__init__

    def starting(*given: Any, **more: Any) -> Any:
        engine = start(*given, **more)
        seen["engines"].append(engine)
        return engine

    def replying(request: Any, output: Any) -> Any:
        found = reply(request, output)
        seen["cached"] += output.num_cached_tokens or 0
        seen["prompt"] += len(output.prompt_token_ids or ())
        seen["generated"] += found.tokens
        return found

    def beginning(self: Any, *given: Any, **more: Any) -> None:
        begin(self, *given, **more)
        seen["labellers"].append(self)
        if self._failed:
            raise self._failed

    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            if seen["engines"]:
                seen["in_hand"].append(seen["engines"][0].output_processor.get_num_unfinished_requests())

    thread = threading.Thread(target=sample, daemon=True)
    vllm._start, vllm._reply = starting, replying
    worker.Labeller.__init__ = beginning  # type: ignore[method-assign]
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        vllm._start, vllm._reply = start, reply
        worker.Labeller.__init__ = begin  # type: ignore[method-assign]


def _memory(seen: dict[str, Any], before: float | None) -> dict[str, Any]:
    """What the engine took, and how many tokens its cache holds."""
    found: dict[str, Any] = {"before_gib": before, "used_gib": used_gib()}
    cache = seen["engines"][0].vllm_config.cache_config
    found |= {"block_size": cache.block_size, "blocks": cache.num_gpu_blocks}
    if cache.num_gpu_blocks and cache.block_size:
        found["cache_tokens"] = cache.num_gpu_blocks * cache.block_size
    scheduler = seen["engines"][0].vllm_config.scheduler_config
    return found | {"most_sequences": scheduler.max_num_seqs, "processes": os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"]}


def rates(parts: Sequence[dict[str, Any]], real: bool) -> dict[str, float]:
    """Ours over each peer: labels with prompt `direct`; with `cot` rows, or tokens where answers are random.

    Random answers are unusable, and ours asks about them again where `LLM.chat` does not.
    """
    by_name = {part["contender"]: part for part in parts}
    ours = by_name.pop("ours", None)
    units = {"direct": "rows_per_second", "cot": "rows_per_second" if real else "tokens_per_second"}
    return {
        f"{prompt}, {unit}, ours over {peer}": ours[prompt][unit] / part[prompt][unit]
        for peer, part in by_name.items()
        for prompt, unit in units.items()
        if ours
    }
