"""What fits on which GPU, as `plan` and `run` say it, against tests/planning/hardware/truth.yaml, made by hand.

python bench/truth.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "gpu.json"
MOST_SECONDS = 90
WHAT = {
    "cells of the truth table that are equal": "tests/planning/hardware/test_truth.py",
    "weights and KV cache that are exactly transformers' and vLLM's": "tests/planning/hardware/test_counts.py",
    "injected failures that are told with their cause": (
        "tests/teacher/engines/test_vllm_errors.py tests/student/test_loss_scale.py tests/student/test_not_finite.py "
        "tests/system/test_machine.py tests/system/test_device_errors.py tests/student/test_inflight.py "
        "tests/planning/hardware/test_nvml.py tests/teacher/test_batch.py"
    ),
}


def main() -> None:
    results = []
    for name, files in WHAT.items():
        start = time.perf_counter()
        report = OUT.parent / "truth.xml"
        report.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *files.split()]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        suite = ElementTree.parse(report).getroot()[0]
        report.unlink()
        found = {what: int(suite.get(what, 0)) for what in ("tests", "failures", "errors", "skipped")}
        total, bad = found["tests"] - found["skipped"], found["failures"] + found["errors"]
        took = time.perf_counter() - start
        print(f"{name}: {total - bad} of {total} in {took:.0f} s ({found['skipped']} skipped)", flush=True)
        result = {"name": name, "ours": total - bad, "peer": total, "ratio": (total - bad) / max(1, total)}
        results.append(result | {"at_least": 1.0, "rounds": 1, "rows": total, "seconds": round(took, 1)})
    keep(results, OUT)
    sys.exit(0 if all(result["ratio"] == 1 for result in results) else 1)


if __name__ == "__main__":
    main()
