"""The workers of a training, set up from a machine without torch; ``test_training_on_ray.py`` trains with them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from runner.cluster import process_group
from runner.system.errors import ModelError

WITHOUT = """\
import sys
sys.modules.update(torch=None, transformers=None, vllm=None, gguf=None, accelerate=None)
import ray.data, ray.train, ray.tune
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from runner.report import build
from runner.commands import cli
from runner.publish import push
from runner.stages import pipeline
from runner.cluster.process_group import ProcessGroup
group = ProcessGroup("gloo")
print(group.backend_cls.__name__, group.train_func_context.__name__)
"""


@pytest.mark.slow("subprocess")
def test_the_driver_and_the_controller_beside_it_need_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["_Workers", "_worker"]


def test_an_error_of_torch_is_one_that_a_machine_without_it_can_read() -> None:
    said = r"^torch\.OutOfMemoryError: CUDA out of memory$"
    with pytest.raises(RuntimeError, match=said) as found, process_group._worker():
        raise torch.OutOfMemoryError("CUDA out of memory\nand more of it")
    assert type(found.value) is RuntimeError


@pytest.mark.parametrize("error", [ModelError("model.not-found", "no model"), ValueError("three")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, process_group._worker():
        raise error
    assert found.value is error
