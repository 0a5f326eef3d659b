"""Where the teacher may be wrong, and what people are asked to check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Audit:
    """How the teacher's labels are judged before people look at them.

    ``consensus``: learn what teacher and unseeing students agree on. ``model``: their encoder, None for the student's.
    """

    consensus: bool
    model: str | None
    revision: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The blind sample that measures. ``half_width`` is a share: 0.02 is two points to either side."""

    rows: int
    half_width: float | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class ReviewPlan:
    """What people are asked to check."""

    audit: Sample
