"""Labelling throughput: our `direct` prompt against plain `vllm.LLM.chat` with constrained choice.

    python bench/labelling.py [--rows 64] [--rounds 3] [--model catalog:qwen2.5-coder-1.5b-instruct]

Both get the same conversations of the same rows in the same run. The peer is vLLM as its documentation shows
it: defaults, one chat for each row, the answer constrained to the labels. Ours is the actor of the label stage,
called without Ray. Each engine lives in a process of its own; rounds alternate between them, on new rows each
time, and the table reports medians and their ratio, since machines are noisy. Also written to
bench/out/labelling.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Label = Callable[[list[str]], list[str]]


def plain(model: str, spec: Any) -> Label:
    """vLLM with its defaults: one chat for each row, the answer constrained to the labels."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from runner.stages.label import task_of
    from runner.teacher.prompt import messages

    task = task_of(spec)
    # The cache's size is set because vLLM's default would take half of the machine from the other engine.
    llm = LLM(model, max_model_len=spec.teacher.max_context, kv_cache_memory_bytes=2**30)
    parameters = SamplingParams(
        temperature=0.0, max_tokens=16, structured_outputs=StructuredOutputsParams(choice=list(task.labels))
    )

    def label(texts: list[str]) -> list[str]:
        outputs = llm.chat([messages(task, text) for text in texts], parameters, use_tqdm=False)  # type: ignore[arg-type]
        return [output.outputs[0].text for output in outputs]

    return label


def ours(model: str, spec: Any) -> Label:
    """The label stage's actor, storing its answers as it does in a run."""
    import pyarrow as pa

    from runner.stages.label import read_answers, task_of
    from runner.store import Folder
    from runner.teacher.vllm_engine import EngineSettings
    from runner.teacher.worker import Labeller, Sampling

    teacher = spec.teacher
    folder = Folder(tempfile.mkdtemp())
    settings = EngineSettings(teacher.max_context, teacher.resources.gpus, teacher.seed)
    sampling = Sampling(teacher.votes, teacher.temperature, teacher.top_p, teacher.max_tokens, teacher.seed)
    labeller = Labeller(model, task_of(spec), settings, sampling, folder.url)

    def label(texts: list[str]) -> list[str]:
        for start in range(0, len(texts), teacher.batch_size):
            batch = texts[start : start + teacher.batch_size]
            labeller(pa.table({"id": batch, "kind": ["row"] * len(batch), "text": batch}))
        answers = read_answers(folder)
        names = spec.task.labels
        found = [answers[text]["label_probabilities"] for text in texts]
        return [names[max(range(len(names)), key=row.__getitem__)] for row in found]

    return label


def serve(make: str, model: str, spec_path: str, pipe: Connection) -> None:
    """A process that holds one engine and labels what it is sent."""
    from runner.spec import load_spec

    label = globals()[make](model, load_spec(spec_path))
    label(["The company has an office in the harbour."])
    pipe.send("ready")
    while (texts := pipe.recv()) is not None:
        start = time.perf_counter()
        labels = label(texts)
        pipe.send((time.perf_counter() - start, labels))


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=64, help="rows in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="catalog:qwen2.5-coder-1.5b-instruct")
    parser.add_argument("--spec", default=str(ROOT / "specs" / "quickstart.yaml"))
    options = parser.parse_args()

    from runner import models
    from runner.spec import load_spec
    from runner.stages.load import collect

    texts = [row["text"] for row in collect(load_spec(options.spec))[0].rows.values()]
    wanted = options.rows * options.rounds
    if len(texts) < wanted:
        parser.error(f"the spec's train data has {len(texts)} rows, {wanted} are needed")
    model = str(models.ensure(options.model))
    context = mp.get_context("spawn")
    pipes = {}
    for name in ("plain", "ours"):
        pipes[name], other = context.Pipe()
        # Not a daemon: vLLM's default is an engine process of its own, and a daemon may have no children.
        context.Process(target=serve, args=(name, model, options.spec, other)).start()
        print(f"{name}: {pipes[name].recv()}", flush=True)
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    same = 0
    for number in range(options.rounds):
        rows = texts[number * options.rows : (number + 1) * options.rows]
        labels = {}
        for name in ("plain", "ours") if number % 2 == 0 else ("ours", "plain"):
            pipes[name].send(rows)
            taken, labels[name] = pipes[name].recv()
            seconds[name].append(taken)
            print(f"round {number + 1}, {name}: {len(rows) / taken:.2f} rows/s", flush=True)
        same += sum(a == b for a, b in zip(labels["plain"], labels["ours"], strict=True))
    for pipe in pipes.values():
        pipe.send(None)
    rates = {name: statistics.median(options.rows / taken for taken in times) for name, times in seconds.items()}
    result = {
        "name": "labelling, prompt direct, against vllm.LLM.chat with constrained choice",
        "ours": rates["ours"],
        "peer": rates["plain"],
        "ratio": rates["ours"] / rates["plain"],
        "rounds": options.rounds,
        "rows": options.rows,
        "same_labels": same / wanted,
    }
    print(f"\n{'rows/s':<28}{'ours':>8}{'plain':>8}{'ratio':>8}{'same label':>12}")
    print(
        f"{'direct, ' + options.model.split(':')[-1][:18]:<28}{result['ours']:>8.2f}{result['peer']:>8.2f}"
        f"{result['ratio']:>8.2f}{result['same_labels']:>12.1%}"
    )
    out = ROOT / "bench" / "out" / "labelling.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([result], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
