"""What one worker asks for, in the spec's words and as the resources that Ray schedules by. Imports no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from runner.spec.model import Hardware, StudentResources, TeacherResources

ACCELERATOR_SHARE = 0.001
"""Of a node's accelerator resource; Ray itself takes as much for ``accelerator_type``."""


def cores_beside(gpus: int) -> int:
    """Cores for a worker with so many GPUs: its engine's process and one for each GPU of several are always busy, and
    texts are tokenised beside them."""
    return 2 + 2 * gpus


@dataclass(frozen=True)
class Resources:
    """What one worker asks for. ``cpus`` None means: all cores of the node without a GPU, else :func:`cores_beside`."""

    cpus: int | None = None
    gpus: int = 0
    accelerator: str | None = None

    @classmethod
    def of(cls, asked: TeacherResources | StudentResources | Hardware) -> Resources:
        """What one worker of the teacher or the student, or a machine of the benchmark, asks for in the spec."""
        return cls(asked.cpus, asked.gpus, asked.accelerator)

    @property
    def accelerator_resource(self) -> str:
        """The resource by which Ray knows nodes with this accelerator."""
        return f"accelerator_type:{self.accelerator}"

    def bundle(self, cpus: int) -> dict[str, float]:
        """What one worker with so many cores takes of a node, by Ray's names of resources."""
        bundle = {"CPU": float(cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})
        return bundle | ({self.accelerator_resource: ACCELERATOR_SHARE} if self.accelerator else {})

    def describe(self, who: str, workers: int) -> str:
        """``teacher.resources asks for 2 GPUs (H100) and 6 processor cores on one node, 2 times``."""
        gpus = f"{self.gpus} GPU{'s' * (self.gpus > 1)}{self.kind} and " if self.gpus else ""
        times, cores = f", {workers} times" if workers > 1 else "", self.cpus or 1
        return f"{who} asks for {gpus}{cores} processor core{'s' * (cores > 1)} on one node{times}"

    @property
    def kind(self) -> str:
        """`` (H100)``, or nothing."""
        return f" ({self.accelerator})" if self.accelerator else ""
