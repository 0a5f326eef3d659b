"""Ray's C++ core writes lines of its own to standard error while it starts: they are left out."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_RAYS = re.compile(rb"\[[^\]]*\] (?:\([^)]*\) )?\S+\.cc:\d+: ")


@contextmanager
def without_rays_lines() -> Iterator[None]:
    """What is written to standard error within comes afterwards, without the lines of Ray's core."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as said, os.fdopen(kept, "wb", buffering=0) as real:
        sys.stderr.flush()
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real.fileno(), 2)
            said.seek(0)
            for line in said:
                if not _RAYS.match(line):
                    real.write(line)
