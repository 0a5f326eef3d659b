"""How full the label stage keeps an engine on GPUs, simulated: against the same engine with all rows in it at once.

    python bench/occupancy.py [--rows 2264]

The real actor labels, fed as Ray Data feeds it: so many batches at once, the next when one is done. Behind it is an
engine that computes no model: a step takes a + b x n seconds of a clock of its own for n sequences, an answer as many
steps as one recorded of Mixtral has tokens. Answers and their lengths are given out by row and vote, so that both
contenders have the same work.
"""

from __future__ import annotations

import argparse
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "gpu.json"
AT_LEAST = 0.9
STEP, SEQUENCE = 19e-3, 15e-6
"""Seconds of a step: a, and b for each sequence (two H100s, Mixtral: weights at 3.35 TB/s, all-reduces, sampler)."""
MEAN_TOKENS, P95_TOKENS, MOST_TOKENS = 42, 70, 128
"""Of the recorded answers."""
REAL_STEP = 2e-3
"""Seconds by the real clock that a step leaves to the actor's threads."""


@dataclass
class Simulated:
    """An engine that holds ``sequences`` at once. ``seconds`` of its clock, ``filled``: sequences times seconds."""

    sequences: int
    seconds: float = 0.0
    filled: float = 0.0
    tokenizer: Any = None
    block_tokens: None = None
    _inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        from runner.teacher.engines.noop import NoopTokenizer

        self.tokenizer = NoopTokenizer()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, prompt: Sequence[int], request: Any, deliver: Callable[[Any], None]) -> None:
        """A request; its answer is as long as its prompt and seed say."""
        chance = np.random.default_rng([sum(prompt) % 2**31, request.seed])
        tokens = int(np.clip(round(chance.lognormal(np.log(MEAN_TOKENS) - 0.06, 0.35)), 8, MOST_TOKENS))
        self._inbox.put((tokens, deliver))

    def close(self) -> None:
        """Stop."""
        self._inbox.put(None)

    def _run(self) -> None:
        from runner.teacher.engines.protocol import Reply

        waiting: list[Any] = []
        running: list[list[Any]] = []
        while True:
            while not self._inbox.empty() or not (waiting or running):
                if (request := self._inbox.get()) is None:
                    return
                waiting.append(request)
            free = self.sequences - len(running)
            running += [list(request) for request in waiting[:free]]
            del waiting[:free]
            took = STEP + SEQUENCE * len(running)
            self.seconds += took
            self.filled += took * len(running)
            for one in running:
                one[0] -= 1
            for one in running:
                if not one[0]:
                    one[1](Reply('{"reason": "it says so", "label": "positive"}', MEAN_TOKENS))
            running = [one for one in running if one[0]]
            time.sleep(REAL_STEP)


def labelled(batches: Iterable[pa.Table], concurrent: int, sequences: int) -> Simulated:
    """The engine after the actor has labelled all ``batches``, of which it has so many in hand at once."""
    from runner.spec import load_spec
    from runner.teacher import worker
    from runner.teacher.request import asking_of, settings_of

    spec = load_spec(str(ROOT / "specs" / "financial-sentiment.yaml"))
    engine = Simulated(sequences)
    opened, worker.open_engine = worker.open_engine, lambda *_: (engine, None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            actor = worker.Labeller("vllm", "", asking_of(spec), settings_of(spec.teacher), folder)
            engine.seconds = engine.filled = 0.0  # without the warm-up
            with ThreadPoolExecutor(concurrent) as pool:
                list(pool.map(actor, batches))
            actor.close()
    finally:
        worker.open_engine = opened
    return engine


def compare(rows: int) -> tuple[Simulated, Simulated]:
    """The headline spec with so many ``rows`` for one replica: as the label stage feeds it, and all at once."""
    from runner.spec import load_spec
    from runner.teacher.occupancy import concurrent_batches
    from runner.teacher.worker import QUESTIONS

    spec = load_spec(str(ROOT / "specs" / "financial-sentiment.yaml"))
    teacher = spec.teacher
    lines = [
        {"id": str(row), "kind": "row", "text": f"row {row}", "earlier": None, "examples": None} for row in range(rows)
    ]
    table, size = pa.Table.from_pylist(lines, schema=QUESTIONS), teacher.batch_size
    batches = [table.slice(start, size) for start in range(0, rows, size)]
    ours = labelled(batches, concurrent_batches(spec, len(batches)), 1024)
    return ours, labelled(batches, len(batches), 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2264)
    wanted = parser.parse_args()
    ours, full = compare(wanted.rows)
    mean, most = ours.filled / ours.seconds, full.filled / full.seconds
    print(f"sequences in a step, on average: {mean:.0f}; with all {wanted.rows} rows at once {most:.0f}")
    print(f"seconds of the engine's clock: {ours.seconds:.1f} and {full.seconds:.1f}")
    result = {"name": "occupancy of the headline spec against the engine kept full", "ours": mean, "peer": most}
    result |= {"ratio": mean / most, "at_least": AT_LEAST, "rounds": 1, "rows": wanted.rows}
    keep([result], OUT)


if __name__ == "__main__":
    main()
