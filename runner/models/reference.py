"""What a user wrote for a model, told apart: ``catalog:NAME``, a local folder, or a Hub name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ModelError
from runner.models import catalog
from runner.models.catalog import Entry
from runner.paths import at_home

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
            f"{ref!r} is not a model: write catalog:NAME, a local folder, or a Hub name like org/name{near}"
        )
    if revision is not None:
        raise ModelError(f"{ref}: a revision goes with a Hub name only; take {revision!r} out")
    return kind
