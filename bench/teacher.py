"""The label stage against other ways to ask the same model: `make bench-teacher`.

    python bench/teacher.py [--only direct,cot,...] [--rows 32] [--rounds 3] [--model catalog:NAME]

Each comparison has two contenders, each in a process of its own with an engine of its own. They get the same rows in
the same run, in alternating rounds, new rows each round; the table has the medians of both rates and of the rounds'
ratios, since machines are noisy. Also written to bench/out/teacher.json.

    direct        our actor, `prompt: direct`      against  vllm.LLM.chat with constrained choice, vLLM's defaults
    careful       our actor, `prompt: direct`      against  the same with our block size and one token for an answer
    ray.data.llm  the actor under Ray, stored      against  ray.data.llm with constrained choice, its defaults
    sequential    our actor, `prompt: direct`      against  one request after the other to `vllm serve`
    cot           our actor, three votes of `cot`  against  vllm.LLM.chat(n=3), the same sampling
    overhead      our actor, answers stored        against  the bare engine with the same options and prompts
    noop          the stage without a model: rows/s and the driver's memory on many rows

What `direct` gains over `careful` is the block size, which lets the prompt's whole prefix be kept, and the one token;
the rest is the engine's options and how it is fed. Figures are told with the machine and the number of rows.

Labels are compared over all rows, and over those that are decided: the two best labels are further apart than one
step of a bf16 logit (0.125 where logits are 16 to 32), below which it is chance which of them an engine puts first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
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

from common import keep
from share import rate_in, said, share_of, work_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "teacher.json"
Label = Callable[[list[str]], list[str]]
PORT = 18_765
STARTS_ANEW = ("stage", "ray_data_llm")
"""Contenders that start their engine in each round: it is timed with one row too, and that is taken off."""
BF16_STEP = 0.125
AT_LEAST: dict[str, float] = {}
"""The ratios that are asked for, by comparison."""
DECIDED: dict[str, bool] = {}
"""Of texts that we labelled with prompt `direct`: whether the two best labels are more than a step apart."""


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
    Comparison("careful", "actor", "careful_chat", "direct"),
    Comparison("ray.data.llm", "stage", "ray_data_llm", "direct", rows=80),
    Comparison("sequential", "actor", "sequential", "direct"),
    Comparison("cot", "actor", "chat", "cot"),
    Comparison("overhead", "actor", "bare", "direct", rows=80),
)


def spec_for(path: str, prompt: str) -> Any:
    """The spec with the prompt of a comparison; a vote's answer is kept short, so that a round ends."""
    from runner.spec import load_spec

    more = ["teacher.votes=3", "teacher.max_tokens=64"] if prompt == "cot" else []
    return load_spec(path, [f"teacher.prompt={prompt}", *more])


def careful_chat(model: str, spec: Any) -> Label:
    """The same as a careful user writes it: our block size, and one token that tells the labels apart."""
    from runner.teacher.engines.vllm_arguments import block_tokens
    from runner.teacher.request import settings_of

    first = chat(model, spec, max_tokens=1, block_size=block_tokens(settings_of(spec.teacher)))
    names = list(spec.task.labels)

    def label(texts: list[str]) -> list[str]:
        found = [[name for name in names if name.startswith(text)] if text else [] for text in first(texts)]
        if any(len(meant) != 1 for meant in found):
            raise ValueError("this comparison needs labels that differ in their first token")
        return [meant[0] for meant in found]

    return label


def chat(model: str, spec: Any, max_tokens: int = 16, **options: Any) -> Label:
    """vLLM with its defaults: one chat for each row, constrained to the labels or with n samples."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from runner.tasks.single_label.votes import majority
    from runner.teacher.conversation import counted
    from runner.teacher.prompt import messages
    from runner.teacher.request import prompt_task

    task, teacher = prompt_task(spec), spec.teacher
    # The cache's size is set because vLLM's default would take half of the machine from the other engine.
    llm = LLM(model, max_model_len=teacher.max_context, kv_cache_memory_bytes=2**30, **options)
    if teacher.prompt == "direct":
        choice = StructuredOutputsParams(choice=list(task.answers.choices))
        parameters = SamplingParams(temperature=0.0, max_tokens=max_tokens, structured_outputs=choice)
    else:
        parameters = SamplingParams(
            n=teacher.votes,
            temperature=teacher.temperature,
            top_k=teacher.top_k,
            top_p=teacher.top_p,
            max_tokens=teacher.max_tokens,  # and no seed: vLLM 0.32 dies of one on processors
        )

    def label(texts: list[str]) -> list[str]:
        talks: Any = [messages(task, text) for text in texts]
        outputs = [[one.text for one in output.outputs] for output in llm.chat(talks, parameters, use_tqdm=False)]
        if teacher.prompt == "direct":
            return [found[0] for found in outputs]
        records = [[{"vote": n, "attempt": 0, "text": text} for n, text in enumerate(found)] for found in outputs]
        return [str(majority(counted(found, task.answers, teacher.votes, early_stop=False))) for found in records]

    return label


def sequential(model: str, spec: Any) -> Label:
    """A server with its defaults, asked for one row after the other over HTTP."""
    from runner.teacher.prompt import messages
    from runner.teacher.request import prompt_task

    task = prompt_task(spec)
    options = ["--max-model-len", str(spec.teacher.max_context), "--kv-cache-memory-bytes", str(2**30)]
    server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(PORT)]
    # Forked, its processes do not each spend half a minute on imports.
    settings = os.environ | {"VLLM_WORKER_MULTIPROC_METHOD": "fork"}
    subprocess.Popen([*server, *options], env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{PORT}"
    _wait_for(f"{base}/health")

    def ask(text: str) -> str:
        body = {
            "model": model,
            "messages": messages(task, text),
            "temperature": 0.0,
            "max_tokens": 16,
            "structured_outputs": {"choice": list(task.answers.choices)},
        }
        request = urllib.request.Request(
            f"{base}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            return str(json.load(reply)["choices"][0]["message"]["content"])

    return lambda texts: [ask(text) for text in texts]


def _wait_for(url: str, seconds: float = 900) -> None:
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

    import pyarrow as pa
    import pyarrow.compute as pc

    from runner.rundir.folder import Folder
    from runner.teacher.answer_store import read_answers
    from runner.teacher.engines.vllm_arguments import block_tokens, engine_options
    from runner.teacher.occupancy import CONCURRENT_BATCHES
    from runner.teacher.request import asking_of, settings_of
    from runner.teacher.worker import Labeller

    folder = Folder(tempfile.mkdtemp())
    settings = settings_of(spec.teacher)
    labeller = Labeller("vllm", model, asking_of(spec), settings, folder.url)
    pool = ThreadPoolExecutor(CONCURRENT_BATCHES)
    block = block_tokens(settings)
    cached = len(labeller._renderer.head) // block * block
    once = labeller._trie is not None and len(labeller._trie.branches) == 1
    counted = once and not settings.gpus  # one request a row, computed where torch.mm computes
    dtype = engine_options(settings, Path(model)).get("dtype", "auto")

    def label(texts: list[str]) -> list[str]:
        list(pool.map(labeller, _batches(texts, spec.teacher.batch_size)))
        answers = read_answers(folder)
        mine = answers.filter(pc.is_in(answers["id"], pa.array(texts, answers["id"].type)))
        label.read = (pc.mean(mine["prompt_tokens"]).as_py() - cached, cached)  # type: ignore[attr-defined]
        return _labels(folder, spec, texts)

    if counted and dtype in ("bfloat16", "float32"):
        label.matrix_rate = lambda: rate_in(labeller._engine, dtype)  # type: ignore[attr-defined]
    return label


def stage(model: str, spec: Any) -> Label:
    """The actor as the stage runs it: Ray Data, a pool of one, answers stored and read back."""
    from runner.cluster.cluster import Cluster
    from runner.cluster.resources import Resources
    from runner.rundir.folder import Folder
    from runner.teacher.occupancy import CONCURRENT_BATCHES
    from runner.teacher.request import asking_of, settings_of
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
        batches = _batches(texts, spec.teacher.batch_size)
        results = cluster.map_batches(batches, Labeller, arguments, Resources(), (1, 1), CONCURRENT_BATCHES)
        assert sum(map(len, results)) == len(texts)
        return _labels(folder, spec, texts)

    return label


def ray_data_llm(model: str, spec: Any) -> Label:
    """Ray's own batch inference with its defaults; a dataset starts its engine anew, as with ours."""
    import logging

    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from runner.teacher.prompt import messages
    from runner.teacher.request import prompt_task

    task = prompt_task(spec)
    # Ray's workers are nice by default, as ours are not: what else runs here would stop them.
    os.environ.update(RAY_worker_niceness="0")
    # Its stages ask for one logical processor each, beside the engine's: with fewer than eight it waits for ever.
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs={"max_model_len": spec.teacher.max_context, "kv_cache_memory_bytes": 2**30},
        placement_group_config={"bundles": [{"CPU": 1}]},
        log_engine_metrics=False,  # needs Ray Serve, and is of no use to either side
    )
    sampling = {"temperature": 0.0, "max_tokens": 16, "structured_outputs": {"choice": list(task.answers.choices)}}
    processor = build_processor(
        config,
        preprocess=lambda row: {**row, "messages": messages(task, row["text"]), "sampling_params": dict(sampling)},
        postprocess=lambda row: {"text": row["text"], "label": row["generated_text"]},
    )

    def label(texts: list[str]) -> list[str]:
        found: dict[str, str] = {}
        dataset = processor(ray.data.from_items([{"text": text} for text in texts], override_num_blocks=3))
        for block in dataset.iter_batches(batch_size=None):
            found |= dict(zip(block["text"], block["label"], strict=True))
        return [str(found[text]) for text in texts]

    return label


def bare(model: str, spec: Any) -> Label:
    """The engine alone, with our options and prompts: all requests in, then steps until all are out."""
    from runner.tasks.single_label.label_trie import LabelTrie
    from runner.teacher.engines.protocol import Reply, ScoreTokens
    from runner.teacher.engines.vllm import VllmEngine
    from runner.teacher.engines.vllm_arguments import block_tokens
    from runner.teacher.renderer import Renderer
    from runner.teacher.request import prompt_task, settings_of

    engine = VllmEngine(Path(model), settings_of(spec.teacher))
    renderer = Renderer(engine.tokenizer, prompt_task(spec), block_tokens(settings_of(spec.teacher)))
    trie = LabelTrie.build(renderer.answer_ids(spec.task.labels), engine.tokenizer.eos_token_id)
    prompts: dict[str, list[int]] = {}

    def label(texts: list[str]) -> list[str]:
        inbox: queue.SimpleQueue[tuple[str, Reply | Exception]] = queue.SimpleQueue()
        request = ScoreTokens(trie.branches[0].choices)
        for text in texts:
            prompts[text] = renderer.prompt(renderer.text_ids(text))
        for text in texts:
            engine.submit(prompts[text], request, partial(_post, inbox, text))
        found = dict(inbox.get() for _ in texts)
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
    from runner.tasks.single_label.asking import LabelAnswer
    from runner.tasks.single_label.votes import majority
    from runner.teacher.answer_store import read_answers
    from runner.teacher.batch import by_row
    from runner.teacher.conversation import counted

    rows, names = by_row(read_answers(folder)), spec.task.labels
    if spec.teacher.prompt == "cot":
        answers, votes = LabelAnswer(names), spec.teacher.votes
        return [str(majority(counted(rows[text], answers, votes, early_stop=True))) for text in texts]
    found = [rows[text][0]["label_probabilities"] for text in texts]
    for text, row in zip(texts, found, strict=True):
        best, second = sorted(row, reverse=True)[:2]
        DECIDED[text] = math.log(best / max(second, 1e-9)) > 1.01 * BF16_STEP
    return [names[max(range(len(names)), key=row.__getitem__)] for row in found]


def serve(maker: str, model: str, spec_path: str, prompt: str, pipe: Connection) -> None:
    """A process that holds one contender and labels what it is sent."""
    os.setpgrp()  # so that what a contender starts ends with it
    label = globals()[maker](model, spec_for(spec_path, prompt))
    if maker not in STARTS_ANEW:
        label(["The company has an office in the harbour."])
    pipe.send("ready")
    rate = getattr(label, "matrix_rate", None)
    while (texts := pipe.recv()) is not None:
        once = _seconds(label, texts[:1])[0] if maker in STARTS_ANEW else 0.0
        before = rate() if rate else None
        taken, labels = _seconds(label, texts)
        rates = [before, rate()] if rate else []
        facts = {"decided": dict(DECIDED), "read": getattr(label, "read", None), "matrix_rates": rates}
        pipe.send((len(texts) - (once > 0), taken - once, labels, facts))
    pipe.send("done")


def _seconds(label: Label, texts: list[str]) -> tuple[float, list[str]]:
    start = time.perf_counter()
    labels = label(texts)
    return time.perf_counter() - start, labels


def compare(one: Comparison, model: str, options: argparse.Namespace, texts: list[str]) -> dict[str, Any]:
    """Run the rounds of one comparison."""
    pipes: dict[str, Any] = {}
    processes: list[Any] = []
    try:
        _start(one, model, options.spec, pipes, processes)
        return _rounds(one, pipes, options, texts)
    finally:
        _stop(pipes, processes)


def _start(one: Comparison, model: str, spec: str, pipes: dict[str, Any], processes: list[Any]) -> None:
    context = mp.get_context("spawn")
    for side, maker in (("peer", one.peer), ("ours", one.ours)):
        pipes[side], other = context.Pipe()
        # Not a daemon: vLLM's default is an engine process of its own, and a daemon may have no children.
        process = context.Process(target=serve, args=(maker, model, spec, one.prompt, other))
        process.start()
        other.close()  # so that a contender that dies is noticed here
        processes.append(process)
        pipes[side].recv()


def _rounds(one: Comparison, pipes: dict[str, Any], options: argparse.Namespace, texts: list[str]) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"peer": [], "ours": []}
    same: list[bool] = []
    decided: list[bool] = []
    matrix_rates: list[float] = []
    read = None
    count = one.rows or options.rows
    for number in range(options.rounds):
        rows = texts[number * count : (number + 1) * count]
        labels = {}
        for side in ("peer", "ours") if number % 2 == 0 else ("ours", "peer"):
            pipes[side].send(rows)
            timed, taken, labels[side], facts = pipes[side].recv()
            rates[side].append(timed / taken)
            print(f"{one.name}, round {number + 1}, {side}: {timed / taken:.2f} rows/s", flush=True)
            if side == "ours":
                decided += [facts["decided"].get(text, True) for text in rows]
                matrix_rates += facts["matrix_rates"]
                read = facts["read"]
        same += [a == b for a, b in zip(labels["peer"], labels["ours"], strict=True)]
    ours, peer = (statistics.median(rates[side]) for side in ("ours", "peer"))
    agreeing = [a for a, sure in zip(same, decided, strict=True) if sure]
    return {
        "name": one.name,
        "ours": ours,
        "peer": peer,
        "ratio": statistics.median(o / p for o, p in zip(rates["ours"], rates["peer"], strict=True)),
        "rounds": options.rounds,
        "rows": count,
        "same_labels": sum(same) / len(same),
        "same_labels_decided": sum(agreeing) / max(1, len(agreeing)),
        "decided": len(agreeing) / len(decided),
        "read": read if matrix_rates else None,
        "matrix_rates": matrix_rates,
    }


def _stop(pipes: dict[str, Any], processes: list[Any]) -> None:
    for pipe in pipes.values():
        with contextlib.suppress(EOFError, BrokenPipeError):  # a contender that died has nothing to end
            pipe.send(None)
            pipe.recv()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.join()


def noop(rows: int) -> dict[str, Any]:
    """The stage without a model: rows/s from the first batch on, and how much the driver's memory grows."""
    import pyarrow as pa

    from runner.cluster.cluster import Cluster
    from runner.cluster.resources import Resources
    from runner.tasks.single_label.asking import LabelAnswer
    from runner.teacher.engines.protocol import Sampling
    from runner.teacher.engines.vllm_arguments import EngineSettings
    from runner.teacher.occupancy import CONCURRENT_BATCHES
    from runner.teacher.prompt import Task
    from runner.teacher.worker import QUESTIONS, Asking, Labeller

    size = 1024

    def batches() -> Iterator[Any]:
        for start in range(0, rows, size):
            numbers = range(start, min(rows, start + size))
            texts = pa.array([f"Sales of unit {n} rose by {n % 97} %." for n in numbers], pa.large_string())
            ids = pa.array([f"r{n}" for n in numbers])
            kinds = pa.array(["row"] * len(numbers))
            nulls = [pa.nulls(len(numbers), QUESTIONS.field(name).type) for name in ("earlier", "examples")]
            yield pa.Table.from_arrays([ids, kinds, texts, *nulls], schema=QUESTIONS)

    with tempfile.TemporaryDirectory() as answers:
        task = Task(LabelAnswer(("negative", "neutral", "positive")), "Label the text.", ())
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


def how_far(result: dict[str, Any], config: Path, parameters: int | None) -> None:
    """Add which share of the machine's matrix rate the engine reaches, where it reads prompts alone, and say it."""
    if not result.get("matrix_rates") or not parameters:
        return
    result["operations_per_row"] = work_of(config, parameters, *result["read"])
    result["share_of_matrix_rate"] = share_of(result["ours"], result["operations_per_row"], result["matrix_rates"])
    print(said(result))


def parts_of_the_gain(results: list[dict[str, Any]]) -> None:
    """Say which part of the gain over vLLM's defaults a careful user has without us."""
    ratios = {result["name"]: result["ratio"] for result in results}
    if {"direct", "careful"} <= ratios.keys():
        print(
            f"of the {ratios['direct']:.2f} times over vLLM's defaults, block size and one token are about "
            f"{ratios['direct'] / ratios['careful']:.2f}, the rest is {ratios['careful']:.2f}"
        )


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
    from runner.data.splits import read_splits
    from runner.spec import load_spec

    texts = [row["text"] for row in read_splits(load_spec(options.spec))[0].rows.values()]
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
    head = f"{'rows':>10}{'ours':>10}{'peer':>10}{'ratio':>8}{'same label':>12}{'decided':>9}{'same':>8}"
    print(f"\n{'rows/s':<14}{head}")
    for result in results:
        line = f"{result['name']:<14}{result['rows']:>10,}{result['ours']:>10.2f}"
        if result["peer"] is None:
            line += f"  {result['driver_growth_mib']:.0f} MiB more"
        else:
            line += f"{result['peer']:>10.2f}{result['ratio']:>8.2f}{result['same_labels']:>12.1%}"
            line += f"{result['decided']:>9.1%}{result['same_labels_decided']:>8.1%}"
        print(line)
    parts_of_the_gain(results)
    for result in results:
        how_far(result, models.ensure(options.model) / "config.json", models.describe(options.model).active_parameters)
    keep(results, OUT, AT_LEAST)


if __name__ == "__main__":
    main()
