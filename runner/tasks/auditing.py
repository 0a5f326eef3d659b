"""The face of a kind of task that the audit asks (``runner/tasks/protocol.py``): where may the teacher be wrong?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.spec import Spec


class Auditing(Protocol):
    """How likely a teacher's value is wrong, from its verdict and from students that did not learn from the row.

    A *verdict* has the columns of :attr:`Judging.COLUMNS`. *Opinions* are the answers of one group of students to all
    rows, in the numbers that a learner tells (:meth:`Learner.out_of_fold`), shape ``(rows, numbers)``; NaN in rows
    about which they say nothing. A *finding* has ``doubt``, the estimated probability that the teacher's value is
    wrong, between 0 and 1 (1 where it abstained, which is no value), and the columns of ``COLUMNS``, among them
    ``opinion``, the students' value, and ``consensus``, what teacher and students come to (None: neither says one).
    """

    COLUMNS: tuple[pa.Field, ...]

    def key(self, spec: Spec) -> dict[str, Any]:
        """How findings are made of verdicts and opinions; it goes into fingerprints."""

    def learned(self, verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
        """Which rows the students learn from, shape ``(rows,)``: those with a value."""

    def targets(self, spec: Spec, verdicts: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """What they learn, as :meth:`Targets.of` makes it, with a row of any numbers for each that is not learned."""

    def findings(
        self, spec: Spec, verdicts: Sequence[Mapping[str, Any]], opinions: Sequence[NDArray[np.float64]]
    ) -> list[dict[str, Any]]:
        """One for each verdict. :raises ValueError: when shapes do not fit."""

    def agreed(self, verdict: Mapping[str, Any], finding: Mapping[str, Any]) -> dict[str, Any]:
        """The verdict with the consensus in the place of the teacher's value; as it was where there is none."""
