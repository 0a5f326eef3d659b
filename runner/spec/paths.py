"""The paths that a spec names: environment variables filled in, relative to the spec's folder or absolute."""

from __future__ import annotations

import os

from runner.spec.located import located
from runner.spec.model import Spec
from runner.spec.sections.shared import VARIABLE
from runner.spec.strict_yaml import KeyPath
from runner.system.paths import at_home

__all__ = ["VARIABLE", "is_packaged", "resolve_path"]


def resolve_path(spec: Spec, path: str, at: KeyPath | None = None) -> str:
    """A data path of ``spec`` made usable: its ``${TUTELAGE_...}`` filled in, relative to the spec's folder.

    URLs stay as they are; a name on the Hub is no path, so do not pass one. Raises SpecError when the
    variable is not set, at the field ``at`` (None: the first that names this path).
    """
    return located(path, spec.base, spec.places, at or _field_of(spec, path))


def _field_of(spec: Spec, path: str) -> KeyPath:
    return next((at for at, source in spec.sources() if source.path == path), ("benchmark", "prices"))


def is_packaged(spec: Spec, path: str) -> bool:
    """Whether a job that is submitted to another machine carries the file: its path is relative to the spec."""
    return not ("://" in path or VARIABLE.match(path) or os.path.isabs(at_home(path, spec.base)))
