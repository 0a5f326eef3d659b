"""Errors of a GPU, and a checkpoint at which one shows."""

from __future__ import annotations

import pytest
import torch

from runner.cluster.train import checkpoint_failed
from runner.system.device_errors import is_device_error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronous"),
        torch.OutOfMemoryError("Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2356, unhandled system error"),
        torch.distributed.DistBackendError("ncclUnhandledCudaError: Call to CUDA function failed."),
    ],
)
def test_a_gpus_error_at_a_checkpoint_is_told_as_one(error: RuntimeError) -> None:
    assert is_device_error(error)
    said = str(checkpoint_failed(error))
    assert said.startswith("the GPU failed in training, which showed as a checkpoint was written: ")
    assert "cannot be kept" not in said and "nvidia-smi" in said and "\n" not in said


def test_an_error_that_a_gpus_error_was_the_cause_of_is_one() -> None:
    try:
        try:
            raise RuntimeError("CUDA error: unspecified launch failure")
        except RuntimeError as error:
            raise RuntimeError("the writer failed") from error
    except RuntimeError as error:
        assert is_device_error(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:820] . PytorchStreamWriter failed writing file data/3"),
        PermissionError(13, "Permission denied", "/runs/a/checkpoints"),
    ],
)
def test_a_full_disk_is_none(error: OSError | RuntimeError) -> None:
    assert not is_device_error(error)
    assert str(checkpoint_failed(error)).startswith("a checkpoint of the training cannot be kept in the run folder: ")
