"""What the benches share: the machine's matrix rate, and the file that keeps the newest results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def matrix_rate(dtype: Any = None, sizes: Sequence[int] = (1024, 2048, 4096)) -> float:
    """Operations per second of matrix products: the fastest of five of each size.

    Without a ``dtype`` in bf16, or in fp32 where bf16 is made step by step.
    """
    import torch

    from runner.system import machine

    if dtype is None:
        dtype = torch.bfloat16 if machine.has_bf16() else torch.float32
    best = 0.0
    for size in sizes:
        one, other = (torch.randn(size, size, dtype=dtype) for _ in range(2))
        for number in range(6):
            start = time.perf_counter()
            torch.mm(one, other)
            if number:  # the first one warms up
                best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def machine_name() -> str:
    """What the figures are of: processor, cores, and the precision that it multiplies in hardware."""
    from runner.system import machine

    found, flags = machine.hardware(), machine.cpu_flags()
    known = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx2")
    best = next((flag.replace("_", "-") for flag in known if flag in flags), "no AVX2")
    return ", ".join([str(found["cpu"]), f"{found['cores']} cores", best, *map(str, found["gpus"])])


def keep(results: list[dict[str, Any]], out: Path, at_least: Mapping[str, float] | None = None) -> None:
    """Write results to ``out``, with the machine, in the place of earlier ones of the same name, rows and machine.

    Comparisons are {name, ours, peer, ratio, at_least, rounds, rows, machine, ...}; ``at_least`` are the ratios
    that are asked for, by name.
    """
    here = machine_name()
    new = [result | {"machine": here} for result in results]
    if at_least is not None:
        new = [result | {"at_least": at_least.get(result["name"])} for result in new]
    out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    replaced = {_which(result) for result in new}
    kept = [result for result in before if _which(result) not in replaced]
    out.write_text(json.dumps(kept + new, indent=2) + "\n", encoding="utf-8")
    print(f"\non {here}; also in {out}")


def _which(result: dict[str, Any]) -> tuple[Any, ...]:
    return result["name"], result.get("rows"), result.get("machine")
