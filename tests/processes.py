"""Processes of a test: free ports for them, and all that they started, to see it gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Free ports; the system gives them out above 32768, far from those of Ray's workers."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Living processes other than this one with ``mark`` in their environment or command line; with the latter."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z":
                continue
            command = (place / "cmdline").read_bytes()
            if mark.encode() in (place / "environ").read_bytes() + command and place.name != str(os.getpid()):
                yield int(place.name), command.decode(errors="replace").replace("\0", " ")
