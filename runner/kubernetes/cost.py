"""What an hour costs at most, and what the plan expects, as lines for people who look at the job in the cluster."""

from __future__ import annotations

import math
import tempfile

from runner.kubernetes.lifetime import HOUR_SECONDS, kept_seconds, worst_seconds
from runner.kubernetes.options import RenderOptions
from runner.planning.files import check_files
from runner.planning.plan import make_plan
from runner.planning.text import estimate_line
from runner.rundir.folder import Folder
from runner.spec import Spec


def cost_line(spec: Spec, options: RenderOptions) -> str:
    """USD with all pods up: an hour, one attempt, and the worst case. The prices are the spec's own."""
    teacher, student, further = _hourly_usd(spec, fixed=options.queue is not None)
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
    attempt = f"USD {_cents(total * options.hours)} for an attempt that reaches its deadline of {options.hours} h"
    worst = _cents(total * worst_seconds(options) / HOUR_SECONDS)
    after = f", {kept_seconds(options) // 60} minutes after the end included" if kept_seconds(options) else ""
    return f"{most}; {attempt}; USD {worst} if all attempts do, {options.retries + 1} of them{after}"


def _hourly_usd(spec: Spec, fixed: bool = False) -> tuple[float | None, float | None, float]:
    """USD an hour with all replicas of the teacher at work (the least of them in a cluster of ``fixed`` size), all of
    the student's workers (each None without a price), and all further machines of the benchmark."""
    teacher = spec.teacher
    price = teacher.price_per_hour if teacher.engine == "vllm" else None
    student, workers = spec.benchmark.price_per_hour, spec.student.resources.workers
    further = sum(machine.price_per_hour for machine in spec.benchmark.hardware)
    return price and price * teacher.resources.replicas[0 if fixed else 1], student and student * workers, further


def _cents(usd: float) -> str:
    """Rounded up: nothing costs more than what stands here."""
    return f"{math.ceil(round(usd * 100, 6)) / 100:.2f}"


def plan_line(spec: Spec) -> str:
    """What the plan expects of a run that finds nothing there yet. The data are read here.

    :raises TutelageError: when they are not on this machine, or not as they should be.
    """
    check_files(spec)
    with tempfile.TemporaryDirectory() as nothing:
        return estimate_line(make_plan(spec, Folder(nothing)))
