"""Errors of a GPU, told from others by what they say: whoever catches them need not import torch."""

from __future__ import annotations

_KINDS = frozenset({"AcceleratorError", "OutOfMemoryError", "DistBackendError"})
"""Of torch: kernels and the driver, the GPU's memory, NCCL."""

BROKEN = ("CUDA error", "Triton Error [CUDA]", "CUBLAS_STATUS_", "CUDNN_STATUS_", "NCCL error", "NCCL Error")
"""In errors after which nothing can be computed on that GPU any more by this process."""

_WORDS = (*BROKEN, "CUDA out of memory", "HIP error")
"""In those that torch raises as plain RuntimeError."""


def is_device_error(error: BaseException) -> bool:
    """Whether an error, or one that it was raised of, is a GPU's: a failed kernel may be told by any later call."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        kinds = {kind.__name__ for kind in type(current).__mro__}
        if kinds & _KINDS or any(words in str(current) for words in _WORDS):
            return True
        seen.append(current)
        current = current.__cause__ or current.__context__
    return False
