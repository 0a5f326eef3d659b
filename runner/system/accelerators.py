"""The table of accelerators (``accelerators.yaml``): what is known of each kind of GPU, by its name in a spec.

A name that is not in the table may still be a GPU that Ray knows: nothing is known of its memory then. Names of other
makers' accelerators are told apart, because nothing here computes on them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MIB, GIB = 2**20, 2**30
LARGEST_GAP_GIB = 0.85
"""By how much CUDA reports less memory than NVML, at most, in the reports that the table cites."""


@dataclass(frozen=True)
class Accelerator:
    """One kind of GPU. Sizes in bytes, rates a second; the sources stand in the table."""

    name: str
    ray: str
    """The name by which Ray knows it; several kinds may share one, and are told apart by ``nvml_bytes``."""
    products: tuple[str, ...]
    nvml_bytes: int
    memory_bytes: int
    """What CUDA, and so vLLM, reports of it."""
    capability: tuple[int, int]
    tflops: float
    fp8_tflops: float | None
    bytes_per_second: float
    watts: float
    pod: tuple[int, int]
    """Processor cores and GiB of memory in a pod, for each GPU."""
    clouds: Mapping[str, Mapping[str, int]]
    aliases: tuple[str, ...] = ()

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bf16 (vllm/platforms/cuda.py, ``supported_dtypes``: from capability 8.0 on)."""
        return self.capability >= (8, 0)

    @property
    def fp8(self) -> bool:
        """Whether it multiplies fp8 in hardware; below, vLLM unpacks fp8 weights as it goes (Marlin)."""
        return self.capability >= (8, 9)


@functools.cache
def accelerators() -> Mapping[str, Accelerator]:
    """All kinds that are known, by name, in the order of the table."""
    return {name: _accelerator(name, body) for name, body in _table()["accelerators"].items()}


def known(name: str | None) -> Accelerator | None:
    """The kind of that name, or one that is also called so; None where nothing is known of it."""
    if name is None:
        return None
    accelerator = accelerators().get(name)
    return accelerator or next((each for each in accelerators().values() if name in each.aliases), None)


def of_product(product: str) -> Accelerator | None:
    """The kind of a GPU that NVML gives that name; None where nothing is known of it."""
    return next((each for each in accelerators().values() if product in each.products), None)


def ray_name(name: str) -> str:
    """The name by which Ray knows nodes with that accelerator."""
    accelerator = known(name)
    return accelerator.ray if accelerator else name


def least_bytes(name: str | None) -> int:
    """The memory, as NVML reports it, below which a GPU that Ray calls the same is not of that kind; 0 for any.

    Only for those that Ray does not tell apart, and a little less than the table has: firmware takes some.
    """
    accelerator = known(name)
    if accelerator is None:
        return 0
    smaller = [
        each
        for each in accelerators().values()
        if each.ray == accelerator.ray and each.nvml_bytes < accelerator.nvml_bytes
    ]
    return int(0.95 * accelerator.nvml_bytes) if smaller else 0


def supported() -> str:
    """The names of the table, for people."""
    return ", ".join(accelerators())


def unsupported(name: str) -> str | None:
    """Why an accelerator of another maker is refused, and what to do; None for what may be an NVIDIA GPU."""
    plain = "-".join(_words(name))
    for maker, beginnings in _table()["unsupported"].items():
        if any(_begins(plain, start) for start in beginnings):
            return (
                f"{name!r} is an accelerator of {maker}, on which nothing here computes: NVIDIA GPUs do "
                f"({supported()}, or another that Ray names), or processors (gpus: 0); a teacher may also run "
                "elsewhere, as a server (teacher.endpoint)"
            )
    return None


def misspelt(name: str) -> str | None:
    """Why another spelling of a kind that is known here is refused, with the right one; None for any other name.

    Names are compared letter by letter by Ray, so that ``h100`` would be waited for in vain.
    """
    if known(name):
        return None
    found = _spellings().get(_plain(name))
    if found is None:
        return None
    return f"there is no accelerator {name!r} (did you mean {found}?); known names are {supported()}"


def _words(name: str) -> list[str]:
    return name.lower().replace("_", " ").replace("-", " ").split()


_UNSAID = re.compile(r"nvidia|tesla|gpu|sxm\d?|pcie|nvl|hbm\d?e?")
"""What a product's name has besides the kind: maker, line, and how it is mounted."""


def _plain(name: str) -> str:
    """A name without case, separators, and what does not tell kinds apart: ``NVIDIA A100-SXM4-80GB`` is ``a10080g``."""
    kept = [word for word in _words(name) if not _UNSAID.fullmatch(word)]
    return re.sub(r"(?<=\d)gb?$", "g", "".join(kept))


@functools.cache
def _spellings() -> Mapping[str, str]:
    """Kinds by their plain names: their own first, then those of products, then the labels of clouds' nodes."""
    found: dict[str, str] = {}
    for names in (_own_names, _product_names, _label_names):
        for one in accelerators().values():
            for name in names(one):
                found.setdefault(_plain(name), one.name)
    return found


def _own_names(accelerator: Accelerator) -> Iterable[str]:
    return (accelerator.name, *accelerator.aliases)


def _product_names(accelerator: Accelerator) -> Iterable[str]:
    return accelerator.products


def _label_names(accelerator: Accelerator) -> Iterable[str]:
    return (label for cloud in ("gke", "plain") for label in accelerator.clouds.get(cloud, ()))


def _begins(name: str, start: str) -> bool:
    """Whether a name begins with ``start``: with a whole word, or with any letters where ``start`` ends in ``*``."""
    if start.endswith("*"):
        return name.startswith(start[:-1])
    return name == start or (name.startswith(start) and _ends(name, start))


def _ends(name: str, start: str) -> bool:
    """Whether ``start`` is a whole word of ``name``, or all of a word but what turns from letters to digits or back."""
    following = name[len(start)]
    return following in "-." or following.isdigit() != start[-1].isdigit()


@functools.cache
def _table() -> dict[str, Any]:
    text = Path(__file__).with_name("accelerators.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return data


def _accelerator(name: str, body: Mapping[str, Any]) -> Accelerator:
    nvml = body["nvml_mib"] * MIB
    major, _, minor = body["capability"].partition(".")
    return Accelerator(
        name=name,
        ray=body["ray"],
        products=tuple(body["products"]),
        nvml_bytes=nvml,
        memory_bytes=int(body["cuda_gib"] * GIB) if "cuda_gib" in body else nvml - int(LARGEST_GAP_GIB * GIB),
        capability=(int(major), int(minor)),
        tflops=body["tflops"],
        fp8_tflops=body.get("fp8_tflops"),
        bytes_per_second=body["gb_per_second"] * 1e9,
        watts=body["watts"],
        pod=(body["pod"]["cores"], body["pod"]["gib"]),
        clouds=body["clouds"],
        aliases=tuple(body.get("aliases", ())),
    )
