"""The data card: the train texts with the teacher's labels, how those came about, and what was left out."""

from __future__ import annotations

from typing import Any

from runner.publish.cards import teacher
from runner.publish.cards.markdown import card
from runner.publish.cards.model import hub_data
from runner.report.gather import Run
from runner.report.measured import measured, measured_on
from runner.report.removed import removed
from runner.report.text import flat, interval
from runner.tasks.kinds import kind_of

FILE = "data/train.parquet"

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def data_card(run: Run, report: dict[str, Any]) -> str:
    """The card as Markdown. Only the train texts that the teacher gave a label belong to the data set."""
    showing = kind_of(report["spec"]).showing
    values = {
        "report": report,
        "label": report["label"],
        "rows": _rows(run),
        "abstained": run.given.get(None, 0),
        **showing.data_card(report, run.given),
        "measured": measured(report),
        "measured_on": measured_on(report),
        "corrected": (report.get("review") or {}).get("corrected", 0),
        "recorded": teacher.all_recorded(run),
        "scores": report["evaluate"],
        "interval": interval,
        "teachers": teacher.teachers(run),
        "prompts": teacher.prompts(run),
        "chosen_examples": teacher.chosen_examples(run),
        "agreement": teacher.agreement(run),
        "removed": removed(report),
        "hub_data": hub_data(run),
        "file": FILE,
    }
    return card(_front_matter(run, report), showing.DATA_CARD, values)


def _rows(run: Run) -> int:
    return sum(count for label, count in run.given.items() if label is not None)


def _front_matter(run: Run, report: dict[str, Any]) -> Any:
    from huggingface_hub import DatasetCardData

    source, rows = hub_data(run), _rows(run)
    return DatasetCardData(
        license="unknown",
        annotations_creators=[
            "found" if teacher.all_recorded(run) else "machine-generated",
            *(["expert-generated"] if (report.get("review") or {}).get("corrected") else []),
        ],
        task_categories=[kind_of(report["spec"]).showing.PIPELINE_TAG],
        size_categories=[next((name for most, name in _SIZES if rows < most), "1M<n<10M")],
        source_datasets=[flat(f"extended|{source}")] if source else None,
        pretty_name=flat(str(report["name"])),
        tags=["tutelage"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": FILE}]}],
    )
