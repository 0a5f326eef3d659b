"""From a saved spec to its rows labelled anew, with the teacher kept ready, against a run of its own.

    python bench/try_watch.py [--spec specs/quickstart.yaml] [--rows 20] [--changes 5] [--new-runs 2] [--at-most 12]

`tutelage try --watch` at work on a copy of the spec, whose instructions are changed again and again: seconds from the
save to the rows, and to the same rows after calibration, whose own texts depend on the prompt as well. Beside it
`tutelage try` begun anew for each change, which is what there is without --watch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "try_watch.json"


def main() -> int:
    """Print and keep the seconds; exit status 1 where the median is over what is asked."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.yaml"
        shutil.copytree(options.spec.parent / "data", Path(folder) / "data")
        text = options.spec.read_text(encoding="utf-8")
        command = [sys.executable, "-m", "runner", "try", str(spec), "--rows", str(options.rows), "--json"]
        command += ["--runs-dir", str(Path(folder) / "runs")]
        spec.write_text(text, encoding="utf-8")
        started, changes = _watched([*command, "--watch"], spec, text, options.changes)
        anew = [_anew(command, spec, _changed(text, f"anew {number}")) for number in range(options.new_runs)]
    median = statistics.median(change["rows"] for change in changes)
    found = {
        "name": "try --watch: seconds from a saved spec to its rows",
        "ours": median,
        "peer": statistics.median(anew),
        "ratio": statistics.median(anew) / median,
        "rows": options.rows,
        "rounds": options.changes,
        "spec": options.spec.name,
        "start_seconds": started,
        "rows_seconds": [change["rows"] for change in changes],
        "calibrated_seconds": [change["calibrated"] for change in changes],
        "new_run_seconds": anew,
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(found, indent=2))
    keep([found], OUT)
    return 0 if median <= options.at_most else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=Path, default=ROOT / "specs" / "quickstart.yaml")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--changes", type=int, default=5)
    parser.add_argument("--new-runs", type=int, default=2)
    parser.add_argument("--at-most", type=float, default=12.0, help="seconds that the median change may take")
    return parser.parse_args()


def _changed(text: str, words: str) -> str:
    """The spec with other instructions, near their beginning: none of the prompt's cache can be used again."""
    before, found, rest = text.partition("instructions: |\n    ")
    assert found, "the spec has no instructions to change"
    return f"{before}{found}Round {words}. {rest}"


def _watched(command: list[str], spec: Path, text: str, changes: int) -> tuple[float, list[dict[str, float]]]:
    """Seconds until the first rows, and for each change until its rows, and until they are calibrated."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        started = _next(process, begun)["rows"]
        found = []
        for number in range(changes):
            time.sleep(1.0)  # as somebody reads
            new = spec.with_suffix(".new")
            new.write_text(_changed(text, f"watched {number}"), encoding="utf-8")
            begun = time.monotonic()
            os.replace(new, spec)
            found.append(_next(process, begun))
            print(f"change {number + 1}: {found[-1]}", file=sys.stderr, flush=True)
    finally:
        process.send_signal(signal.SIGTERM)  # heard in the background too, where shells ignore SIGINT
        process.wait(60)
    return started, found


def _next(process: subprocess.Popen[str], begun: float) -> dict[str, float]:
    """Seconds until the rows of a version are told, and until they are calibrated."""
    assert process.stdout is not None
    seconds: dict[str, float] = {}
    for line in process.stdout:
        told: dict[str, Any] = json.loads(line)
        assert told["event"] == "try" and all(row["value"] or row["why_not"] for row in told["rows"])
        seconds.setdefault("rows", round(time.monotonic() - begun, 2))
        if told["calibrated"]:
            return seconds | {"calibrated": round(time.monotonic() - begun, 2)}
    raise RuntimeError("tutelage try has ended")


def _anew(command: list[str], spec: Path, text: str) -> float:
    spec.write_text(text, encoding="utf-8")
    begun = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd=ROOT)
    seconds = round(time.monotonic() - begun, 2)
    print(f"begun anew: {seconds}", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
