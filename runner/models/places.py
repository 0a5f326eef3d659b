"""Where a fetched model is kept, and whether this user may write there: checked before gigabytes are fetched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from runner.models import hub, store
from runner.models.catalog import Entry
from runner.models.reference import HubName, resolve
from runner.rundir.writable import refusal
from runner.system.errors import ModelError


def check_writable(models: Iterable[tuple[str, str | None]]) -> None:
    """``models`` are references and revisions.

    :raises ModelError: when a model is not here yet, and may not be kept where it belongs.
    """
    for reference, revision in models:
        target = _to_write(reference, revision)
        if target is None:
            continue
        place, variable = target
        if said := refusal(place):
            raise ModelError(
                "model.cache-unusable",
                f"{reference} would be kept in {place}: {said}. Or set {variable} to a folder of yours",
            )


def _to_write(reference: str, revision: str | None) -> tuple[Path, str] | None:
    """The folder that a model is put into, and the variable that chooses it; None where nothing is fetched."""
    kind = resolve(reference, revision, None)
    if isinstance(kind, Entry):
        return None if store.is_present(kind) else (store.folder_of(kind).parent, "TUTELAGE_CACHE")
    if not isinstance(kind, HubName) or hub.cached(kind.repo, kind.revision) is not None:
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE), "HF_HOME"
