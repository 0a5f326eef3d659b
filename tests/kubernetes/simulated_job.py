"""A job of the runner's own pipeline in a simulated cluster: what its stages ask of Ray, and when.

Real: the pipeline and its stages, with all that they ask for; their work is done in this process, with an engine that
answers at once and a tiny student, and then so much simulated time goes by as it would take on the nodes.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
from autoscaler_life import Claim, World, rays_words, simulated_time

from runner import models
from runner.cluster.cluster import Cluster
from runner.cluster.node_demand import LATER, NODES
from runner.cluster.node_types import count_placements
from runner.cluster.resources import Resources
from runner.kubernetes.manifest import render
from runner.kubernetes.options import RenderOptions
from runner.observe.progress import Progress
from runner.planning.hardware.teacher_fit import Asked, Row, judge
from runner.planning.hardware.throughput import ANSWER_TOKENS, Work, row_seconds, start_seconds
from runner.planning.replicas import SHARED_TOKENS, worth_starting
from runner.rundir.folder import Folder
from runner.spec import Spec, load_spec
from runner.stages import pipeline
from runner.system.accelerators import known
from runner.tasks.single_label.asking import LabelAnswer
from runner.teacher import worker
from runner.teacher.engines.noop import NoopEngine
from runner.teacher.engines.vllm_arguments import engine_options
from runner.teacher.request import settings_of

SPEC = Path(__file__).parents[2] / "specs" / "financial-sentiment.yaml"
OWN_TOKENS = 36
"""Of a row of the published case, as ``tutelage plan`` counts them."""
DATA_REQUEST_SECONDS, DATA_FACTOR = 10, 2
"""Ray Data asks that often for that many times what it has, once replicas of a pool have finished something
(``RateBasedClusterAutoscaler``), by cores and GPUs alone."""
LEFT_AFTER_SECONDS = 900
"""That the world is watched after the job: the cluster is kept for a while, and its autoscaler with it."""

ON_T4 = {"train": 120, "evaluate": 20, "benchmark": 60}
"""Seconds of the published case's stages there, guessed: most of it is Python, PyTorch and weights that are loaded."""


@dataclass(frozen=True)
class Lengths:
    """Seconds. ``engine``: until an engine answers; ``labelling``: of one replica, for all rows; ``on_nodes``: of each
    stage on the student's nodes; ``driver``: of each stage in the head's pod alone."""

    engine: int
    labelling: int
    on_nodes: Mapping[str, int] = field(default_factory=lambda: ON_T4)
    driver: int = 5


@dataclass
class SimulatedCluster(Cluster):
    """The runner's cluster, over a world instead of Ray."""

    world: World = field(default=None)  # type: ignore[assignment]
    lengths: Lengths = field(default=None)  # type: ignore[assignment]
    stage: str = ""

    def start(self) -> Any:
        return rays_words(self.world)

    def check_reachable(self) -> None:
        """Somebody is there."""

    def call(self, function: Callable[..., Any], wanted: Resources, *, fresh: bool = False, **arguments: Any) -> Any:
        return self._work([self._wants(wanted)], lambda: function(**arguments))

    def train(self, loop: Any, config: Any, wanted: Resources, workers: int, storage: Folder, on_progress: Any) -> Any:
        def report(progress: dict[str, Any]) -> None:
            on_progress(progress)

        def wrap(model: Any, **options: Any) -> Any:
            return model

        def train() -> Any:
            return loop(
                config,
                report,
                rank=0,
                size=1,
                wrap=wrap,
                save_checkpoint=lambda write: None,
                load_checkpoint=lambda read: None,
            )

        return self._work([self._wants(wanted)] * workers, train, gang=True)

    def map_batches(
        self,
        batches: list[pa.Table],
        worker: type,
        arguments: dict[str, Any],
        wanted: Resources,
        replicas: tuple[int, int],
        concurrent: int = 1,
        on_notes: Any = None,
    ) -> Iterator[pa.Table]:
        _, at_first, most = self.capacity.pool_sizes(wanted, replicas, len(batches))
        self._label(self._wants(wanted), at_first, most)
        actor = worker(**arguments)
        yield from map(actor, batches)

    def _wants(self, wanted: Resources) -> dict[str, float]:
        """What Ray's scheduler sees of a task or an actor."""
        request = self.capacity.request(wanted)
        kind = {f"accelerator_type:{wanted.accelerator}": 0.001} if wanted.accelerator else {}
        return {"CPU": request["num_cpus"], **({"GPU": wanted.gpus} if wanted.gpus else {}), **kind}

    def _work(self, bundles: list[dict[str, float]], compute: Callable[[], Any], gang: bool = False) -> Any:
        claim = self.world.claim(bundles, works=True, gang=gang)
        while claim.places is None:
            self.world.advance(1)
        result = compute()
        self.world.advance(self.lengths.on_nodes[self.stage])
        self.world.release(claim)
        return result

    def _label(self, bundle: dict[str, float], replicas: int, most: int) -> None:
        """Label with so many replicas, and with more, up to ``most``, where Ray Data gets nodes for them."""
        world, left = self.world, float(self.lengths.labelling)
        pool = [world.claim([bundle], works=True) for _ in range(replicas)]
        ready: dict[Claim, float] = {}
        while left > 0:
            world.advance(1)
            for claim in pool:
                if claim.places:
                    ready.setdefault(claim, world.now + self.lengths.engine)
            at_work = [claim for claim in ready if ready[claim] <= world.now]
            left -= len(at_work)
            if at_work and world.now % DATA_REQUEST_SECONDS == 0:
                plain = {name: have for name, have in bundle.items() if name in ("CPU", "GPU")}
                world.constraint = [plain] * min(most, DATA_FACTOR * len(ready))
                there = count_placements([dict(pod.total) for pod in world.nodes()], plain)
                pool += [world.claim([bundle], works=True) for _ in range(min(most, there) - len(pool))]
        world.constraint = ()
        for claim in pool:
            world.release(claim)


class _Stages(Progress):
    """Tells the cluster which stage it is in, and lets the driver's own time go by."""

    cluster: SimulatedCluster
    began: dict[str, float]

    def tell(self, name: str, stage: str = "", words: str = "", **fields: Any) -> None:
        super().tell(name, stage, words, **fields)
        if name == "stage_started":
            self.cluster.stage, self.began[stage] = stage, self.cluster.world.now
            self.cluster.world.advance(self.cluster.lengths.driver)


@dataclass
class Life:
    """What became of a job: when its stages began and the pods that it had."""

    began: dict[str, float]
    ended: float
    world: World

    def pods(self, group: str) -> list[Any]:
        return [pod for pod in self.world.pods if pod.group == group]

    def gpu_seconds(self, of: str) -> int:
        """Of all pods: ``used`` by stages, ``up`` with Ray in them, or ``bought``, from their creation."""
        now, total = self.world.now, 0.0
        for pod in self.world.pods:
            end = now if pod.gone is None else pod.gone
            seconds = {"used": pod.used, "up": max(0.0, end - pod.up), "bought": end - pod.created}[of]
            total += pod.gpus * seconds
        return round(total)


def headline(folder: Path, student: Path, *more: str) -> Spec:
    """The published case's spec as it is but for its data and its models, which are tiny."""
    for split, rows in (("train", 24), ("test", 6)):
        lines = [f"text {number},{('negative', 'neutral', 'positive')[number % 3]}" for number in range(rows)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    small = (
        f"data.train.path={folder / 'train.csv'}",
        f"data.test={{path: {folder / 'test.csv'}, text: text, label: label}}",
        f"teacher.model={student}",
        "teacher.batch_size=4",
        f"student.model={student}",
        "student.epochs=1",
        "student.recipe=fast",
        "evaluate.resamples=100",
        "benchmark.rows=6",
        "benchmark.batch_sizes=[8]",
    )
    return load_spec(SPEC, (*small, *more))


def live(
    spec: Spec,
    folder: Path,
    lengths: Lengths,
    cluster: Mapping[str, Any] | None = None,
    replicas: int | None = None,
) -> Life:
    """Run the job in the published case's rendered cluster (or in that one), up to the end and a while longer.

    ``replicas``: that the stage starts for as many rows as the job would really have.
    """
    world = World(cluster or rendered_cluster())
    run = Folder(str(folder / "runs" / spec.name))
    progress = _Stages(io.StringIO(), "plain")
    head = world.spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    on_demand = {"name": NODES, "value": LATER} in head
    progress.cluster = SimulatedCluster("ray:6379", 1800.0, on_demand=on_demand, world=world, lengths=lengths)
    progress.began = {}
    opened = mock.patch.object(
        worker, "open_engine", lambda *_: (NoopEngine(LabelAnswer(spec.task.labels).made_up), None)
    )
    paying = mock.patch(
        "runner.teacher.generate.worth_starting", lambda *_: replicas or spec.teacher.resources.replicas[0]
    )
    with simulated_time(world.clock), opened, paying:
        world.until_ready()
        pipeline.execute(spec, run, progress.cluster, progress)
        ended = world.now
        world.advance(LEFT_AFTER_SECONDS)
    return Life(progress.began, ended, world)


def rendered_cluster(*overrides: str, cloud: str = "gke") -> dict[str, Any]:
    """The RayCluster of the published case's rendered job."""
    data = [f"data.{split}.path=/mnt/tutelage/data/{split}.csv" for split in ("train", "test")]
    spec = load_spec(SPEC, (*data, *overrides))
    found: dict[str, Any] = render(spec, RenderOptions(cloud=cloud)).objects[1]["spec"]["rayClusterSpec"]
    return found


def everything_at_once(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """That cluster as a job without foresight has it: a first H100 at once, the student's nodes asked for before
    labelling, and each kept for ten idle minutes."""
    found = copy.deepcopy(dict(cluster))
    found["autoscalerOptions"]["idleTimeoutSeconds"] = 600
    for group in found["workerGroupSpecs"]:
        group.pop("idleTimeoutSeconds", None)
        group["replicas"] = int(group["groupName"] == "teacher")
    head = found["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["env"] = [one for one in head["env"] if one["name"] != NODES]
    return found


def planned(rows: int) -> tuple[Lengths, int]:
    """How long labelling takes with so many rows by ``tutelage plan``'s own arithmetic, and how many replicas pay."""
    spec = load_spec(SPEC)
    teacher = spec.teacher
    options, facts = engine_options(settings_of(teacher)), models.describe(teacher.model, teacher.revision, spec.base)
    gpu, gpus = known(teacher.resources.accelerator), teacher.resources.gpus
    assert gpu is not None and facts.active_parameters is not None
    row = Row(SHARED_TOKENS, OWN_TOKENS + ANSWER_TOKENS)
    verdict = judge(Asked(teacher.model, gpu, gpus, teacher.max_context, options), facts, row)
    assert verdict.fit is not None and verdict.sequences is not None
    votes = teacher.votes
    work = Work(votes, OWN_TOKENS * votes, votes * ANSWER_TOKENS)
    each = row_seconds(verdict.fit, gpu, gpus, facts.active_parameters, work, verdict.sequences, rows)
    start = start_seconds(verdict.fit.weight_bytes * gpus)
    return Lengths(round(start), round(rows * each)), worth_starting(spec, options, rows, OWN_TOKENS * 4.0)
