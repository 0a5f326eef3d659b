"""What a step of chain of thought costs: generated tokens/s by sampler and by build of the teacher.

    python bench/sampler.py [--rows 24] [--models catalog:NAME,catalog:OTHER] [--spec SPEC]

One engine for each model, our actor, three votes of ``cot`` for each row; every sampler gets the same rows after a
warm-up. The rate counts generated tokens over the whole time, prompts included. Also in bench/out/sampler.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "sampler.json"
SAMPLERS: dict[str, dict[str, float]] = {
    "warm-up": {"temperature": 0.8, "top_p": 1.0, "top_k": 20},
    "greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": 0},
    "temperature alone": {"temperature": 0.8, "top_p": 1.0, "top_k": 0},
    "top_k 20": {"temperature": 0.8, "top_p": 1.0, "top_k": 20},
    "top_p 0.9": {"temperature": 0.8, "top_p": 0.9, "top_k": 0},
}


def measure(model: str, spec_path: str, count: int, pipe: Connection) -> None:
    """Send a row for each sampler through ``pipe``, all on one engine."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from runner import models
    from runner.data.splits import read_splits
    from runner.rundir.folder import Folder
    from runner.spec import load_spec
    from runner.teacher.answer_store import read_answers
    from runner.teacher.request import asking_of, settings_of
    from runner.teacher.worker import QUESTIONS, Labeller

    spec = load_spec(spec_path, ["teacher.prompt=cot", "teacher.votes=3", "teacher.early_stop=false"])
    texts = [row["text"] for row in read_splits(spec)[0].rows.values()][: count + 4]
    asking = asking_of(spec)
    labeller = Labeller("vllm", str(models.ensure(model)), asking, settings_of(spec.teacher), tempfile.mkdtemp())
    for name, settings in SAMPLERS.items():
        rows = texts[count:] if name == "warm-up" else texts[:count]
        table = pa.Table.from_pylist([{"id": t, "kind": "row", "text": t} for t in rows], schema=QUESTIONS)
        labeller._asking = replace(asking, sampling=replace(asking.sampling, **settings))
        labeller._answers = Folder(tempfile.mkdtemp())
        start = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(labeller, [table.slice(at, 8) for at in range(0, len(table), 8)]))
        seconds = time.perf_counter() - start
        tokens = pc.sum(read_answers(labeller._answers)["output_tokens"]).as_py()
        if name != "warm-up":
            pipe.send({"model": model, "sampler": name, "tokens": tokens, "tokens_per_second": tokens / seconds})
    pipe.send(None)


def main() -> None:
    """Measure each model in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = "catalog:qwen2.5-coder-1.5b-instruct,catalog:qwen2.5-coder-1.5b-instruct-int8"
    parser.add_argument("--models", default=names)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--spec", default=str(ROOT / "specs" / "quickstart.yaml"))
    options = parser.parse_args()
    context, results = mp.get_context("spawn"), []
    for model in options.models.split(","):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(model, options.spec, options.rows, sender))
        process.start()
        sender.close()  # so that a process that dies is noticed here
        while (row := receiver.recv()) is not None:
            results.append(row)
            print(f"{row['model']}, {row['sampler']}: {row['tokens_per_second']:.1f} tokens/s", flush=True)
        process.join()
    print(f"\n{'tokens/s':<60}" + "".join(f"{name:>20}" for name in list(SAMPLERS)[1:]))
    for model in options.models.split(","):
        rates = [row["tokens_per_second"] for row in results if row["model"] == model]
        print(f"{model:<60}" + "".join(f"{rate:>20.1f}" for rate in rates))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
