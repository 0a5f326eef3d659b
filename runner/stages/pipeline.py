"""The order of the pipeline, and the one loop that walks it.

A stage whose folder has its marker is kept; any other is run into an empty folder. A stage's fingerprint
covers its part of the spec and its inputs' fingerprints, so that an edit reruns what depends on it and
nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from runner import __version__
from runner.cluster import node_demand
from runner.cluster.cluster import Cluster
from runner.models import shared
from runner.observe.events import numbers
from runner.observe.progress import Progress, clock, since
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.stages import apply, benchmark, evaluate, export, label, load, train, vote
from runner.stages.contract import Context, Stage
from runner.system import machine, signals, supervise
from runner.system.errors import UserError

STAGES = cast("tuple[Stage, ...]", (load, label, vote, train, export, evaluate, benchmark, apply))

WITHOUT_STUDENT = {load.NAME, label.NAME, vote.NAME}
"""The stages that run elsewhere than on the student's nodes. The label stage asks for the teacher's, just before it
spends."""

FORMAT = 1
"""Of the run folder; a change makes all fingerprints new."""


@dataclass(frozen=True)
class Step:
    """One stage of one job: where it belongs, and whether it is already there."""

    stage: Stage
    fingerprint: str
    folder: Folder
    inputs: dict[str, Folder]

    @property
    def cached(self) -> bool:
        """Whether a run has finished it."""
        return self.folder.done is not None


def steps(spec: Spec, run: Folder) -> list[Step]:
    """All stages of a job in order, with their fingerprints; nothing is run."""
    prints: dict[str, str] = {}
    result = []
    for stage in STAGES:
        if not _wanted(stage, spec):
            continue
        inputs = {need: prints[need] for need in stage.NEEDS if need in prints}
        prints[stage.NAME] = fingerprint([FORMAT, stage.NAME, stage.key(spec), inputs])
        folders = {need: run.child(need, print_) for need, print_ in inputs.items()}
        result.append(Step(stage, prints[stage.NAME], run.child(stage.NAME, prints[stage.NAME]), folders))
    return result


def _wanted(stage: Stage, spec: Spec) -> bool:
    """Two stages are there for those who ask for them."""
    if stage.NAME == export.NAME:
        return export.wanted(spec)
    return stage.NAME != apply.NAME or spec.data.corpus is not None


def execute(spec: Spec, run: Folder, cluster: Cluster, progress: Progress) -> dict[str, Any]:
    """Run what is not there yet; returns and writes ``run.json``. The caller holds the lock."""
    _check_format(run)
    started = datetime.now(UTC)
    stages = []
    planned = steps(spec, run)
    first = next((step for step in planned if not step.cached and step.stage.NAME != load.NAME), None)
    if first is not None:
        cluster.check_reachable()  # before large files are read
    for step in planned:
        cached = step.cached
        if cached:
            progress.tell("stage_kept", step.stage.NAME, "unchanged, kept", **_outcome(step))
        else:
            if step is first:
                # Once the data are known to be good, and before anything is spent.
                waiting = {one.stage.NAME for one in planned if not one.cached}
                shared.check(spec, waiting)
                node_demand.foresee(cluster, _demands(spec, waiting))
            if step.stage.NAME not in WITHOUT_STUDENT:
                wanted = node_demand.of_student(spec, step.stage.NAME == train.NAME)
                node_demand.ask(cluster, wanted, progress, step.stage.NAME)
            run_step(step, Context(spec, run, step.folder, step.inputs, cluster, progress))
        marker = step.folder.done or {}
        stages.append(
            {
                "name": step.stage.NAME,
                "fingerprint": step.fingerprint,
                "seconds": marker["seconds"],
                "cached": cached,
            }
        )
    record = {
        "format": FORMAT,
        "name": spec.name,
        "runner": __version__,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec_text": spec.text,
        "spec": spec.to_dict(),
        "stages": stages,
        "versions": machine.versions(),
        "hardware": machine.hardware(),
    }
    run.write_json("run.json", record)
    return record


def _demands(spec: Spec, waiting: set[str]) -> list[node_demand.Demand]:
    """What the stages that are ``waiting`` need of the student's nodes and of further ones."""
    if waiting <= WITHOUT_STUDENT:
        return []
    further = spec.benchmark.hardware if benchmark.NAME in waiting else ()
    return [node_demand.of_student(spec, train.NAME in waiting), *map(node_demand.of_hardware, further)]


def probe(spec: Spec, run: Folder, cluster: Cluster, progress: Progress, rows: int) -> None:
    """Label ``rows`` rows and keep their answers, for a plan that rests on measurement. The caller holds the lock."""
    _check_format(run)
    for step in steps(spec, run):
        context = Context(spec, run, step.folder, step.inputs, cluster, progress)
        if step.stage.NAME == label.NAME:
            label.probe(context, rows)
            return
        if not step.cached:
            run_step(step, context)


def run_step(step: Step, context: Context) -> None:
    """Run one stage into an empty folder, and mark it as finished."""
    name, tell = step.stage.NAME, context.progress.tell
    step.folder.clear()  # what a killed run left has no marker and does not count
    tell("stage_started", name, fingerprint=step.fingerprint)
    start = time.perf_counter()
    supervise.note(stage=name, fingerprint=step.fingerprint, stage_at=time.monotonic())
    try:
        summary = step.stage.run(context)
        seconds = since(start)
        step.folder.finish({"stage": name, "fingerprint": step.fingerprint, "seconds": seconds, "summary": summary})
    except BaseException as error:
        failed = type(signals.left(error)).__name__
        tell("stage_failed", name, fingerprint=step.fingerprint, seconds=since(start), error=failed)
        supervise.note(stage=None)
        raise
    supervise.note(stage=None)
    tell("stage_done", name, f"done in {clock(seconds)}", **_outcome(step))


def _outcome(step: Step) -> dict[str, Any]:
    """The fields of a finished stage's event, from its marker."""
    marker = step.folder.done or {}
    return {
        "fingerprint": step.fingerprint,
        "seconds": marker.get("seconds"),
        "numbers": numbers(marker.get("summary") or {}),
    }


def _check_format(run: Folder) -> None:
    if run.exists("run.json") and (found := run.read_json("run.json").get("format", 0)) > FORMAT:
        raise UserError(
            f"{run.url}: was written by a newer tutelage (format {found}, this one reads {FORMAT}); "
            "upgrade, or choose another --runs-dir"
        )
