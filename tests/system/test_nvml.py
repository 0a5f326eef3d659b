"""The GPUs of a machine: what a driver's library says is read as Ray reads it, against Ray's own answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.system import nvml

# A driver's library with the functions that Ray and this program call; its GPUs are those of a list.
LIBRARY = r"""
#include <string.h>
static const char *names[] = {%(names)s};
static unsigned long long sizes[] = {%(sizes)s};
static unsigned int count = %(count)d;
int nvmlInit_v2(void) { return %(init)d; }
int nvmlInitWithFlags(unsigned int flags) { return %(init)d; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "no driver"; }
int nvmlDeviceGetCount_v2(unsigned int *found) { *found = count; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    if (index >= count) return 2;
    *handle = (void *)(names + index);
    return 0;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned int length) {
    strncpy(name, *(const char **)handle, length);
    return 0;
}
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *found) {
    found->total = found->free = sizes[(const char **)handle - names];
    found->used = 0;
    return 0;
}
"""
ASK = """
import json
from runner.system import nvml
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as ray
visible, count = ray.get_current_process_visible_accelerator_ids(), ray.get_current_node_num_accelerators()
first = nvml.first()
print(json.dumps({
    "ours": [[gpu.name, gpu.memory] for gpu in nvml.gpus()],
    "kind": ray._gpu_name_to_accelerator_type(first and first.name),
    "rays": count if visible is None else min(count, len(visible)),
    "rays kind": ray.get_current_node_accelerator_type(),
}))
"""
MIXED = [
    ("Tesla T4", 15360 * 2**20),
    ("NVIDIA A100-SXM4-40GB", 40960 * 2**20),
    ("NVIDIA H100 80GB HBM3", 81559 * 2**20),
]


@pytest.mark.slow("subprocess")
@pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler makes the driver's library")
@pytest.mark.parametrize(
    ("gpus", "visible", "names"),
    [
        (MIXED[:1], None, ["Tesla T4"]),
        (MIXED[:1] * 2, None, ["Tesla T4"] * 2),
        (MIXED, "2,1", ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"]),
        (MIXED, "", []),
        (MIXED, "NoDevFiles", []),
        (MIXED, "GPU-5e1c8a2f", ["Tesla T4"]),
        (MIXED, "0,1,2,0", [name for name, _ in MIXED]),
        ([], None, []),
        (None, None, []),
    ],
)
def test_what_the_driver_says_is_what_ray_finds(
    tmp_path: Path, gpus: list[tuple[str, int]] | None, visible: str | None, names: list[str]
) -> None:
    found = gpus or [("none", 0)]
    body = LIBRARY % {
        "names": ", ".join(f'"{name}"' for name, _ in found),
        "sizes": ", ".join(f"{size}ULL" for _, size in found),
        "count": len(gpus or []),
        "init": 0 if gpus is not None else 9,  # NVML_ERROR_DRIVER_NOT_LOADED
    }
    (tmp_path / "nvml.c").write_text(body)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True, env=environment)
    said = json.loads(done.stdout)
    assert [name for name, _ in said["ours"]] == names
    assert len(said["ours"]) == said["rays"] and said["kind"] == said["rays kind"]
    assert all([name, size] in [list(one) for one in found] for name, size in said["ours"])


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", "libthis-is-nowhere.so.1")
    assert nvml.gpus() == [] and nvml.first() is None
