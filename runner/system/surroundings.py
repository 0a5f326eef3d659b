"""Where a command stands, and what it writes to: neither may decide how it ends.

A file ``numpy.py`` in the user's folder is the user's, and no module of ours; a terminal may know few letters, and a
stream may be closed. Imports nothing that such a file could stand in the place of before :func:`clean_path` has run.
"""

from __future__ import annotations

import errno
import os
import sys

_own_folder: list[str] = []


def clean_path() -> None:
    """Nothing is imported from the folder where the user stands, but for ourselves where we are nowhere else."""
    here = _real(".")
    beside = [place for place in sys.path if place in ("", ".") or _real(place) == here]
    sys.path[:] = [place for place in sys.path if place not in beside]
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if _real(ours) == here and not _found():
        sys.path.append(ours)
        _own_folder[:] = [ours]
    given = os.environ.get("PYTHONPATH", "")
    if given:
        os.environ["PYTHONPATH"] = os.pathsep.join(place for place in given.split(os.pathsep) if place.strip("."))


def _real(place: str) -> str:
    """The path without links; that of a relative one is empty where the current folder is gone."""
    try:
        return os.path.realpath(place)
    except OSError:
        return ""


def _found() -> bool:
    """Whether a process that starts elsewhere finds this package."""
    return any(
        finder.find_spec(__package__ or "runner", None) is not None
        for finder in sys.meta_path
        if hasattr(finder, "find_spec")
    )


def own_folder() -> list[str]:
    """Where workers find us, if they do not find us by themselves."""
    return list(_own_folder)


def fault(error: BaseException) -> str:
    """What to say of an error that comes of where the command stands and writes to; empty where it is another one."""
    if not isinstance(error, OSError):
        return ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run again"
    try:
        os.getcwd()
    except OSError:
        return "the folder in which you stand is gone; change to another one"
    return ""


def open_streams() -> None:
    """Whatever is written can be: a letter that a stream does not know as an escape, and to a closed one nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as we run)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
