"""Whether this user may write into a folder, and if not, what to do: asked before much is fetched or done."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from pathlib import Path

from runner.rundir.folder import Folder
from runner.system.errors import TutelageError, first_line

_OF_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What another owner or mode, or another mount, would mend; a full disk is none of these."""


def refusal(folder: Path) -> str:
    """Why nothing can be written into ``folder`` (or, while it is not there, into what it will lie in); empty where
    something can. Leaves nothing behind."""
    place = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".tutelage-"):
            return ""
    except OSError as error:
        if not place.is_dir():
            return f"{place} is a file, and no folder"
        said = f"{place} cannot be written to by {_me()} ({error.strerror or error})"
        return f"{said}; {_owner(place)}" if error.errno in _OF_RIGHTS else said


def refusal_of(url: str) -> str:
    """The same of a folder anywhere that fsspec knows; a file is put there for a moment."""
    name = f".tutelage-{uuid.uuid4().hex}"
    try:
        folder = Folder(url)
        if folder.local is not None:
            return refusal(folder.local)
        folder.write(name, b"")
        folder.remove(name)
    except (TutelageError, OSError) as error:
        return first_line(error)
    return ""


def _me() -> str:
    groups = sorted({os.getegid(), *os.getgroups()})
    return f"user {os.geteuid()} of the groups {', '.join(map(str, groups))}"


def _owner(place: Path) -> str:
    """Whose a folder is, and what lets this user in."""
    here, me = place.stat(), os.geteuid()
    mode = stat.S_IMODE(here.st_mode)
    own = f"it belongs to user {here.st_uid} and group {here.st_gid}, with mode {mode:04o}"
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{own}, and is mounted read-only: mount it for writing"
    opened = "" if mode & stat.S_IRWXU == stat.S_IRWXU else f"`chmod u+rwx {place}`"
    if here.st_uid == me and opened:
        return f"{own}. It is this user's own: {opened} lets it in"
    return (
        f"{own}. Its owner lets this user in with `chown {me} {place}`{opened and f' and {opened}'}, or with `chgrp "
        f"{os.getegid()} {place}` and `chmod g+rwxs {place}`; in Kubernetes fsGroup does so, but not for every driver "
        "of volumes that many nodes mount"
    )
