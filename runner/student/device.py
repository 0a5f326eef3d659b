"""The device that a process was given, and the precision that it multiplies in.

Knows torch; does not know models.
"""

from __future__ import annotations

import os

import torch

from runner.cluster import worker
from runner.system import machine
from runner.system.errors import ModelError, first_line

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def device() -> torch.device:
    """The accelerator that this process was given, or the CPU.

    :raises ModelError: when Ray gave this process a GPU that torch cannot use: the processor would take its place, and
        the GPU's price.
    """
    given = worker.given_gpu()
    if torch.cuda.is_available() and given is not False:
        return torch.device("cuda")
    if given:
        raise ModelError(
            "student.gpu-unusable", f"Ray gave this worker a GPU, and torch cannot use it: {_why_no_cuda()}"
        )
    return torch.device("cpu")


def _why_no_cuda() -> str:
    """Torch's reason, and what to do about it."""
    built, driver = torch.version.cuda, machine.nvidia_driver()
    if built is None:
        return f"torch {torch.__version__} is built without CUDA: install the CUDA build (the extra tutelage[gpu])"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = "it sees no device"
    except (AssertionError, RuntimeError) as error:
        reason = first_line(error)
    advice = (
        "is too old for it: bring a newer one"
        if machine.driver_is_old(driver, built)
        else "may tell more by `nvidia-smi`"
    )
    known = f"driver {driver} {advice}" if driver else "no NVIDIA driver is loaded on that node"
    return f"{reason} (torch is built for CUDA {built}); {known}, or set student.resources.gpus: 0"


def pick_precision(wanted: str, on: torch.device) -> str:
    """``auto`` means bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32."""
    if wanted != "auto":
        return wanted
    if on.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(on)[0] >= 8 else "fp16"
    return "bf16" if machine.has_bf16() else "fp32"


def gpu_answers() -> bool:
    """Whether this process's GPU still computes, if it has used one: errors of kernels come late, and as any error."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
    return True


def compile_nothing() -> None:
    """Have torch compile nothing. It takes a minute or more, gains nothing that could be measured on CPUs, and images
    have no compiler.

    The variable alone may come too late: torch has read it where the student's part of it was imported before.
    """
    import torch._dynamo.config  # which takes a second

    torch._dynamo.config.disable = os.environ.setdefault("TORCH_COMPILE_DISABLE", "1") == "1"
