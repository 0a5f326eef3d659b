"""What a student learns from: texts, and numbers for each. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Texts with what is to be learned of each: ``targets``, float32, has a row for each text."""

    texts: Sequence[str]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows for which ``mask``, shape ``(len(self),)``, is true."""
        return Rows([self.texts[i] for i in np.flatnonzero(mask)], self.targets[mask])
