"""What handing a job to a warm cluster costs, against running it in this process: `python bench/submit.py`.

    python bench/submit.py [--rounds 3]

A small job with a recorded teacher is run both ways in alternating rounds, each into a run folder of
its own: what differs is what submitting adds (packing, uploading, starting the job's process, its connection to Ray).
The cluster is a head on this machine, started before the clock. Printed, and written to bench/out/submit.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "submit.json"
START_SECONDS = 90
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
SPEC = """\
version: 1
name: small
task: {labels: [negative, positive], instructions: Label the sentence.}
data: {train: {path: train.csv}, test: {path: test.csv, label: label}}
teacher: {engine: recorded, model: somebody, columns: [vote]}
student: {model: "catalog:all-minilm-l6-v2", epochs: 1, resources: {cpus: 1}}
evaluate: {resamples: 100}
benchmark: {rows: 8, batch_sizes: [1], texts: 1000}
"""


def write_job(folder: Path) -> Path:
    """The spec and its few rows."""
    rows = [
        f"Profit {'rose' if n % 2 else 'fell'} in {1900 + n}.,{'positive' if n % 2 else 'negative'}" for n in range(32)
    ]
    (folder / "train.csv").write_text("\n".join(["text,vote", *rows[:24]]))
    (folder / "test.csv").write_text("\n".join(["text,label,vote", *(f"{row},positive" for row in rows[24:])]))
    (folder / "spec.yaml").write_text(SPEC)
    return folder / "spec.yaml"


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A head with this machine's cores; yields its dashboard's address."""
    ports = [_port() for _ in range(6)]
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "node-manager-port", "object-manager-port")
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=False)]
    options += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder}", "--include-dashboard=true"]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", *options]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
    )
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit("the cluster does not come up")
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # of a head that nobody needs any more
        process.wait(timeout=60)


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/api/version", timeout=5):
        return True
    return False


def seconds(*words: str) -> float:
    """How long a command of tutelage takes."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="submit-", dir="/tmp"))
    taken: dict[str, list[float]] = {"embedded": [], "submitted": []}
    try:
        spec = str(write_job(folder))
        with cluster(folder / "ray") as address:
            ways: dict[str, list[str]] = {
                "embedded": ["run", spec],
                "submitted": ["submit", spec, "--address", address],
            }
            for number in range(rounds + 1):  # the first of each is not counted
                for way in ways if number % 2 else reversed(ways):
                    took = seconds(*ways[way], "--runs-dir", str(folder / f"{way}-{number}"))
                    print(f"{'warm-up' if not number else f'round {number}'}, {way}: {took:.1f} s", flush=True)
                    taken[way] += [took] if number else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    medians = {way: statistics.median(found) for way, found in taken.items()}
    result: dict[str, Any] = {"name": "submit", **medians, "rounds": rounds}
    result["more"] = medians["submitted"] - medians["embedded"]
    print(f"embedded {medians['embedded']:.1f} s, submitted {medians['submitted']:.1f} s: {result['more']:+.1f} s")
    keep([result], OUT)


if __name__ == "__main__":
    main()
