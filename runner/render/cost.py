"""What an hour costs at most, and what the plan expects, as lines for people who look at the job in the cluster."""

from __future__ import annotations

import tempfile

from runner.plan import estimate, hourly_usd, make_plan
from runner.render.wish import Wish
from runner.spec import Spec, check_files
from runner.store import Folder


def cost_line(spec: Spec, wish: Wish) -> str:
    """USD an hour with all pods up, and until the deadline; the prices are the spec's own."""
    teacher, student, further = hourly_usd(spec)
    known = {"teacher": teacher, "student": student, "benchmark.hardware": further or None}
    parts = [f"{name} {usd:.2f}" for name, usd in known.items() if usd is not None]
    if student is None:
        parts.append("student unknown: benchmark.price_per_hour is not set")
    if teacher is None and spec.teacher.engine == "vllm":
        parts.append("teacher unknown: teacher.price_per_hour is not set")
    if not any(usd is not None for usd in known.values()):
        return "; ".join(parts)
    total = sum(usd or 0 for usd in known.values())
    most = f"at most USD {total:.2f} an hour ({', '.join(parts)}; the head is not counted)"
    return f"{most}, USD {total * wish.hours:.2f} until the deadline of {wish.hours} h"


def plan_line(spec: Spec) -> str:
    """What the plan expects of a run that finds nothing there yet. The data are read here.

    :raises TutelageError: when they are not on this machine, or not as they should be.
    """
    check_files(spec)
    with tempfile.TemporaryDirectory() as nothing:
        return estimate(make_plan(spec, Folder(nothing)))
