"""How many rows a second Python alone allows: the teacher's actor in front of a model that computes next to nothing.

    python bench/ceiling.py [--rows 2048] [--rounds 3] [--model catalog:NAME]

A GPU computes beside the processor, so that a fast one waits for Python: tokenising, building requests, reading
answers, storing them. Here the real actor labels with prompt `direct` through the real engine, which runs in a process
of its own, as it does on GPUs; the model has two layers of 64, random weights, and the tokenizer and vocabulary of the
teacher named. What counts is the processor time of the actor's process per row, start and warm-up left out: its inverse
is the rate above which no GPU can be kept busy by one actor. The engine's process is not counted: its Python (the
scheduler) runs beside the actor's, and on a processor it computes the model as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "gpu.json"
AT_LEAST = 2500
"""Rows a second on a core of 3 GHz."""
BATCH, THREADS = 64, 16
WORDS = """
the company said quarterly net sales rose fell by percent to euro million from a year earlier and operating profit
margin improved declined while the board expects demand for its products in Finland to remain stable
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="catalog:qwen2.5-coder-1.5b-instruct", help="whose tokenizer is used")
    wanted = parser.parse_args()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        ours = measure(two_layers(wanted.model, Path(scratch) / "model"), wanted.rows, wanted.rounds, Path(scratch))
    rate = statistics.median(ours)
    result = {"name": "Python's ceiling, direct, rows/s of one core", "ours": rate, "peer": None, "ratio": None}
    keep([result | {"at_least": AT_LEAST, "rounds": wanted.rounds, "rows": wanted.rows}], OUT)


def two_layers(name: str, folder: Path) -> Path:
    """A random Qwen2 of two small layers with the tokenizer of the model named, in ``folder``."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from runner import models

    source = models.ensure(name, weights=False)
    vocabulary = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = Qwen2Config(vocab_size=vocabulary, num_key_value_heads=1, max_position_embeddings=4096, **sizes)
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and not (folder / file.name).exists():
            shutil.copy(file, folder / file.name)
    return folder


def measure(model: Path, rows: int, rounds: int, scratch: Path) -> list[float]:
    """Rows per second of processor time, one figure for each round."""
    from runner.spec import load_spec
    from runner.teacher.request import asking_of, settings_of
    from runner.teacher.worker import Labeller

    spec = load_spec(str(ROOT / "specs" / "quickstart.yaml"), ["teacher.prompt=direct"])
    labeller = Labeller("vllm", str(model), asking_of(spec), settings_of(spec.teacher), str(scratch / "answers"))
    labeller(questions(sentences(BATCH, seed=rounds), "warm-up"))
    rates = []
    for number in range(rounds):
        texts = sentences(rows, seed=number)
        batches = [questions(texts[start : start + BATCH], f"{number}-{start}") for start in range(0, rows, BATCH)]
        used, took = timed(lambda batches=batches: answered(labeller, batches))
        rates.append(rows / used)
        print(
            f"round {number}: {1e6 * used / rows:.0f} us of Python a row, {rows / used:.0f} rows/s at most; "
            f"here, where a processor computes the model, {rows / took:.0f}",
            flush=True,
        )
    labeller.close()
    return rates


def answered(labeller: Any, batches: list[pa.Table]) -> None:
    """Label all batches, as many at once as an actor on a GPU has."""
    with ThreadPoolExecutor(THREADS) as pool:
        failed = [error for result in pool.map(labeller, batches) for error in result["error"].to_pylist() if error]
    if failed:
        raise RuntimeError(f"{len(failed)} rows failed: {failed[0]}")


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of processor time of this process, and seconds by the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - clock


def sentences(count: int, seed: int) -> list[str]:
    """Texts of 15 to 35 words, all different."""
    chance = random.Random(seed)
    return [f"{number} " + " ".join(chance.choices(WORDS.split(), k=chance.randint(15, 35))) for number in range(count)]


def questions(texts: list[str], prefix: str) -> pa.Table:
    """Rows as the label stage hands them to an actor."""
    from runner.teacher.worker import QUESTIONS

    rows = [
        {"id": f"{prefix}-{place}", "kind": "row", "text": text, "earlier": None, "examples": None}
        for place, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTIONS)


if __name__ == "__main__":
    main()
