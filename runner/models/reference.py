"""What a user wrote for a model, told apart: ``catalog:NAME``, a local folder, or a Hub name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runner.models import catalog
from runner.models.catalog import Entry
from runner.system.errors import ModelError
from runner.system.paths import at_home

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?\Z", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """A model on the Hub; ``revision`` is None for its main branch."""

    repo: str
    revision: str | None


def resolve(ref: str, revision: str | None, base: Path | None) -> Entry | Path | HubName:
    """Tell what ``ref`` is, offline. A local folder is taken from ``base`` (default: the current folder).

    Raises ModelError for an unknown catalog name, for something that is no reference at all, and for
    a revision where there can be none.
    """
    kind: Entry | Path | HubName
    if ref.startswith("catalog:"):
        kind = catalog.find(ref.removeprefix("catalog:"))
    elif ref.startswith((".", "/", "~")) or (ref and ((base or Path()) / ref).is_dir()):
        kind = ((base or Path()) / at_home(ref, base or "")).absolute()
    elif _HUB_NAME.match(ref):
        return HubName(ref, revision)
    else:
        near = catalog.did_you_mean(ref.rsplit(":", 1)[-1], catalog.load().models, prefix="catalog:")
        raise ModelError(
            "model.name-invalid",
            f"{ref!r} is not a model: write catalog:NAME, a local folder, or a Hub name like org/name{near}",
        )
    if revision is not None:
        raise ModelError(
            "model.revision-misplaced", f"{ref}: a revision goes with a Hub name only; take {revision!r} out"
        )
    return kind


def pulled(name: str) -> tuple[str, str | None]:
    """Reference and revision of what ``tutelage models pull`` is given.

    That is a name of the catalog, a reference as in a spec, or a Hub name with its revision: ``OWNER/NAME@REVISION``.
    Raises ModelError where the revision is missing.
    """
    repo, at, revision = name.partition("@")
    if at and _HUB_NAME.match(repo) and not Path(name).is_dir():
        if not revision:
            raise ModelError(
                "model.revision-invalid", f"{name}: expected a revision (a branch, a tag or a commit) after the @"
            )
        return repo, revision
    return (name if name.startswith("catalog:") or "/" in name else f"catalog:{name}"), None


def pull_name(ref: str, revision: str | None) -> str:
    """What to give ``tutelage models pull`` for a model of a spec. A Hub name without an owner needs its branch."""
    bare = "/" not in ref and not ref.startswith("catalog:")
    known = revision or ("main" if bare else None)
    return ref.removeprefix("catalog:") + (f"@{known}" if known else "")
