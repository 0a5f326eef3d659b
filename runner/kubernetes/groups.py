"""From the spec's resources to groups of pods, in numbers.

One pod holds one replica of the teacher, or one worker of the student. Ray is told of as many cores as that one asks
for, and of no more: so a node with GPUs is never held by work that needs none. The pod itself has more of them, for
what an engine runs beside Ray's own process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.cluster.resources import cores_beside
from runner.spec import Spec
from runner.spec.model import Hardware, StudentResources, TeacherResources
from runner.system.accelerators import known

CPUS_WITHOUT_GPU = 8
"""Of a pod whose part of the spec leaves ``cpus`` out."""
GIB_PER_CORE, LEAST_GIB = 4, 8
"""Memory of a pod without GPUs: an engine and its cache, or a training."""

PER_UNKNOWN_GPU = (6, 20)
"""Cores and GiB for each GPU of a kind that the spec does not name, or that is not known here."""


@dataclass(frozen=True)
class Group:
    """Pods that are alike, for what stands at ``place`` of the spec. ``ray_cpus`` is what Ray may give away, ``cores``
    and ``gib`` what the pod has.

    There are ``least`` of them at first, and never more than ``most``.
    """

    name: str
    place: tuple[str | int, ...]
    accelerator: str | None
    gpus: int
    ray_cpus: int
    cores: int
    gib: int
    least: int
    most: int


def with_cpus(spec: Spec) -> Spec:
    """The spec with the cores of each replica and worker written out, as its pods have them.

    Left out, they would be whatever the largest node has that happens to be up when Ray is asked.
    """
    teacher, student = spec.teacher, spec.student
    mine = replace(student.resources, cpus=_cpus(student.resources.cpus, student.resources.gpus))
    further = tuple(replace(machine, cpus=_cpus(machine.cpus, machine.gpus)) for machine in spec.benchmark.hardware)
    benchmark = replace(spec.benchmark, hardware=further)
    spec = replace(spec, student=replace(student, resources=mine), benchmark=benchmark)
    if not _runs_a_teacher(spec):
        return spec
    theirs = replace(teacher.resources, cpus=_cpus(teacher.resources.cpus, teacher.resources.gpus))
    return replace(spec, teacher=replace(teacher, resources=theirs))


def groups_of(spec: Spec, fixed: bool = False) -> tuple[Group, ...]:
    """The groups that ``spec`` (``with_cpus``) needs; ``fixed`` for a cluster that does not scale.

    Where it scales none of them has a pod at first. KubeRay submits a job once all first pods are ready: the job would
    wait for GPUs that it may not need any more, and its own wait for nodes would not have begun.

    A teacher that is recorded, random or on a server of its own needs no pods; what it does need runs on the
    student's.
    """
    teacher, student = spec.teacher.resources, spec.student.resources
    runs, groups = _runs_a_teacher(spec), []
    if runs:
        least, most = teacher.replicas
        place = ("teacher", "resources")
        groups.append(_group("teacher", place, teacher, teacher.cpus or 1, least if fixed else most))
    callers = 1 if runs or spec.teacher.engine != "vllm" else teacher.cpus or 1
    cpus = max(student.cpus or 1, callers)
    groups.append(_group("student", ("student", "resources"), student, cpus, student.workers))
    for number, machine in enumerate(spec.benchmark.hardware):
        groups.append(
            _group(f"benchmark-{number + 1}", ("benchmark", "hardware", number), machine, machine.cpus or 1, 1)
        )
    return tuple(replace(group, least=group.most) if fixed else group for group in groups)


def _runs_a_teacher(spec: Spec) -> bool:
    return any(each.teacher.engine == "vllm" and each.teacher.endpoint is None for each in spec.teachers())


def _cpus(asked: int | None, gpus: int) -> int:
    return asked or (cores_beside(gpus) if gpus else CPUS_WITHOUT_GPU)


def _group(
    name: str,
    place: tuple[str | int, ...],
    asked: TeacherResources | StudentResources | Hardware,
    cpus: int,
    most: int,
) -> Group:
    gpu = known(asked.accelerator)
    each, gib_each = gpu.pod if gpu else PER_UNKNOWN_GPU
    cores = max(cpus, asked.gpus * each)
    gib = asked.gpus * gib_each if asked.gpus else max(LEAST_GIB, cores * GIB_PER_CORE)
    return Group(name, place, asked.accelerator, asked.gpus, cpus, cores, gib, 0, most)
