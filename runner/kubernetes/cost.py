"""What an hour costs at most, and what the plan expects, as lines for people who look at the job in the cluster."""

from __future__ import annotations

import math
import tempfile

from runner.kubernetes.lifetime import HOUR_SECONDS, kept_seconds, worst_seconds
from runner.kubernetes.options import Wish
from runner.planning.plan import estimate, hourly_usd, make_plan
from runner.rundir.folder import Folder
from runner.spec import Spec, check_files


def cost_line(spec: Spec, wish: Wish) -> str:
    """USD with all pods up: an hour, one attempt, and the worst case. The prices are the spec's own."""
    teacher, student, further = hourly_usd(spec, fixed=wish.queue is not None)
    known = {"teacher": teacher, "student": student, "benchmark.hardware": further or None}
    parts = [f"{name} {usd:.2f}" for name, usd in known.items() if usd is not None]
    unknown = ["student unknown: benchmark.price_per_hour is not set"] if student is None else []
    if teacher is None and spec.teacher.engine == "vllm":
        unknown.append("teacher unknown: teacher.price_per_hour is not set")
    if not parts:
        return "; ".join(["cost unknown", *unknown])
    total = sum(usd or 0 for usd in known.values())
    besides = " besides what is unknown" if unknown else ""
    most = f"at most USD {_cents(total)} an hour{besides} ({', '.join(parts + unknown)}; the head is not counted)"
    attempt = f"USD {_cents(total * wish.hours)} for an attempt that reaches its deadline of {wish.hours} h"
    worst = _cents(total * worst_seconds(wish) / HOUR_SECONDS)
    after = f", {kept_seconds(wish) // 60} minutes after the end included" if kept_seconds(wish) else ""
    return f"{most}; {attempt}; USD {worst} if all attempts do, {wish.retries + 1} of them{after}"


def _cents(usd: float) -> str:
    """Rounded up: nothing costs more than what stands here."""
    return f"{math.ceil(round(usd * 100, 6)) / 100:.2f}"


def plan_line(spec: Spec) -> str:
    """What the plan expects of a run that finds nothing there yet. The data are read here.

    :raises TutelageError: when they are not on this machine, or not as they should be.
    """
    check_files(spec)
    with tempfile.TemporaryDirectory() as nothing:
        return estimate(make_plan(spec, Folder(nothing)))
