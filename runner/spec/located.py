"""Where a path of a spec leads: environment variables filled in, relative to the spec's folder or absolute."""

from __future__ import annotations

import os
from pathlib import Path

from runner.spec.positions import Places
from runner.spec.sections.shared import VARIABLE
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import SpecError
from runner.system.paths import at_home


def located(path: str, base: Path, places: Places, at: KeyPath) -> str:
    """``path`` made usable, for a spec in the folder ``base``; URLs stay as they are.

    :raises SpecError: at the field ``at``, when a variable is not set.
    """
    if match := VARIABLE.match(path):
        value = os.environ.get(match[1], "")
        rest = path[match.end() :].lstrip("/")
        if not value:
            holds = rest or "the data"
            message = f"the environment variable {match[1]} is not set: set it to the folder that holds {holds}"
            raise SpecError([places.problem(at, "spec.variable-unset", message)])
        if "://" in value:
            return value.rstrip("/") + path[match.end() :]
        # The variable is the shell's, so a relative one starts where the shell stands.
        return str(Path(at_home(value)).absolute() / rest)
    return path if "://" in path else str(base / at_home(path, base))
