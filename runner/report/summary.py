"""``report.json``, the contract with machines: within a version fields are added, and none changes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runner.report.gather import Run
from runner.report.text import plain
from runner.spec.model import FIGURES, SCORES
from runner.tasks.kinds import kind_of
from runner.tasks.protocol import TaskKind

VERSION = 1

WARNING_STAGES = ("load", "label", "vote", "audit", "correct", "train", "export", "evaluate", "apply")
"""Those whose warnings the report shows, in its order."""


def summarise(run: Run) -> dict[str, Any]:
    """The report as JSON-able values: counts in rows, times in seconds, shares from 0 to 1, money in USD."""
    info, summaries, task = run.info, run.summaries, kind_of(run.info["spec"])
    stages = [{key: stage.get(key) for key in ("name", "fingerprint", "seconds", "cached")} for stage in info["stages"]]
    report: dict[str, Any] = plain(
        {
            "version": VERSION,
            "run": f"{info['name']}-{stages[-1]['fingerprint'][:8]}",
            "name": info["name"],
            "runner": info.get("runner"),
            "started": info.get("started"),
            "finished": info.get("finished"),
            "rows": _rows(summaries["load"]),
            "label": _label(summaries["label"], summaries["vote"], task),
            "review": _review(run),
            "train": summaries["train"],
            "evaluate": run.evaluation | task.showing.summary(run.evaluation),
            "benchmark": _benchmark(run),
            "published": _published(run),
            "export": summaries.get("export"),
            "apply": summaries.get("apply"),
            "stages": stages,
            "warnings": [said for name in WARNING_STAGES for said in summaries.get(name, {}).get("warnings") or []],
            "versions": info.get("versions") or {},
            "hardware": info.get("hardware") or {},
            "spec": info["spec"],
        }
    )
    return report


def _rows(load: dict[str, Any]) -> dict[str, Any]:
    reasons = {split: dict(counts or {}) for split, counts in (load.get("dropped") or {}).items()}
    return {
        "train": load["train"],
        "test": load["test"],
        "dropped": sum(sum(counts.values()) for counts in reasons.values()),
        "dropped_by_reason": reasons,
        "read": load.get("read"),
    }


def _review(run: Run) -> dict[str, Any] | None:
    """What people decided, what the student learned of it, and what was measured before; None without a review."""
    applied = run.summaries.get("correct")
    if not (applied or run.review):
        return None
    task = kind_of(run.info["spec"])
    rows = run.evaluation["rows"]  # 0: nobody has labelled one yet, or all that were looked at are unclear
    before = run.before if run.before and rows and run.before["rows"] == rows else None
    systems = ("teacher", "student")
    scores = before and {who: {name: before[who][name] for name in task.scoring.SUMMARY} for who in systems}
    return (applied or {}) | {"decisions": run.review, "before": scores}


def _label(label: dict[str, Any], vote: dict[str, Any], task: TaskKind) -> dict[str, Any]:
    optional = ("seconds", "elapsed", "rows_per_second", "generated", "reused", "prompt_tokens", "output_tokens")
    return {
        "rows": label["rows"],
        "failures": label.get("failures", 0),
        "failures_by_reason": dict(Counter(label.get("failures_by_reason") or {}).most_common()),
        "abstained": vote.get("abstained", 0),
        "abstained_by_reason": dict(Counter(vote.get("abstained_by_reason") or {}).most_common()),
        **{name: label.get(name) for name in optional},
        "engine": label.get("engine"),
        "model": label.get("model"),
        "calibration": vote.get("calibration"),
        "mean_agreement": vote.get("mean_agreement"),
        **task.showing.labelled(vote),
        "teachers": vote.get("teachers"),
        "shortlist": label.get("shortlist"),
    }


def _benchmark(run: Run) -> dict[str, Any]:
    """The costs, with what the test says of quality: a student that is worse than its teacher breaks even never, and
    of one that nobody has measured it is not said."""
    costs = run.benchmark.get("economics")
    if not costs:
        return run.benchmark
    judged = kind_of(run.info["spec"]).showing.quality(run.evaluation) if run.evaluation["rows"] else None
    teacher, *apis = costs["rows"]
    teacher = teacher | {"student_is": judged}
    if judged in ("worse", None) and teacher["outcome"] == "pays":
        teacher |= {"outcome": judged or "unmeasured", "break_even_texts": None}
    rows = [teacher, *(row | {"student_is": None} for row in apis)]
    return run.benchmark | {"economics": costs | {"rows": rows}}


def _published(run: Run) -> list[dict[str, Any]]:
    """A line for each figure that others published, with ours beside it: null where there is none."""
    lines = []
    for name, figures in (run.info["spec"].get("evaluate", {}).get("published") or {}).items():
        beside = figures.get("beside") or (name if name in (run.evaluation.get("others") or {}) else None)
        here = _figures(run, beside)
        lines += [
            {"name": name, "figure": figure, "published": figures[figure], "here": here.get(figure), "beside": beside}
            | {"rows": here.get("rows") if figure in SCORES else None}
            | {"note": figures.get("note"), "source": figures.get("source")}
            for figure in FIGURES
            if figures.get(figure) is not None
        ]
    return lines


def _figures(run: Run, who: str | None) -> dict[str, Any]:
    """What was measured here of the teacher, the student or a recorded annotator."""
    if who is None:
        return {}
    scores = run.evaluation.get(who) if who in ("teacher", "student") else run.evaluation["others"][who]["annotator"]
    scores, speed = scores or {}, run.benchmark.get(who) or {}
    return {
        "rows": scores.get("rows"),
        **{name: scores.get(name) for name in SCORES},
        "texts_per_second": speed.get("texts_per_second", speed.get("rows_per_second")),
        "latency_ms": (speed.get("latency_ms") or {}).get("p50"),
    }
