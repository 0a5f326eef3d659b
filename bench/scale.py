"""How far one driver carries a job: the label and the apply stage on simulated clusters.

    python bench/scale.py                       # the simulation, twenty minutes on two cores
    python bench/scale.py --table               # what corpora cost on 1, 16 and 256 nodes
    python bench/scale.py --table --student-rate 61 --student-price 0.59 --teacher-rate 40 --teacher-price 12

Ray is real: a head and one, two or four nodes, each a raylet of its own on this machine. What is not real is the work:
the teacher is the engine ``noop`` and the student a stand-in, both of which answer at random. In the rows that say
*asleep* each answer takes its time, as on a GPU elsewhere, and the question is whether twice the nodes do twice the
work. In the rows that say *at once* an answer costs nothing, and the question is how much one driver can hand out and
take back; here all nodes and the driver share this machine's cores, so that it is less than a driver with a machine to
itself can do. Printed, and written to bench/out/scale.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "scale.json"
LABELS = ["negative", "neutral", "positive"]

SPEC = """\
version: 1
name: scale
task: {{labels: [negative, neutral, positive], instructions: Label the sentence.}}
data: {{train: {{path: train.csv}}, test: {{path: test.csv, label: label}}}}
teacher:
  engine: noop
  model: none
  batch_size: {batch}
  engine_options: {{seconds: {seconds}}}
  resources: {{cpus: 1, replicas: [{nodes}, {nodes}]}}
student: {{model: "catalog:all-minilm-l6-v2"}}
"""


@dataclass(frozen=True)
class Point:
    """One measurement: ``rate`` rows a second and node is what a replica would do alone; 0: as fast as it goes."""

    stage: str
    nodes: int
    rows: int
    rate: float

    @property
    def name(self) -> str:
        return f"{self.stage}, {'asleep' if self.rate else 'at once'}, {self.rows:,} rows, {self.nodes} nodes"


POINTS = [
    *(Point("label", nodes, 4_000 * nodes, 100.0) for nodes in (1, 2, 4)),
    *(Point("label", 2, rows, 0.0) for rows in (20_000, 100_000, 1_000_000)),
    *(Point("apply", nodes, 60_000 * nodes, 2_000.0) for nodes in (1, 2, 4)),
    Point("apply", 4, 480_000, 2_000.0),  # twice as long: what the start of the pool takes is then half
    *(Point("apply", 2, rows, 0.0) for rows in (200_000, 1_000_000)),
]


class Asleep:
    """A student that takes its time: ``rate`` texts a second, or none at all."""

    labels = LABELS

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        """As :meth:`runner.student.predict.Student.batches`: row numbers and probabilities."""
        for start in range(0, len(texts), 64):
            rows = list(range(start, min(start + 64, len(texts))))
            if self._rate:
                time.sleep(len(rows) / self._rate)
            yield rows, np.full((len(rows), len(LABELS)), 1 / len(LABELS), dtype=np.float32)


@dataclass(frozen=True)
class Model:
    """Stands where :class:`runner.student.trained.StudentRef` does."""

    rate: float
    kind = "single-label"

    def open(self) -> Asleep:
        return Asleep(self.rate)


def texts(count: int) -> Iterator[str]:
    """Sentences of some twenty words, no two alike."""
    for number in range(count):
        year, rest = 1900 + number % 100, number // 100
        yield (
            f"In {year} the company with number {rest} sold more of its paper, board and pulp than in the year before, "
            f"while costs of energy and wood rose by {number % 37} per cent."
        )


def stopwatch() -> Any:
    """A progress that says nothing and knows the rate from the first that came to the last."""
    from runner.observe.progress import Progress

    class Stopwatch(Progress):
        measured = 0.0

        def at(self, done: int) -> None:
            super().at(done)
            self.measured = self.rate

    return Stopwatch(sys.stderr, "quiet")


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """The address of a head without cores and ``nodes`` nodes of one core."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 500 * 2**20})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=1, object_store_memory=300 * 2**20)
        yield made.address
    finally:
        made.shutdown()


def peak() -> float:
    """The most memory that this process had at any time, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def written(folder: Path) -> dict[str, float]:
    """Files in a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def label(point: Point, folder: Path, address: str) -> dict[str, Any]:
    """Load and label rows as a run does; what comes after is the same for all teachers."""
    from runner.cluster.cluster import Cluster
    from runner.rundir.folder import Folder
    from runner.spec import load_spec
    from runner.stages import pipeline
    from runner.stages.contract import Context
    from runner.teacher.occupancy import CONCURRENT_BATCHES

    seconds = CONCURRENT_BATCHES / point.rate if point.rate else 0.0
    spec_file = folder / "spec.yaml"
    spec_file.write_text(SPEC.format(batch=64, seconds=seconds, nodes=point.nodes), encoding="utf-8")
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([["text"], *([text] for text in texts(point.rows))])
    (folder / "test.csv").write_text("text,label\nGood.,positive\nBad.,negative\n", encoding="utf-8")
    spec, run = load_spec(spec_file, []), Folder(str(folder / "runs" / "scale"))
    found: dict[str, float] = {}
    ray, progress, before = Cluster(address), stopwatch(), peak()
    for step in pipeline.steps(spec, run)[:3]:
        start = time.perf_counter()
        pipeline.run_step(step, Context(spec, run, step.folder, step.inputs, ray, progress))
        found[step.stage.NAME] = time.perf_counter() - start
        if step.stage.NAME == "label":
            found["rows_per_second"] = progress.measured
    ray.stop()
    return found | {"megabytes": peak() - before} | written(folder / "runs" / "scale" / "answers")


def apply(point: Point, folder: Path, address: str) -> dict[str, Any]:
    """Predict a corpus of four files for each node."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from runner.cluster.cluster import Cluster
    from runner.cluster.resources import Resources
    from runner.data.reading import Source
    from runner.rundir.folder import Folder
    from runner.student.corpus import Corpus, predict_corpus, sources_of

    files, all_texts = 4 * point.nodes, texts(point.rows)
    for number in range(files):
        part = [text for _, text in zip(range(point.rows // files), all_texts, strict=False)]
        pq.write_table(pa.table({"text": part}), folder / f"{number:03}.parquet")
    source = Source(path=str(folder / "*.parquet"), format="parquet")
    # A second's work, so that the last parts, when some nodes have none left, are few beside the others.
    corpus = Corpus(sources_of(source), "text", (), int(point.rate) or 10_000)
    ray, progress, before = Cluster(address), stopwatch(), peak()
    found = predict_corpus(
        ray, progress, Model(point.rate), corpus, 0.0, Folder(str(folder / "out")), Resources(1), (1, point.nodes)
    )
    ray.stop()
    assert found["rows"] == point.rows, found
    return {
        "rows_per_second": progress.measured,
        "apply": found["seconds"],
        "megabytes": peak() - before,
    } | written(folder / "out")


def measure(point: Point) -> None:
    """Print what one point comes to, as JSON: it runs in a process of its own, so that memory is its alone."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, cluster(point.nodes) as address:
        found = (label if point.stage == "label" else apply)(point, Path(folder), address)
    print(json.dumps(found))


def simulate(stages: Sequence[str]) -> None:
    """Measure the points of these stages, print them as they come."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    results = []
    print(f"{'':44}{'rows/s':>10}{'of nodes x rate':>17}{'driver':>10}{'written':>10}{'files':>7}")
    for point in (one for one in POINTS if one.stage in stages):
        command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
        found = asdict(point) | {"name": point.name} | json.loads(done.stdout.splitlines()[-1])
        ideal = point.rate * point.nodes
        found["ratio"] = found["rows_per_second"] / ideal if ideal else None
        results.append(found)
        share = f"{found['ratio']:.2f}" if ideal else "-"
        print(
            f"{point.name:44}{found['rows_per_second']:>10,.0f}{share:>17}{found['megabytes']:>7,.0f} MB"
            f"{found['bytes'] / point.rows:>6,.0f} B/row{found['files']:>5}",
            flush=True,
        )
    keep(results, OUT)


@dataclass(frozen=True)
class Work:
    """What a node does, and what one driver can hand out: rows a second each; USD an hour for a node."""

    stage: str
    rate: float
    price: float
    ceiling: float


def table(works: Sequence[Work]) -> None:
    """Hours and USD for corpora of three sizes on clusters of three sizes."""
    for work in works:
        most = f"one driver hands out {work.ceiling:,.0f} (* where that is the limit)"
        print(f"\n{work.stage}: {work.rate:g} rows/s and {work.price:g} USD/h a node; {most}")
        print(f"{'texts':>16}" + "".join(f"{f'{nodes} nodes':>26}" for nodes in (1, 16, 256)))
        for count in (10**6, 10**8, 10**10):
            cells = [_cell(work, nodes, count) for nodes in (1, 16, 256)]
            print(f"{count:>16,}" + "".join(f"{cell:>26}" for cell in cells))


def _cell(work: Work, nodes: int, count: int) -> str:
    rate = min(nodes * work.rate, work.ceiling)
    hours = count / rate / 3600
    held = " *" if rate < nodes * work.rate else ""
    usd = hours * nodes * work.price
    return f"{_time(hours)}, {usd:,.{0 if usd > 10 else 2}f} USD{held}"


def _time(hours: float) -> str:
    for least, unit, length in ((1, "min", 1 / 60), (48, "h", 1), (24 * 700, "days", 24)):
        if hours < least:
            return f"{hours / length:,.{0 if hours / length > 10 else 1}f} {unit}"
    return f"{hours / 24 / 365:,.0f} years"


def _ceiling(stage: str) -> float:
    """The rate of the largest run at once of the simulation that was kept."""
    if not OUT.exists():
        sys.exit("run the simulation first: python bench/scale.py")
    found = [one for one in json.loads(OUT.read_text(encoding="utf-8")) if one["stage"] == stage and not one["rate"]]
    return float(max(found, key=lambda one: one["rows"])["rows_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="what it costs, from rates and the last simulation")
    parser.add_argument("--only", default="label,apply", help="comma-separated, of label, apply")
    parser.add_argument("--teacher-rate", type=float, default=2.9, help="rows/s of one node (2.9: two cores, 1.5 B)")
    parser.add_argument("--teacher-price", type=float, default=0.60, help="USD/h of one node (0.60)")
    parser.add_argument("--student-rate", type=float, default=340, help="texts/s of one node (340: two cores, MiniLM)")
    parser.add_argument("--student-price", type=float, default=0.60, help="USD/h of one node (0.60)")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    stages = options.only.split(",")
    if unknown := set(stages) - {point.stage for point in POINTS}:
        parser.error(f"there is no stage {', '.join(sorted(unknown))} here")
    if options.point:
        measure(Point(**json.loads(options.point)))
    elif options.table:
        table(
            [
                Work("label", options.teacher_rate, options.teacher_price, _ceiling("label")),
                Work("apply", options.student_rate, options.student_price, _ceiling("apply")),
            ]
        )
    else:
        simulate(stages)


if __name__ == "__main__":
    main()
