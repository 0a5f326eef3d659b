"""The label stage against other ways to ask the same model: `make bench-teacher`.

    python bench/teacher.py [--only direct,cot,...] [--rows 32] [--rounds 3] [--model catalog:NAME]

Each comparison has two contenders, each in a process of its own with an engine of its own. They get the same rows in
the same run, in alternating rounds, new rows each round; the table has the medians and their ratio, since machines are
noisy. Also written to bench/out/teacher.json.

    direct      our actor, `prompt: direct`      against  vllm.LLM.chat with constrained choice, vLLM's defaults
    sequential  our actor, `prompt: direct`      against  one request after the other to `vllm serve`
    cot         our actor, three votes of `cot`  against  vllm.LLM.chat(n=3), the same sampling
    overhead    the actor under Ray, stored      against  the bare engine with the same options
    noop        the stage without a model: rows/s and the driver's memory on many rows
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing as mp
import os
import queue
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "teacher.json"
Label = Callable[[list[str]], list[str]]
PORT = 18_765
FIRST = 16
"""Rows that come before the clock starts where a contender starts its engine anew for each round."""


@dataclass(frozen=True)
class Comparison:
    """Two contenders by the names of their makers, and the prompt that both are given."""

    name: str
    ours: str
    peer: str
    prompt: str
    rows: int | None = None


COMPARISONS = (
    Comparison("direct", "actor", "chat", "direct"),
    Comparison("sequential", "actor", "sequential", "direct"),
    Comparison("cot", "actor", "chat", "cot"),
    Comparison("overhead", "stage", "bare", "direct", rows=96),
)


def spec_for(path: str, prompt: str) -> Any:
    """The spec with the prompt of a comparison; a vote's answer is kept short, so that a round ends."""
    from runner.spec import load_spec

    more = ["teacher.votes=3", "teacher.max_tokens=64"] if prompt == "cot" else []
    return load_spec(path, [f"teacher.prompt={prompt}", *more])


def chat(model: str, spec: Any) -> Label:
    """vLLM with its defaults: one chat for each row, constrained to the labels or with n samples."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from runner.stages.label import task_of
    from runner.teacher.asking import counted
    from runner.teacher.prompt import messages
    from runner.teacher.votes import majority

    task, teacher = task_of(spec), spec.teacher
    # The cache's size is set because vLLM's default would take half of the machine from the other engine.
    llm = LLM(model, max_model_len=teacher.max_context, kv_cache_memory_bytes=2**30)
    if teacher.prompt == "direct":
        choice = StructuredOutputsParams(choice=list(task.labels))
        parameters = SamplingParams(temperature=0.0, max_tokens=16, structured_outputs=choice)
    else:
        parameters = SamplingParams(
            n=teacher.votes,
            temperature=teacher.temperature,
            top_k=teacher.top_k,
            top_p=teacher.top_p,
            max_tokens=teacher.max_tokens,
            seed=0,
        )

    def label(texts: list[str]) -> list[str]:
        talks: Any = [messages(task, text) for text in texts]
        outputs = [[one.text for one in output.outputs] for output in llm.chat(talks, parameters, use_tqdm=False)]
        if teacher.prompt == "direct":
            return [found[0] for found in outputs]
        records = [[{"vote": n, "attempt": 0, "text": text} for n, text in enumerate(found)] for found in outputs]
        return [str(majority(counted(found, task.labels, teacher.votes, early_stop=False))) for found in records]

    return label


def sequential(model: str, spec: Any) -> Label:
    """A server with its defaults, asked for one row after the other over HTTP."""
    from runner.stages.label import task_of
    from runner.teacher.prompt import messages

    task = task_of(spec)
    options = ["--max-model-len", str(spec.teacher.max_context), "--kv-cache-memory-bytes", str(2**30)]
    server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(PORT)]
    subprocess.Popen([*server, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{PORT}"
    _wait_for(f"{base}/health")

    def ask(text: str) -> str:
        body = {
            "model": model,
            "messages": messages(task, text),
            "temperature": 0.0,
            "max_tokens": 16,
            "structured_outputs": {"choice": list(task.labels)},
        }
        request = urllib.request.Request(
            f"{base}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            return str(json.load(reply)["choices"][0]["message"]["content"])

    return lambda texts: [ask(text) for text in texts]


def _wait_for(url: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError(f"{url} did not answer within {seconds:.0f} s")


def actor(model: str, spec: Any) -> Label:
    """The label stage's actor, storing its answers as it does in a run, in as many threads."""
    from concurrent.futures import ThreadPoolExecutor

    from runner.stages.label import CONCURRENT_BATCHES, asking_of, settings_of
    from runner.store import Folder
    from runner.teacher.worker import Labeller

    folder = Folder(tempfile.mkdtemp())
    labeller = Labeller("vllm", model, asking_of(spec), settings_of(spec.teacher), folder.url)
    pool = ThreadPoolExecutor(CONCURRENT_BATCHES)

    def label(texts: list[str]) -> list[str]:
        list(pool.map(labeller, _batches(texts, spec.teacher.batch_size)))
        return _labels(folder, spec, texts)

    return label


def stage(model: str, spec: Any) -> Label:
    """The actor as the stage runs it: Ray Data, a pool of one, answers stored and read back."""
    from runner.cluster import Cluster, Resources
    from runner.stages.label import CONCURRENT_BATCHES, asking_of, settings_of
    from runner.store import Folder
    from runner.teacher.worker import Labeller

    folder = Folder(tempfile.mkdtemp())
    arguments = {
        "engine": "vllm",
        "model": model,
        "asking": asking_of(spec),
        "settings": settings_of(spec.teacher),
        "answers": folder.url,
    }
    cluster = Cluster()

    def label(texts: list[str]) -> list[str]:
        # A dataset starts its actors anew: the clock begins when the first batch is back.
        batches = _batches(texts, FIRST)
        results = cluster.map_batches(batches, Labeller, arguments, Resources(), (1, 1), CONCURRENT_BATCHES)
        for number, _ in enumerate(results):
            if number == 0:
                label.start = time.perf_counter()  # type: ignore[attr-defined]
        return _labels(folder, spec, texts)

    return label


def bare(model: str, spec: Any) -> Label:
    """The engine alone, with our options and prompts: all requests in, then steps until all are out."""
    from runner.stages.label import settings_of, task_of
    from runner.teacher.engine import Choice, Reply
    from runner.teacher.labels import LabelTrie
    from runner.teacher.prompt import Renderer
    from runner.teacher.vllm_engine import VllmEngine

    engine = VllmEngine(Path(model), settings_of(spec.teacher))
    renderer = Renderer(engine.tokenizer, task_of(spec))
    trie = LabelTrie.build(renderer.label_ids(), engine.tokenizer.eos_token_id)
    prompts: dict[str, list[int]] = {}

    def label(texts: list[str]) -> list[str]:
        inbox: queue.SimpleQueue[tuple[str, Reply | Exception]] = queue.SimpleQueue()
        want = Choice(trie.branches[0].choices)
        for text in texts:
            prompts[text] = renderer.prompt(renderer.text_ids(text))
        for text in texts:
            engine.submit(prompts[text], want, partial(_post, inbox, text))
        found = dict(inbox.get() for _ in texts[:FIRST])
        label.start = time.perf_counter()  # type: ignore[attr-defined]
        found |= dict(inbox.get() for _ in texts[FIRST:])
        best = {text: max(reply.logprobs.items(), key=lambda one: one[1])[0] for text, reply in found.items()}  # type: ignore[union-attr]
        names = {path[0]: name for path, name in zip(trie.paths, spec.task.labels, strict=True)}
        return [names[best[text]] for text in texts]

    return label


def _post(inbox: Any, text: str, reply: Any) -> None:
    inbox.put((text, reply))


def _batches(texts: list[str], size: int) -> list[Any]:
    import pyarrow as pa

    from runner.teacher.worker import QUESTIONS

    lines = [{"id": text, "kind": "row", "text": text} for text in texts]
    table = pa.Table.from_pylist(lines, schema=QUESTIONS)
    return [table.slice(start, size) for start in range(0, len(table), size)]


def _labels(folder: Any, spec: Any, texts: list[str]) -> list[str]:
    from runner.stages.label import by_row, read_answers
    from runner.teacher.asking import counted
    from runner.teacher.votes import majority

    rows, names = by_row(read_answers(folder)), spec.task.labels
    if spec.teacher.prompt == "cot":
        return [str(majority(counted(rows[text], names, spec.teacher.votes, early_stop=True))) for text in texts]
    found = [rows[text][0]["label_probabilities"] for text in texts]
    return [names[max(range(len(names)), key=row.__getitem__)] for row in found]


def serve(maker: str, model: str, spec_path: str, prompt: str, pipe: Connection) -> None:
    """A process that holds one contender and labels what it is sent."""
    os.setpgrp()  # so that what a contender starts ends with it
    label = globals()[maker](model, spec_for(spec_path, prompt))
    label(["The company has an office in the harbour."])
    pipe.send("ready")
    while (texts := pipe.recv()) is not None:
        start = time.perf_counter()
        labels = label(texts)
        end = time.perf_counter()
        pipe.send((end - getattr(label, "start", start), labels))
    pipe.send("done")


def compare(one: Comparison, model: str, options: argparse.Namespace, texts: list[str]) -> dict[str, Any]:
    """Run the rounds of one comparison."""
    context = mp.get_context("spawn")
    pipes, processes = {}, []
    for side, maker in (("peer", one.peer), ("ours", one.ours)):
        pipes[side], other = context.Pipe()
        # Not a daemon: vLLM's default is an engine process of its own, and a daemon may have no children.
        process = context.Process(target=serve, args=(maker, model, options.spec, one.prompt, other))
        process.start()
        processes.append(process)
        pipes[side].recv()
    seconds: dict[str, list[float]] = {"peer": [], "ours": []}
    same, count = 0, one.rows or options.rows
    timed = count - FIRST if one.name == "overhead" else count
    for number in range(options.rounds):
        rows = texts[number * count : (number + 1) * count]
        labels = {}
        for side in ("peer", "ours") if number % 2 == 0 else ("ours", "peer"):
            pipes[side].send(rows)
            taken, labels[side] = pipes[side].recv()
            seconds[side].append(taken)
            print(f"{one.name}, round {number + 1}, {side}: {timed / taken:.2f} rows/s", flush=True)
        same += sum(a == b for a, b in zip(labels["peer"], labels["ours"], strict=True))
    _stop(pipes, processes)
    ours, peer = (statistics.median(timed / taken for taken in seconds[side]) for side in ("ours", "peer"))
    ratios = [p / o for p, o in zip(seconds["peer"], seconds["ours"], strict=True)]
    return {
        "name": one.name,
        "ours": ours,
        "peer": peer,
        "ratio": statistics.median(ratios),
        "rounds": options.rounds,
        "rows": count,
        "same_labels": same / (count * options.rounds),
    }


def _stop(pipes: dict[str, Any], processes: list[Any]) -> None:
    for pipe in pipes.values():
        pipe.send(None)
        pipe.recv()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.join()


def noop(rows: int) -> dict[str, Any]:
    """The stage without a model: rows/s from the first batch on, and how much the driver's memory grows."""
    import pyarrow as pa

    from runner.cluster import Cluster, Resources
    from runner.stages.label import CONCURRENT_BATCHES
    from runner.teacher.engine import Sampling
    from runner.teacher.prompt import Task
    from runner.teacher.vllm_engine import EngineSettings
    from runner.teacher.worker import QUESTIONS, Asking, Labeller

    size = 1024
    earlier = QUESTIONS.field("earlier").type

    def batches() -> Iterator[Any]:
        for start in range(0, rows, size):
            numbers = range(start, min(rows, start + size))
            texts = pa.array([f"Sales of unit {n} rose by {n % 97} %." for n in numbers], pa.large_string())
            ids = pa.array([f"r{n}" for n in numbers])
            kinds = pa.array(["row"] * len(numbers))
            yield pa.Table.from_arrays([ids, kinds, texts, pa.nulls(len(numbers), earlier)], schema=QUESTIONS)

    with tempfile.TemporaryDirectory() as answers:
        task = Task(("negative", "neutral", "positive"), "Label the text.", ())
        asking = Asking(task, 1, True, Sampling(0.0, 1.0, 0, 1), 0)
        arguments = {
            "engine": "noop",
            "model": "",
            "asking": asking,
            "settings": EngineSettings(4096, 0, 0),
            "answers": answers,
        }
        cluster = Cluster()
        results = cluster.map_batches(list(batches()), Labeller, arguments, Resources(1), (1, 1), CONCURRENT_BATCHES)
        done = len(next(results))
        start, first = time.perf_counter(), done
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for result in results:
            done += len(result)
        rate = (done - first) / (time.perf_counter() - start)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        cluster.stop()
    assert done == rows, f"{rows - done} rows were lost"
    return {
        "name": "noop",
        "ours": rate,
        "peer": None,
        "ratio": None,
        "rounds": 1,
        "rows": rows,
        "driver_growth_mib": grown,
    }


def main() -> None:
    """Run the comparisons and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = [one.name for one in COMPARISONS] + ["noop"]
    parser.add_argument("--only", default=",".join(names), help=f"comma-separated, of {', '.join(names)}")
    parser.add_argument("--rows", type=int, default=32, help="rows in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--noop-rows", type=int, default=1_000_000)
    parser.add_argument("--model", default="catalog:qwen2.5-coder-1.5b-instruct")
    parser.add_argument("--spec", default=str(ROOT / "specs" / "quickstart.yaml"))
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"there is no comparison {', '.join(sorted(unknown))}")

    from runner import models
    from runner.spec import load_spec
    from runner.stages.load import collect

    texts = [row["text"] for row in collect(load_spec(options.spec))[0].rows.values()]
    needed = options.rounds * max(
        one.rows or options.rows for one in COMPARISONS if one.name in wanted or one.rows is None
    )
    if len(texts) < needed:
        parser.error(f"the spec's train data has {len(texts)} rows, {needed} are needed")
    results = []
    for one in COMPARISONS:
        if one.name in wanted:
            results.append(compare(one, str(models.ensure(options.model)), options, texts))
    if "noop" in wanted:
        results.append(noop(options.noop_rows))
    print(f"\n{'rows/s':<14}{'ours':>10}{'peer':>10}{'ratio':>8}{'same label':>12}")
    for result in results:
        peer, ratio, same = (result.get(name) for name in ("peer", "ratio", "same_labels"))
        line = f"{result['name']:<14}{result['ours']:>10.2f}"
        line += f"{peer:>10.2f}{ratio:>8.2f}{same:>12.1%}" if peer else f"  {result['driver_growth_mib']:.0f} MiB more"
        print(line)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else []
    kept = [result for result in before if result["name"] not in {new["name"] for new in results}]
    OUT.write_text(json.dumps(kept + results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
