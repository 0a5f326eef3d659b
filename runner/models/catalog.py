"""The catalog of models that can be fetched by name: reads ``catalog.yaml`` and nothing else.

A second catalog, in the file that ``TUTELAGE_CATALOG`` names, is laid over the shipped one. This
module does not know how to fetch anything.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.system.errors import ModelError
from runner.system.paths import at_home

Progress = Callable[[str], None]

# Names become folder names, so nothing that means something to a file system may be in them.
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True)
class Shape:
    """What a plan needs to know about a model; ``None`` where it is not known or has no meaning."""

    parameters: int | None = None
    active_parameters: int | None = None
    weight_bytes: int | None = None
    layers: int | None = None
    hidden: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    context: int | None = None
    licence: str | None = None
    config: Mapping[str, Any] | None = None
    """What config.json says, as far as the sizes of weights and cache hang on it."""

    @property
    def kv_bytes_per_token(self) -> int | None:
        """Bytes in bf16 that one token's keys and values take, over all layers."""
        if self.layers is None or self.kv_heads is None or self.head_dim is None:
            return None
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


@dataclass(frozen=True)
class PinnedFile:
    """A file as its publisher gave it out."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class HubSource:
    """The publisher's own repository on the Hub, at one revision."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"the Hub ({self.repo})"


@dataclass(frozen=True)
class PackageSource:
    """Packages of the ordinary index whose wheels carry the files, whole or in numbered parts."""

    names: tuple[str, ...]
    version: str
    parts: str | None
    archive: bool
    root: str | None

    def __str__(self) -> str:
        return f"{len(self.names)} package{'s' if len(self.names) > 1 else ''} ({self.names[0]})"


@dataclass(frozen=True)
class Entry:
    """A model of the catalog. ``files[0]`` holds the weights; its hash is the entry's identity."""

    name: str
    role: str
    shape: Shape
    files: tuple[PinnedFile, ...]
    sources: tuple[HubSource | PackageSource, ...]
    int8: bool = False

    @property
    def weights(self) -> PinnedFile:
        return self.files[0]

    @property
    def size(self) -> int:
        """Bytes of all the publisher's files."""
        return sum(file.size for file in self.files)

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are quantised and must be unpacked to bf16 first."""
        return self.weights.name.endswith(".gguf")


@dataclass(frozen=True)
class Catalog:
    models: Mapping[str, Entry]
    known: Mapping[str, Shape]


def load() -> Catalog:
    """The shipped catalog with the user's own over it. Raises ModelError for a broken one."""
    shipped = _read(Path(__file__).with_name("catalog.yaml"))
    own = os.environ.get("TUTELAGE_CATALOG")
    if not own:
        return shipped
    extra = _read(Path(at_home(own)))
    return Catalog({**shipped.models, **extra.models}, {**shipped.known, **extra.known})


def find(name: str) -> Entry:
    """The entry called ``name``. Raises ModelError with the nearest names."""
    models = load().models
    if name not in models:
        raise ModelError(
            "model.not-in-catalog",
            f"there is no model {name!r} in the catalog{did_you_mean(name, models)}; "
            f"it holds {', '.join(sorted(models))}",
        )
    return models[name]


def facts_of_repo(repo: str) -> Shape:
    """What the catalog knows of a Hub repository: nothing, for most."""
    catalog = load()
    for entry in catalog.models.values():
        if any(isinstance(source, HubSource) and source.repo == repo for source in entry.sources):
            return entry.shape
    return catalog.known.get(repo, Shape())


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """``" (did you mean 'x'?)"`` for the nearest of ``choices`` (shown after ``prefix``), or nothing."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {prefix + by_lower[near[0]]!r}?)" if near else ""


@functools.cache
def _read(path: Path) -> Catalog:
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        models = {name: _entry(name, body) for name, body in (data.get("models") or {}).items()}
        known = {name: _shape(body) for name, body in (data.get("known") or {}).items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError("model.catalog-broken", f"the model catalog {path} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            "model.catalog-broken", f"the model catalog {path} is not in the catalog's form: {error!r}"
        ) from error
    return Catalog(models, known)


def _entry(name: str, body: Mapping[str, Any]) -> Entry:
    if not _SAFE_NAME.match(name) or body["role"] not in ("teacher", "student"):
        raise ValueError(f"model {name!r}: a plain name and a role (teacher or student) are needed")
    files = tuple(_pinned(file, pin) for file, pin in body["files"].items())
    sources = tuple(_source(source) for source in body["sources"])
    if not files or not files[0].name.endswith((".gguf", ".safetensors")):
        raise ValueError(f"model {name!r}: its first file must be .gguf or .safetensors")
    if body.get("quantise") not in (None, "int8") or ("quantise" in body and not files[0].name.endswith(".gguf")):
        raise ValueError(f"model {name!r}: quantise: int8 is all that is known, and for .gguf files only")
    return Entry(name, body["role"], _shape(body), files, sources, int8="quantise" in body)


def _pinned(name: str, pin: Mapping[str, Any]) -> PinnedFile:
    digest = str(pin["sha256"])
    if not _SAFE_NAME.match(name) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"file {name!r}: a plain name and 64 hexadecimal digits of SHA-256 are needed")
    return PinnedFile(name, int(pin["size"]), digest)


def _source(body: Mapping[str, Any]) -> HubSource | PackageSource:
    if "hub" in body:
        return HubSource(str(body["hub"]["repo"]), str(body["hub"]["revision"]))
    packages = body["packages"]
    names = tuple(str(name) for name in packages["names"])
    if not names or not all(_SAFE_NAME.match(name) for name in names):
        raise ValueError(f"not package names: {names}")
    if packages.get("archive") not in (None, "zip"):
        raise ValueError("archive: only 'zip' is known")
    return PackageSource(
        names=names,
        version=str(packages["version"]),
        parts=packages.get("parts"),
        archive=packages.get("archive") == "zip",
        root=packages.get("root"),
    )


def _shape(body: Mapping[str, Any]) -> Shape:
    fields = ("layers", "hidden", "kv_heads", "head_dim", "context")
    parameters = int(body["parameters"])
    return Shape(
        parameters=parameters,
        active_parameters=int(body.get("active_parameters", parameters)),
        weight_bytes=int(body.get("weight_bytes", 2 * parameters)),
        licence=str(body["licence"]),
        config=body.get("config"),
        **{field: int(body[field]) for field in fields if field in body},
    )
