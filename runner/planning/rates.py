"""What hardware does in a second and an hour, where nothing was measured: operations, and power."""

from __future__ import annotations

from runner.spec.model import StudentResources, TeacherResources
from runner.system import machine
from runner.system.accelerators import known

WATTS_PER_CORE = 10.0
USEFUL = 0.4
"""The share of a GPU's dense peak that is reached where nothing more exact is known."""
UNKNOWN_TFLOPS, UNKNOWN_WATTS = 50.0, 300.0
"""Of a GPU of which nothing is known here: useful operations, and power."""

CPU_TEACHER_TFLOPS, CPU_STUDENT_TFLOPS = 0.23, 0.08
"""Per core with bf16 in hardware, measured on 2 cores: a 1.5 B teacher, and fine-tuning with small batches."""
AMX_TEACHER_TFLOPS = 0.4
"""The same teacher where the core has AMX: an estimate from runs of 2 to 10 rows a second."""


def watts(resources: TeacherResources) -> float:
    """Of one replica at full load; the machine around the GPUs is not counted."""
    if resources.gpus:
        gpu = known(resources.accelerator)
        return resources.gpus * (gpu.watts if gpu else UNKNOWN_WATTS)
    return WATTS_PER_CORE * (resources.cpus or machine.usable_cores())


def operations_per_second(resources: TeacherResources | StudentResources, per_core: float | None = None) -> float:
    """Operations a second; on processors ``per_core`` (None: as a teacher has them), in 10^12."""
    if resources.gpus:
        gpu = known(resources.accelerator)
        return 1e12 * resources.gpus * (USEFUL * gpu.tflops if gpu else UNKNOWN_TFLOPS)
    if per_core is None:
        per_core = AMX_TEACHER_TFLOPS if "amx_bf16" in machine.cpu_flags() else CPU_TEACHER_TFLOPS
    slow = 1 if machine.has_bf16() else 4
    return 1e12 * per_core * (resources.cpus or machine.usable_cores()) / slow
