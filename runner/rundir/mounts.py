"""Whether a folder is on a disk of this machine, or on a share that others mount as well."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

TABLE = Path("/proc/self/mounts")

SHARED = ("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "fuse", "ceph", "lustre", "beegfs")
"""Kinds of file systems that may belong to another machine. Any kind of FUSE counts, but for those named below."""
LOCAL_FUSE = ("fuse.fuse-overlayfs", "fuseblk")
"""A container's own layers, and disks of other systems."""


def mount_table() -> list[tuple[str, str]]:
    """Where something is mounted, and its kind, in the order of mounting; empty where the system does not tell."""
    try:
        text = TABLE.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:  # macOS has no such file
        return []
    lines = (line.split(" ") for line in text.split("\n"))  # of other ends of a line a name may have its own
    return [(_unescaped(fields[1]), fields[2]) for fields in lines if len(fields) > 2]


def _unescaped(point: str) -> str:
    """Blanks, tabs, line ends and backslashes stand in the table as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


def is_shared(folder: Path) -> bool:
    """Whether ``folder`` is on NFS, SMB, FUSE or the like. What nobody knows is taken for a disk of this machine."""
    place = Path(os.path.realpath(folder))  # the way there has an automounter mount what the table then has
    return is_shared_kind(kind_of(place, mount_table()))


def is_shared_kind(kind: str) -> bool:
    """Whether a file system of that kind may be another machine's."""
    return kind not in LOCAL_FUSE and (kind in SHARED or kind.startswith("fuse."))


def kind_of(folder: Path, mounts: Iterable[tuple[str, str]]) -> str:
    """The kind of file system that ``folder`` is on, which need not be there yet; empty where the table lacks it.

    The deepest mount holds it; of several at one place the last, which hides the others.
    """
    place = os.path.realpath(folder)
    depth, kind = -1, ""
    for point, this in mounts:
        if _holds(point, place) and len(point) >= depth:
            depth, kind = len(point), this
    return kind


def _holds(point: str, place: str) -> bool:
    """Whether ``place`` is ``point`` or lies below it; what the table has besides paths holds nothing."""
    return point.startswith("/") and os.path.commonpath([place, point]) == point
