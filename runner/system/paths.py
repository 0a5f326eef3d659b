"""Names of files as users write them, made usable. Knows no file systems but this machine's."""

from __future__ import annotations

import glob
import os
from pathlib import Path


def at_home(path: str, base: str | Path = "") -> str:
    """``path`` with ``~/`` or ``~user/`` at its beginning written out, as the shell does.

    What is there under its literal name (from ``base``, or where the user stands) is that, and so is what begins with
    ``~`` and names no user.
    """
    if not path.startswith("~") or "://" in path:
        return path
    literal = os.path.join(base, path)
    if os.path.lexists(literal) or (glob.has_magic(literal) and glob.glob(literal, recursive=True)):
        return path
    return os.path.expanduser(path)


def absolute(path: str) -> str:
    """A path as it is kept: whole, with links followed; a URL as it is."""
    return path if "://" in path else os.path.realpath(at_home(path))
