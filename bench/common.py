"""What the benches share: the machine's matrix rate, and the file that keeps the newest result of each comparison."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def matrix_rate(sizes: Sequence[int] = (1024, 2048, 4096)) -> float:
    """Operations per second of matrix products, of the size that is fastest; for each the median of five.

    In bf16, or in fp32 where bf16 is made step by step.
    """
    import torch

    from runner import machine

    dtype = torch.bfloat16 if machine.has_bf16() else torch.float32
    rates = []
    for size in sizes:
        one, other = (torch.randn(size, size, dtype=dtype) for _ in range(2))
        times = []
        for _ in range(6):
            start = time.perf_counter()
            torch.mm(one, other)
            times.append(time.perf_counter() - start)
        rates.append(2 * size**3 / statistics.median(times[1:]))
    return max(rates)


def keep(results: list[dict[str, Any]], out: Path) -> None:
    """Write results to ``out``, in the place of earlier ones of the same names."""
    out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    kept = [result for result in before if result["name"] not in {new["name"] for new in results}]
    out.write_text(json.dumps(kept + results, indent=2) + "\n", encoding="utf-8")
