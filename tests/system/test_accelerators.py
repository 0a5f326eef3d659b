"""The one table of GPUs: complete, in Ray's words, and apart from other makers' accelerators."""

from __future__ import annotations

import pytest
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray.util import accelerators as rays

from runner.system.accelerators import GIB, accelerators, known, least_bytes, misspelt, ray_name, unsupported

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
    "name",
    [
        *sorted(OTHERS),
        *("MI300X", "gaudi2", "tpu-v5e", "v5litepod-8", "inf2.xlarge", "M1-Max", "HL-225", "HL-325L", "HL-205"),
        *("gfx90a", "gfx942", "gfx1100", "Arc A770", "Flex-170", "v4", "v3-8", "v2-8", "TPUv5e", "MI50", "MI60"),
        *("W7900", "Radeon PRO W7900", "7900XTX", "RX 7900 XTX", "MI455X"),
    ],
)
def test_other_makers_accelerators_are_refused_with_what_is_supported(name: str) -> None:
    message = unsupported(name)
    assert message and message.startswith(f"{name!r} is an accelerator of ") and "\n" not in message
    assert "H100" in message and "teacher.endpoint" in message


MAY_BE = [*sorted(NVIDIA), *accelerators(), "A100-40G", "GeForce-RTX-4090", "RTX-6000-Ada", "RTX A6000", "M60", "M10"]
MAY_BE += ["GH200", "V100", "L40", "H20", "B300", "A2", "A16", "A30", "A40", "P4", "T4G", "GB200", "something-else"]


@pytest.mark.parametrize("name", MAY_BE)
def test_what_may_be_an_nvidia_gpu_is_not(name: str) -> None:
    assert unsupported(name) is None
    assert misspelt(name) is None, "names that are not known here are passed on to Ray"


SPELLINGS = {
    "h100": "H100",
    "NVIDIA H100": "H100",
    "H100-80GB": "H100",
    "H100 SXM5": "H100",
    "nvidia-h100-80gb": "H100",
    "A100-80GB": "A100-80G",
    "A100_80G": "A100-80G",
    "a100-80g": "A100-80G",
    "NVIDIA-A100-SXM4-80GB": "A100-80G",
    "A100-40GB": "A100",
    "a100": "A100",
    "Tesla T4": "T4",
    "nvidia-tesla-t4": "T4",
    "nvidia h200": "H200",
    "H200-141GB": "H200",
    "l40s": "L40S",
    "A10g": "A10G",
    " H100": "H100",
}


@pytest.mark.parametrize("name", [*SPELLINGS, *(product for product, kind in PRODUCTS if product != kind)])
def test_another_spelling_of_a_known_kind_is_refused_with_the_right_one(name: str) -> None:
    message = misspelt(name)
    expected = SPELLINGS.get(name) or dict(PRODUCTS)[name]
    assert message and f"{name!r} (did you mean {expected}?)" in message and "\n" not in message
