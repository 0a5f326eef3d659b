"""What people have decided about rows of a run: what stages take from a review. Not a part of the spec's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reviewed:
    """Settled values by row id: of the blind sample, which measures, and of corrected train rows.

    ``unclear`` sample rows have been looked at and have no value that a person could name. ``seconds`` is the time that
    it took, None where nobody measured it, and is no part of ``digest``, which names all else and is empty where
    nothing has been decided.
    """

    sample: Mapping[str, Any] = field(default_factory=dict)
    corrections: Mapping[str, Any] = field(default_factory=dict)
    unclear: frozenset[str] = frozenset()
    seconds: float | None = None
    digest: str = ""

    def __bool__(self) -> bool:
        return bool(self.digest)
