"""Answers that are not finite numbers: they are no label, and a training that comes to them is not kept.

A student's weights or sums can leave the range of half precision, or be damaged. The predictions of a task kind refuse
such a row.
"""

from __future__ import annotations

from runner.system.errors import ModelError

NOT_FINITE = "the student's answer is not a finite number"
"""Why a row has no label."""


class NotFinite(Exception):
    """A training in ``precision`` cannot go on; ``what`` is not finite. Caught by :func:`runner.student.fit.fit`."""

    def __init__(self, what: str, precision: str) -> None:
        super().__init__(what)
        self.what, self.precision = what, precision


class Diverged(ModelError):
    """A training whose numbers are not finite in fp32 either."""


def said_of(rows: int, of: int, recomputed: int, precision: str) -> list[str]:
    """What to say of ``rows`` of ``of`` texts that got no finite answer, and of those that fp32 alone could answer."""
    said = []
    if recomputed:
        said.append(
            f"the student's answers to {recomputed:,} of {of:,} texts are not finite numbers in {precision}, and were "
            "computed again in fp32, which takes longer: set student.precision to fp32"
        )
    if rows:
        said.append(
            f"{rows:,} of {of:,} texts got no label: the student's answers to them are not finite numbers, in fp32 "
            "either; its weights are damaged, or their values are too large"
        )
    return said
