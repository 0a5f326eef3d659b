"""Models by name: what a reference means, what is known about it, and its files on this machine.

Everything but ``ensure`` and ``pull`` is cheap and works without a network. Importing this package
imports neither torch nor transformers nor the Hub's client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.models import catalog, folder, hub, sources, store
from runner.models.catalog import Entry, Shape
from runner.models.reference import HubName, resolve
from runner.system.errors import ModelError

__all__ = [
    "ModelError",
    "ModelFacts",
    "ModelRow",
    "Origin",
    "anywhere",
    "catalog_names",
    "config_folder",
    "describe",
    "ensure",
    "hub_name",
    "identity",
    "list_models",
    "origin",
    "provenance",
    "pull",
]


@dataclass(frozen=True)
class ModelRow:
    """A line of ``tutelage models``. ``size_bytes`` is what has to be fetched."""

    name: str
    role: str
    parameters: int
    size_bytes: int
    licence: str
    sources: str
    present: bool


@dataclass(frozen=True)
class ModelFacts:
    """What a plan needs to know of a model; None where it cannot be known without fetching it.

    ``weight_bytes`` and ``kv_bytes_per_token`` are as loaded in half precision; encoders keep no keys and values.
    ``config`` is what config.json says, or the part of it that sizes hang on; ``folder`` holds that file.
    """

    parameters: int | None
    active_parameters: int | None
    weight_bytes: int | None
    layers: int | None
    hidden: int | None
    kv_bytes_per_token: int | None
    context: int | None
    licence: str | None
    present: bool
    config: Mapping[str, Any] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, for cards: the publisher's Hub repository and its revision, and the licence.

    None where it is not known; ``pinned`` says that the bytes are those of one SHA-256.
    """

    hub: str | None = None
    revision: str | None = None
    licence: str | None = None
    pinned: bool = False


def catalog_names() -> list[str]:
    """The names that ``catalog:NAME`` accepts, sorted."""
    return sorted(catalog.load().models)


def list_models() -> list[ModelRow]:
    """The catalog in its own order, with what is on this machine."""
    return [
        ModelRow(
            name=entry.name,
            role=entry.role,
            parameters=entry.shape.parameters or 0,
            size_bytes=entry.size,
            licence=entry.shape.licence or "",
            sources=", ".join(sources.names(entry)),
            present=store.is_present(entry),
        )
        for entry in catalog.load().models.values()
    ]


def identity(ref: str, revision: str | None = None, base: Path | None = None, weights: bool = True) -> str:
    """A text that changes when the model's content does, for fingerprints. Offline.

    A Hub model is known by its revision; without one, by ``main``, which its publisher can move. Without ``weights`` a
    folder need not have them.
    Raises ModelError for an unknown catalog name and for a folder that is no model.
    """
    kind = resolve(ref, revision, base)
    if isinstance(kind, Entry):
        return f"catalog:{kind.name}@sha256:{kind.weights.sha256}"
    if isinstance(kind, HubName):
        return f"hub:{kind.repo}@{kind.revision or 'main'}"
    return f"folder:sha256:{folder.digest(kind, weights)}"


def provenance(
    ref: str, revision: str | None = None, base: Path | None = None, weights: bool = True
) -> dict[str, str | None]:
    """What a stage that used a model notes of it, for cards: its ``identity`` and its ``licence``. Offline.

    Raises ModelError as ``identity`` does.
    """
    known_as = identity(ref, revision, base, weights)
    return {"identity": known_as, "licence": describe(ref, revision, base, weights).licence}


def origin(identity: str) -> Origin:
    """Where the model of an ``identity`` comes from, as far as the catalog knows. Never raises for an unknown one.

    ``catalog:NAME`` alone will do: older runs noted no more.
    """
    kind, _, rest = identity.partition(":")
    name, at, version = rest.rpartition("@") if "@" in rest else (rest, "", "")
    if kind == "hub" and at:
        return Origin(name, None if version == "main" else version, catalog.facts_of_repo(name).licence)
    entry = catalog.load().models.get(name) if kind == "catalog" else None
    # Another catalog may call another model by this name.
    if entry is None or (at and version != f"sha256:{entry.weights.sha256}"):
        return Origin(pinned=kind == "catalog" and bool(at))
    source = next((source for source in entry.sources if isinstance(source, catalog.HubSource)), None)
    repo, revision = (source.repo, source.revision) if source else (None, None)
    return Origin(repo, revision, entry.shape.licence, pinned=bool(at))


def ensure(
    ref: str,
    revision: str | None = None,
    base: Path | None = None,
    progress: Callable[[str], None] | None = None,
    who: str = "",
    weights: bool = True,
) -> Path:
    """The model as a local Hugging Face folder (config.json, safetensors, tokenizer), fetched if need be.

    Safe to call from many processes at once. ``progress`` gets a plain sentence for each long step. Without
    ``weights`` a Hub model comes without them: a server elsewhere has them.
    Raises ModelError, which says what to do, and begins with ``who`` wants the model.
    """
    say = progress or (lambda _: None)
    with _named(who):
        kind = resolve(ref, revision, base)
        if isinstance(kind, Entry):
            entry = kind
            if not weights and (near := _tokenizer_near(entry)):
                return near
            return store.install(entry, lambda work: sources.build(entry, work, say), say)
        if isinstance(kind, HubName):
            return hub.fetch_model(kind.repo, kind.revision, say, weights)
        if weights or not folder.has_tokenizer(kind):
            folder.check(kind)
        return kind


def _tokenizer_near(entry: Entry) -> Path | None:
    """The tokenizer of a model of the catalog that is not here as a whole, from the Hub's local cache."""
    if store.is_present(entry):
        return None
    folders = (
        hub.cached(source.repo, source.revision, False)
        for source in entry.sources
        if isinstance(source, catalog.HubSource)
    )
    return next((path for path in folders if path), None)


def anywhere(ref: str, revision: str | None = None, base: Path | None = None) -> str:
    """The reference as it can be said on another machine: a folder by its absolute path. Offline.

    Raises ModelError as ``identity`` does.
    """
    kind = resolve(ref, revision, base)
    return str(kind) if isinstance(kind, Path) else ref


@contextmanager
def _named(who: str) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        raise error.with_message(f"{who}: {error}" if who else str(error)) from error


def hub_name(ref: str, base: Path | None = None) -> str | None:
    """The Hub's name for a reference, or None where it is a folder or of the catalog."""
    kind = resolve(ref, None, base)
    return kind.repo if isinstance(kind, HubName) else None


def pull(names: Sequence[str], progress: Callable[[str], None] | None = None) -> list[Path]:
    """Fetch models ahead of time. A name may be a reference, or a catalog name without ``catalog:``."""
    known = catalog_names()
    return [ensure(f"catalog:{name}" if name in known else name, progress=progress) for name in names]


def describe(ref: str, revision: str | None = None, base: Path | None = None, weights: bool = True) -> ModelFacts:
    """What is known about a model without fetching it. Raises ModelError as ``identity`` does.

    Without ``weights`` its tokenizer is enough for it to be present.
    """
    kind = resolve(ref, revision, base)
    if isinstance(kind, Entry):
        return _facts(kind.shape, store.is_present(kind))
    if isinstance(kind, HubName):
        here = hub.cached(kind.repo, kind.revision)
        if here is not None:
            return _facts(folder.shape(here), True, here)
        near = not weights and hub.cached(kind.repo, kind.revision, weights=False) is not None
        return _facts(catalog.facts_of_repo(kind.repo), near)
    if not weights and folder.problem(kind) and folder.has_tokenizer(kind):
        return _facts(catalog.Shape(), True)
    return _facts(folder.shape(kind), True, kind)


def config_folder(ref: str, revision: str | None, base: Path | None) -> Path | None:
    """The folder on this machine that has the model's ``config.json``, with or without its weights; None without one.

    Offline. Raises ModelError as ``identity`` does.
    """
    kind = resolve(ref, revision, base)
    if isinstance(kind, Entry):
        kind = store.folder_of(kind)
    here = hub.cached_config(kind.repo, kind.revision) if isinstance(kind, HubName) else kind
    return here if here is not None and (here / "config.json").is_file() else None


def no_student(ref: str, revision: str | None, base: Path | None, max_length: int) -> str | None:
    """Why a model cannot be a student that reads so many tokens; None where nothing speaks against it.

    A model that is not on this machine is looked at when it is fetched; none is loaded. Raises ModelError as
    ``identity`` does.
    """
    kind = resolve(ref, revision, base)
    if isinstance(kind, Entry):
        if kind.role != "student":
            return f"student.model: {ref} is a generative model; name an encoder"
        return folder.too_long(max_length, kind.shape.context)
    here = hub.cached(kind.repo, kind.revision) if isinstance(kind, HubName) else kind
    return None if here is None else folder.no_student(here, max_length)


def _facts(shape: Shape, present: bool, folder: Path | None = None) -> ModelFacts:
    return ModelFacts(
        parameters=shape.parameters,
        active_parameters=shape.active_parameters or shape.parameters,
        weight_bytes=shape.weight_bytes,
        layers=shape.layers,
        hidden=shape.hidden,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        context=shape.context,
        licence=shape.licence,
        present=present,
        config=shape.config,
        folder=folder,
    )
