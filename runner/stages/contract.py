"""What a stage is: a module with a name, what it needs, what its outcome depends on, and how it runs.

A stage module offers::

    NAME: str                          # the folder below the run folder
    NEEDS: tuple[str, ...]             # the stages whose folders it reads
    def key(spec) -> dict              # all that its outcome depends on besides its inputs; JSON-able
    def run(context) -> dict           # writes into context.here; returns the summary for the marker

``runner/stages/pipeline.py`` lists them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from runner import models
from runner.cluster.cluster import Cluster
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


class Stage(Protocol):
    """The shape of a stage module."""

    NAME: str
    NEEDS: tuple[str, ...]

    def key(self, spec: Spec) -> dict[str, Any]:
        """What the outcome depends on besides the inputs."""

    def run(self, context: Context) -> dict[str, Any]:
        """Do the work; return the summary."""
