"""The spec that a command names, and the folder of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.system.paths import absolute, at_home

if TYPE_CHECKING:  # spares jsonschema
    from runner.rundir.folder import Folder
    from runner.spec import Spec


def load(path: str, overrides: Sequence[str]) -> Spec:
    """:raises SpecError: with every problem of the spec and its files."""
    from runner.planning.files import check_spec  # spares jsonschema

    return check_spec(at_home(path), overrides)


def run_folder(spec: Spec, runs_dir: str) -> Folder:
    """Where the run of a spec is kept."""
    from runner.rundir.folder import Folder  # spares pyarrow

    return Folder(absolute(runs_dir)).child(spec.name)
