"""The order of the pipeline, and the one loop that walks it. It knows no stage by name.

A stage whose folder has its marker is kept; any other is run into an empty folder. A stage's fingerprint
covers its part of the spec and its inputs' fingerprints, so that an edit reruns what depends on it and
nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from runner import __version__
from runner.cluster import node_demand
from runner.cluster.cluster import Cluster
from runner.observe.events import numbers
from runner.observe.progress import Progress, clock, since
from runner.planning import shared_models
from runner.review.settle import reviewed
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.spec.reviewed import Reviewed
from runner.stages import apply, audit, benchmark, correct, evaluate, export, label, load, train, vote
from runner.stages.contract import Context, Stage
from runner.system import machine, signals, supervise
from runner.system.errors import UserError, code_of

STAGES = cast("tuple[Stage, ...]", (load, label, vote, audit, correct, train, export, evaluate, benchmark, apply))

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


def with_decisions(spec: Spec, run: Folder) -> Spec:
    """The job with what people have decided in its run folder so far.

    :raises DataError: when a decision cannot be read.
    """
    return replace(spec, reviewed=reviewed(run))


def steps(spec: Spec, run: Folder, asked: str | None = None) -> list[Step]:
    """All stages of a job in order, with their fingerprints; nothing is run. ``asked``: a stage that is to be among
    them, wanted or not."""
    prints: dict[str, str] = {}
    result = []
    for stage in STAGES:
        if not (stage.wanted(spec) or asked == stage.NAME):
            continue
        inputs = {need: prints[need] for need in stage.NEEDS if need in prints}
        prints[stage.NAME] = fingerprint([FORMAT, stage.NAME, stage.key(spec), inputs])
        folders = {need: run.child(need, stage_print) for need, stage_print in inputs.items()}
        result.append(Step(stage, prints[stage.NAME], run.child(stage.NAME, prints[stage.NAME]), folders))
    return result


def execute(spec: Spec, run: Folder, cluster: Cluster, progress: Progress) -> dict[str, Any]:
    """Run what is not there yet; returns and writes ``run.json``. The caller holds the lock."""
    check_format(run)
    started = datetime.now(UTC)
    spec = with_decisions(spec, run)
    planned = steps(spec, run)
    waiting = [step for step in planned if not step.cached]
    first = next((step for step in waiting if step.stage.NEEDS), None)  # what needs no other reads the user's data
    if first is not None:
        cluster.check_reachable()  # before large files are read
    stages = []
    for step in planned:
        cached = step.cached
        if step is first:
            # Once the data are known to be good, and before anything is spent.
            shared_models.check(spec, {other.stage.NAME for other in waiting})
            node_demand.foresee(cluster, [demand for other in waiting for demand in other.stage.demands(spec)])
        if cached:
            progress.tell("stage_kept", step.stage.NAME, "unchanged, kept", **_outcome(step))
        else:
            _ask_for_nodes(step, spec, cluster, progress)
            run_step(step, Context(spec, run, step.folder, step.inputs, cluster, progress))
        stages.append(_record(step, cached))
    record = {
        "format": FORMAT,
        "name": spec.name,
        "runner": __version__,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec_text": spec.text,
        "spec": spec.to_dict(),
        "base": str(spec.base),
        "stages": stages,
        "before": _without_decisions(spec, run),
        "versions": machine.versions(),
        "hardware": machine.hardware(),
    }
    run.write_json("run.json", record)
    return record


def _without_decisions(spec: Spec, run: Folder) -> dict[str, str]:
    """The fingerprints of stages that finished before people decided anything; empty where nobody has."""
    if not spec.reviewed:
        return {}
    before = steps(replace(spec, reviewed=Reviewed()), run)
    return {step.stage.NAME: step.fingerprint for step in before if step.cached}


def _ask_for_nodes(step: Step, spec: Spec, cluster: Cluster, progress: Progress) -> None:
    for demand in step.stage.demands(spec):
        if demand.at_start:
            node_demand.ask(cluster, demand, progress, step.stage.NAME)


def _record(step: Step, cached: bool) -> dict[str, Any]:
    """What ``run.json`` says of a finished stage."""
    seconds = (step.folder.done or {})["seconds"]
    return {"name": step.stage.NAME, "fingerprint": step.fingerprint, "seconds": seconds, "cached": cached}


def run_up_to(name: str, spec: Spec, run: Folder, cluster: Cluster, progress: Progress) -> Context:
    """Run what is not there yet before the stage of that name; what it would be given. The caller holds the lock."""
    check_format(run)
    spec = with_decisions(spec, run)
    for step in steps(spec, run):
        context = Context(spec, run, step.folder, step.inputs, cluster, progress)
        if name == step.stage.NAME:
            return context
        if not step.cached:
            run_step(step, context)
    raise ValueError(f"no stage {name}")


def finished(name: str, spec: Spec, run: Folder, asked: str | None = None) -> Folder | None:
    """The folder of a stage, if it has finished for this job."""
    step = next(step for step in steps(spec, run, asked) if name == step.stage.NAME)
    return step.folder if step.cached else None


def run_stage(name: str, spec: Spec, run: Folder, cluster: Cluster, progress: Progress) -> Folder:
    """Run one stage, wanted or not, and what it needs that is not there. The caller holds the lock."""
    check_format(run)
    for step in steps(spec, run, asked=name):
        if name == step.stage.NAME or name in _followers(step.stage.NAME):
            if not step.cached:
                run_step(step, Context(spec, run, step.folder, step.inputs, cluster, progress))
            if name == step.stage.NAME:
                return step.folder
    raise ValueError(f"no stage {name}")


def _followers(name: str) -> set[str]:
    """The stages that need this one, directly or by way of others."""
    found = {name}
    for stage in STAGES:
        found |= {stage.NAME} if found.intersection(stage.NEEDS) else set()
    return found


def run_step(step: Step, context: Context) -> None:
    """Run one stage into an empty folder, and mark it as finished."""
    name, tell = step.stage.NAME, context.progress.tell
    step.folder.clear()  # what a killed run left has no marker and does not count
    tell("stage_started", name, fingerprint=step.fingerprint)
    start = time.perf_counter()
    supervise.note(stage=name, fingerprint=step.fingerprint, stage_at=time.monotonic())
    try:
        summary = step.stage.run(context)
        _check_written(step, context.spec)
        seconds = since(start)
        step.folder.finish({"stage": name, "fingerprint": step.fingerprint, "seconds": seconds, "summary": summary})
    except BaseException as error:
        left = signals.left(error)
        failed: dict[str, Any] = {"error": type(left).__name__, "code": code_of(left)}
        tell("stage_failed", name, fingerprint=step.fingerprint, seconds=since(start), **failed)
        supervise.note(stage=None)
        raise
    supervise.note(stage=None)
    tell("stage_done", name, f"done in {clock(seconds)}", **_outcome(step))


def _check_written(step: Step, spec: Spec) -> None:
    """:raises RuntimeError: when a stage has not left the files that it promises."""
    for name, table in step.stage.WRITES.items():
        schema = table(spec) if callable(table) else table
        if not step.folder.exists(name):
            raise RuntimeError(f"{step.stage.NAME} has not written {name}")
        if schema is not None and not step.folder.read_schema(name).equals(schema):
            raise RuntimeError(f"{step.stage.NAME} has written {name} in another schema than its own")


def _outcome(step: Step) -> dict[str, Any]:
    """The fields of a finished stage's event, from its marker."""
    marker = step.folder.done or {}
    return {
        "fingerprint": step.fingerprint,
        "seconds": marker.get("seconds"),
        "numbers": numbers(marker.get("summary") or {}),
    }


def check_format(run: Folder) -> None:
    """:raises UserError: when a newer version has written the run folder."""
    if run.exists("run.json") and (found := run.read_json("run.json").get("format", 0)) > FORMAT:
        raise UserError(
            "run.newer-format",
            f"{run.url}: was written by a newer tutelage (format {found}, this one reads {FORMAT}); "
            "upgrade, or choose another --runs-dir",
        )
