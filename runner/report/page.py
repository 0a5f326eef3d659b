"""``report.html``: one page that needs nothing but itself.

Whatever comes from data passes three gates: control characters are made visible, HTML is escaped, and the
text stands in a ``<bdi>`` so that its direction of writing ends where it ends. The page's own policy forbids
scripts and every request.
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape

from runner.report import economics, plots, review, speed, text
from runner.report.comparisons import others, published
from runner.report.gather import Run
from runner.report.limits import limits
from runner.report.measured import agreement, measured, measured_on
from runner.report.removed import removed
from runner.report.result_table import Line, lines, models
from runner.report.templates import environment
from runner.report.training import training
from runner.report.verdict import verdict
from runner.system.sanitize import clean
from runner.tasks.kinds import kind_of

LONGEST_SPEC = 200_000


def render(report: dict[str, Any], run: Run) -> str:
    """The page as text."""
    filters = {
        "foreign": _foreign,
        "device": speed.device,
        "percent": text.percent,
        "number": text.number,
        "money": text.money,
        "seconds": text.seconds,
        "moment": text.moment,
    }
    made = environment("runner.report", _finalize, filters)
    return made.get_template(kind_of(report["spec"]).showing.PAGE).render(_values(report, run))


def _values(report: dict[str, Any], run: Run) -> dict[str, Any]:
    teacher, student = models(report)
    return {
        **_costs(report),
        **(_quality(report) if measured(report) else {"agreement": agreement(report)}),
        "measured": measured(report),
        "measured_on": measured_on(report),
        "primary": kind_of(report["spec"]).showing.FIGURES[0],
        "voted": _voted(report["spec"].get("teacher") or {}),
        "busy": speed.busy(report["benchmark"]["student"]),
        "report": report,
        "scores": report["evaluate"],
        "label": report["label"],
        "train": report["train"],
        "speed": report["benchmark"]["student"],
        "price": report["benchmark"]["teacher"],
        "elsewhere": economics.machines(report),
        # A line never ends between a figure and its unit.
        "verdict": re.sub(r"(?<=\d) (?=%|USD)", "\u00a0", verdict(report)),
        "interval": text.interval,
        "written": text.written,
        "lines": lines(report),
        "others": others(report),
        "published": published(report),
        "published_sources": text.sources_of(report.get("published") or []),
        "teacher": teacher,
        "student": student,
        "limits": limits(report),
        "training": training(report["train"]),
        "reviewed": review.sentences(report),
        "reviewers": review.reviewers(report),
        "pairs": review.pairs(report),
        "before_and_after": review.before_and_after(report),
        "plots": {name: Markup(svg) for name, svg in plots.all_plots(report).items()},
        "doubtful": run.doubtful,
        "mistaken": run.mistaken,
        "longest": run.summaries["label"].get("longest") or [],
        "removed": removed(report),
        "facts": _facts(report),
        "spec_text": text.cut(run.info.get("spec_text") or "", LONGEST_SPEC),
        "nothing": text.NOTHING,
    }


def _quality(report: dict[str, Any]) -> dict[str, Any]:
    """What is shown where somebody has labelled texts."""
    showing, scores = kind_of(report["spec"]).showing, report["evaluate"]
    words, note, *wins = showing.pair(scores)
    return {
        **showing.page(report),
        "primary_written": text.written(showing.FIGURES[0], scores["student"]),
        "paired": Line(words, wins[0], wins[1], Markup(note)),
    }


def _voted(teacher: dict[str, Any]) -> bool:
    """Whether a text has several votes, that can agree or not."""
    sampled = teacher.get("prompt") == "cot" and (teacher.get("votes") or 1) > 1
    return bool(sampled or teacher.get("also") or len(teacher.get("columns") or []) > 1)


def _costs(report: dict[str, Any]) -> dict[str, Any]:
    """What the page says of money: without a price for either machine, only what others ask for theirs."""
    costs, bench = economics.lines(report), report["benchmark"]
    return {
        "priced": any(bench[who].get("usd_per_million") is not None for who in ("student", "teacher")),
        "costs": costs,
        "one_off": economics.parts(report),
        "sources": economics.sources(report),
        "measured_energy": any(line.kwh != text.NOTHING for line in costs),
        "measured_co2": any(line.co2 != text.NOTHING for line in costs),
        "breaks_even": any(line.pays not in ("", economics.NOT_KNOWN) for line in costs),
    }


def _finalize(value: object) -> object:
    """The first gate, for every value that the template puts out. Markup is ours and has passed it."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _foreign(value: object, longest: int = text.LONGEST) -> Markup:
    """Text from data: cut, cleaned, escaped, and kept in its own direction of writing."""
    return Markup("<bdi>{}</bdi>").format(escape(clean(text.cut(str(value), longest))))


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Versions and hardware as (name, value)."""
    hardware = report["hardware"]
    gpus = hardware.get("gpus") or []
    facts = [
        ("processor", str(hardware.get("cpu") or text.NOTHING)),
        ("cores", str(hardware.get("cores") or text.NOTHING)),
        ("memory", f"{text.number(hardware.get('memory_gib'))} GiB"),
        ("GPUs", ", ".join(_gpu(gpu) for gpu in gpus) or "none"),
        ("tutelage", str(report.get("runner") or text.NOTHING)),
    ]
    return facts + [(str(name), str(version)) for name, version in report["versions"].items() if version]


def _gpu(gpu: object) -> str:
    return str(gpu.get("name", gpu)) if isinstance(gpu, dict) else str(gpu)
