"""The one table of GPUs: complete, in Ray's words, and apart from other makers' accelerators."""

from __future__ import annotations

import pytest
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray.util import accelerators as rays

from runner.hardware.accelerators import GIB, accelerators, known, least_bytes, ray_name, unsupported

PRODUCTS = [(product, one.name) for one in accelerators().values() for product in one.products]


@pytest.mark.parametrize(("product", "name"), PRODUCTS)
def test_ray_calls_each_product_what_the_table_says(product: str, name: str) -> None:
    assert NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(product) == ray_name(name)


def test_a_dozen_products_and_more_are_compared() -> None:
    assert len(PRODUCTS) >= 13


def test_kinds_that_ray_does_not_tell_apart_are_told_apart_by_memory() -> None:
    shared = [
        one for one in accelerators().values() if sum(one.ray == other.ray for other in accelerators().values()) > 1
    ]
    assert [one.name for one in shared] == ["A100", "A100-80G"]
    assert least_bytes("A100") == 0, "any A100 will do where 40 GB are asked for"
    assert accelerators()["A100"].nvml_bytes < least_bytes("A100-80G") <= accelerators()["A100-80G"].nvml_bytes
    assert known("A100-40G") is known("A100")
    assert [least_bytes(name) for name in ("H100", "T4", "RTX-PRO-6000", None)] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", accelerators())
def test_each_kind_is_whole_and_possible(name: str) -> None:
    one = accelerators()[name]
    assert 0 < one.nvml_bytes - one.memory_bytes <= 0.9 * GIB, "CUDA sees a little less than NVML"
    assert one.bf16 == (one.capability[0] >= 8) and one.fp8 == (one.fp8_tflops is not None)
    if one.fp8_tflops:
        assert one.fp8_tflops / one.tflops == pytest.approx(2, rel=0.02), "both dense"
    assert 0.05 < one.tflops * 1e12 / one.bytes_per_second / 1e3 < 0.5, "operations a byte of these generations"
    assert one.pod[0] >= 4 and one.clouds


NVIDIA = {value for key, value in vars(rays).items() if key.startswith("NVIDIA")}
OTHERS = {value for key, value in vars(rays).items() if key.isupper() and isinstance(value, str)} - NVIDIA


@pytest.mark.parametrize(
    "name", [*sorted(OTHERS), "MI300X", "gaudi2", "tpu-v5e", "v5litepod-8", "inf2.xlarge", "M1-Max"]
)
def test_other_makers_accelerators_are_refused_with_what_is_supported(name: str) -> None:
    message = unsupported(name)
    assert message and message.startswith(f"{name!r} is an accelerator of ") and "\n" not in message
    assert "H100" in message and "teacher.endpoint" in message


@pytest.mark.parametrize("name", [*sorted(NVIDIA), *accelerators(), "GeForce-RTX-4090", "M60", "M10", "GH200", "V100"])
def test_what_may_be_an_nvidia_gpu_is_not(name: str) -> None:
    assert unsupported(name) is None
