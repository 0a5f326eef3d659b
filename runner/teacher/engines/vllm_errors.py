"""What vLLM's errors mean: whether the engine is dead, why it did not start, and what to do about it.

An engine on several GPUs runs in processes of its own; of what happens there, the error that arrives here says little,
and what they write to standard error says the rest.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

from runner.system.device_errors import BROKEN

_CAUSE = re.compile(r"\b(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception)): (.+)")
_NOT_THE_CAUSE = ("initialization failed", "see root cause", "see stack trace")


def is_fatal(error: Exception) -> bool:
    """Whether the engine is dead: its own process is gone, or the GPU's context is broken."""
    return type(error).__name__ == "EngineDeadError" or any(words in str(error) for words in BROKEN)


class Written:
    """What this process and its children write to standard error from here on, where that is a file, as Ray has it."""

    def __init__(self) -> None:
        self._start = self._size()

    def lines(self) -> list[str]:
        """Its lines; none where it is no file."""
        if self._size() <= self._start:
            return []
        try:
            with open("/proc/self/fd/2", encoding="utf-8", errors="replace") as handle:
                handle.seek(self._start)
                return handle.read().splitlines()
        except OSError:  # systems without /proc
            return []

    def _size(self) -> int:
        try:
            found = os.fstat(2)
        except OSError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0


def advice(error: BaseException, written: Sequence[str] = ()) -> str:
    """The engine's own words, and what to do about them; ``written`` is what its processes wrote meanwhile."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    # Pydantic counts its errors on the first line, and says where and what on the next two.
    text = (": ".join(map(str.strip, lines[1:3])) if "validation error" in lines[0] else lines[0]).strip()[:300]
    if any(words in text.lower() for words in _NOT_THE_CAUSE):
        text = _cause(written) or text
    lowered = text.lower()
    if "memory" in lowered or "kv cache" in lowered:
        return f"{text}; ask for more GPUs or a larger accelerator, a smaller model, or a smaller teacher.max_context"
    if "max_model_len" in lowered or "max_position" in lowered:
        return f"{text}; set teacher.max_context to what the model holds"
    return f"{text}; `tutelage doctor` shows what works on this machine"


def _cause(written: Sequence[str]) -> str | None:
    """The last error among some lines that says more than that there was one."""
    for line in reversed(written):
        if (found := _CAUSE.search(line)) and not any(words in found[2].lower() for words in _NOT_THE_CAUSE):
            return f"{found[1]}: {found[2]}".strip()[:300]
    return None
