"""When a cluster is asked for the nodes of the student's stages.

In a cluster of fixed size all are looked at before anything is spent. One that starts nodes as they are asked for is
told of each stage's only just before that stage: a node that waits for labelling to end is paid for, and may be given
back before it is used. The label stage asks for the teacher's itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources
from runner.observe.progress import Progress
from runner.spec import Spec
from runner.spec.model import Hardware
from runner.system.errors import UserError

NODES = "TUTELAGE_NODES"
LATER = "later"


@dataclass(frozen=True)
class Demand:
    """``workers`` at once with these resources, for what stands at ``who`` of the spec. One that is not ``at_start``
    of its stage the stage asks for itself, when its turn comes."""

    wanted: Resources
    who: str
    workers: int = 1
    at_start: bool = True


def starts_on_demand(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says that nodes do. :raises UserError: when the variable has another value."""
    given = environment.get(NODES, "")
    if given not in ("", LATER):
        raise UserError("cluster.nodes-invalid", f"{NODES}: expected {LATER!r} or nothing, not {given[:80]!r}")
    return given == LATER


def of_student(spec: Spec, trains: bool) -> Demand:
    """All workers at once for a training; what follows it needs one of them."""
    asked = spec.student.resources
    return Demand(Resources.of(asked), "student.resources", asked.workers if trains else 1)


def of_hardware(machine: Hardware) -> Demand:
    """A further machine of the benchmark."""
    return Demand(Resources.of(machine), f"benchmark.hardware {machine.name!r}", at_start=False)


def foresee(cluster: Cluster, demands: Iterable[Demand]) -> None:
    """Before anything is spent. Of several demands for the same place of the spec the largest counts.

    :raises UserError: when a demand could never be met, as far as that can be known.
    """
    largest: dict[str, Demand] = {}
    for demand in demands:
        if demand.who not in largest or demand.workers > largest[demand.who].workers:
            largest[demand.who] = demand
    look = cluster.foresee if cluster.starts_on_demand else cluster.require
    for demand in largest.values():
        look(demand.wanted, demand.who, demand.workers)


def ask(cluster: Cluster, demand: Demand, progress: Progress, stage: str) -> None:
    """Just before it is needed, where nodes start on demand; elsewhere :func:`foresee` has asked already.

    :raises UserError: when the nodes do not come.
    """
    if cluster.starts_on_demand:
        cluster.require(demand.wanted, demand.who, demand.workers, lambda words: progress.say(words, stage))
