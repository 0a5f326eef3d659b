"""The NVIDIA GPUs of this machine, asked of the driver's own library (NVML), as Ray asks, without loading Ray or torch.

Ray counts what NVML counts, at most as many as ``CUDA_VISIBLE_DEVICES`` names, and calls a node after its first GPU
(ray/_private/resource_and_label_spec.py, ray/_private/accelerators/nvidia_gpu.py). ``/proc/driver/nvidia`` is no such
answer: under WSL it is empty, and in a container it lists what the container was not given.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML names it. ``memory`` in bytes; 0 where it is shared with the processor and not told."""

    name: str
    memory: int


class _Memory(ctypes.Structure):
    """``nvmlMemory_t`` of nvml.h."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def gpus() -> list[Gpu]:
    """The GPUs that Ray would find here, in its order; none without a driver."""
    with _library() as nvml:
        if nvml is None:
            return []
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        installed = [_gpu(nvml, index) for index in range(count.value)]
    return _visible(installed)


def _visible(installed: list[Gpu]) -> list[Gpu]:
    """Those that ``CUDA_VISIBLE_DEVICES`` names; of names that are no numbers as many as Ray counts, from the first."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return installed
    names = [] if named in ("", "NoDevFiles") else named.split(",")
    if all(name.strip().isdigit() and int(name) < len(installed) for name in names):
        return [installed[int(name)] for name in names][: len(installed)]
    return installed[: len(names)]


def first() -> Gpu | None:
    """The GPU after which Ray names this node, whether or not it may be used; None without any."""
    with _library() as nvml:
        count = ctypes.c_uint()
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) or not count.value:
            return None
        return _gpu(nvml, 0)


@contextmanager
def _library() -> Iterator[Any]:
    """NVML while it is initialised; None where there is none, or it has no driver."""
    try:
        nvml = ctypes.CDLL(LIBRARY)
    except OSError:
        yield None
        return
    if nvml.nvmlInit_v2():
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
        return Gpu("unknown", 0)
    named = not nvml.nvmlDeviceGetName(handle, name, len(name))
    told = not nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return Gpu(name.value.decode(errors="replace") if named else "unknown", memory.total if told else 0)
