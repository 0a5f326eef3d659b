"""What a stage is: a module that says all about itself, and is listed once in ``runner/stages/pipeline.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from runner import models
from runner.cluster.cluster import Cluster
from runner.cluster.node_demand import Demand, of_student
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.spec import Spec


@dataclass(frozen=True)
class Context:
    """What a stage may use: the spec, its own folder, its inputs' folders, Ray, and progress."""

    spec: Spec
    run: Folder
    here: Folder
    inputs: Mapping[str, Folder]
    cluster: Cluster
    progress: Progress

    def latest(self, name: str, *stages: str) -> pa.Table:
        """The table ``name`` of the first of ``stages`` that the job has: the later one corrects what came before."""
        return next(self.inputs[stage] for stage in stages if stage in self.inputs).read_table(name)

    def model(
        self,
        ref: str,
        revision: str | None,
        who: str,
        stage: str,
        weights: bool = True,
        heard: Callable[[str], None] | None = None,
    ) -> tuple[str, str | None]:
        """A model and its revision as workers open it with ``models.ensure``.

        In this process' own Ray that is its folder, fetched now if need be; ``heard`` gets a sentence for each long
        step, which people are told as well. The nodes of a cluster have disks of
        their own: each fetches what it needs when it needs it. :raises ModelError: when it cannot be had.
        """
        if self.cluster.address is None:

            def say(sentence: str) -> None:
                if heard:
                    heard(sentence)
                self.progress.say(sentence, stage)

            return str(models.ensure(ref, revision, self.spec.base, say, who=who, weights=weights)), None
        return models.anywhere(ref, revision, self.spec.base), revision


Table: TypeAlias = pa.Schema | Callable[[Spec], pa.Schema] | None
"""What is known of a file: the schema of its table, for every job or by the kind of the spec's task; None: no table."""


class Stage(Protocol):
    """The shape of a stage module: all that the loop in ``pipeline.py`` knows of it.

    ``NAME`` is its folder below the run folder, ``NEEDS`` the stages whose folders it reads, and ``WRITES`` the files
    that it leaves in its own, each with the schema of its table. They are checked after ``run``.
    """

    NAME: str
    NEEDS: tuple[str, ...]
    VERSION: int
    WRITES: Mapping[str, Table]

    def wanted(self, spec: Spec) -> bool:
        """Whether a job of this spec has the stage."""

    def demands(self, spec: Spec) -> list[Demand]:
        """The nodes that it needs. They are asked for before anything is spent, or where a cluster starts nodes on
        demand just before the stage. The teacher's are not among them: the label stage alone knows whether it asks."""

    def key(self, spec: Spec) -> dict[str, Any]:
        """What the outcome depends on besides the inputs, JSON-able: ``VERSION``, which goes up when a new version of
        the code gives another outcome, and the stage's part of the spec."""

    def run(self, context: Context) -> dict[str, Any]:
        """Do the work and write ``WRITES`` into ``context.here``; return the summary for the marker."""


def versioned(version: int) -> dict[str, int]:
    """The part of a key for a stage whose first version had none."""
    return {"version": version} if version > 1 else {}


def always(spec: Spec) -> bool:
    """``wanted`` of a stage that every job has."""
    return True


def nothing(spec: Spec) -> list[Demand]:
    """``demands`` of a stage that needs no nodes, or asks for them itself."""
    return []


def one_student(spec: Spec) -> list[Demand]:
    """``demands`` of a stage that has the student predict."""
    return [of_student(spec, trains=False)]
