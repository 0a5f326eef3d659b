"""The model card: what the student decides, where it comes from, how good it is, and what it is not for."""

from __future__ import annotations

import re
from typing import Any

from runner.publish.cards import teacher
from runner.publish.cards.markdown import block, card
from runner.report.gather import Run
from runner.report.limits import limits, original
from runner.report.measured import measured, measured_on
from runner.report.removed import removed
from runner.report.result_table import lines
from runner.report.text import flat, interval
from runner.report.verdict import verdict
from runner.tasks.kinds import kind_of

# The licences that the Hub knows by these names; any other is `other`, with its own name beside it.
HUB_LICENCES = frozenset(
    [
        *(
            "apache-2.0",
            "mit",
            "bsd-2-clause",
            "bsd-3-clause",
            "isc",
            "unlicense",
            "openrail",
            "gemma",
            "llama2",
            "llama3",
        ),
        *("mpl-2.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    ]
)


def model_card(run: Run, report: dict[str, Any], load_from: str, where: str | None) -> str:
    """The card as Markdown.

    ``load_from`` is what ``transformers`` is to load: a name on the Hub, or a folder; that is seen from ``where``.
    """
    licence, showing = base_licence(run), kind_of(report["spec"]).showing
    values = {
        "report": report,
        "scores": report["evaluate"],
        **showing.model_card(report),
        "measured": measured(report),
        "measured_on": measured_on(report),
        "corrected": (report.get("review") or {}).get("corrected", 0),
        "train": report["train"],
        "label": report["label"],
        "instructions": run.info["spec"]["task"].get("instructions") or "",
        "load": block(showing.loading(load_from), "python"),
        "where": where,
        "recorded": teacher.all_recorded(run),
        "max_length": (run.info["spec"].get("student") or {}).get("max_length"),
        "base": base_model(run),
        "licence": licence or teacher.UNKNOWN,
        "verdict": verdict(report),
        "lines": lines(report),
        "interval": interval,
        "teachers": teacher.teachers(run),
        "prompts": teacher.prompts(run),
        "chosen_examples": teacher.chosen_examples(run),
        "agreement": teacher.agreement(run),
        "hub_data": hub_data(run),
        "removed": removed(report),
        "limits": limits(report),
        "runtime": (report.get("export") or {}).get("runtime") if original(report) else None,
        "unknown": teacher.UNKNOWN,
    }
    return card(_front_matter(run, report, licence), showing.MODEL_CARD, values)


def base_model(run: Run) -> str | None:
    """The student's base model on the Hub, or None where it comes from nowhere that is known."""
    return teacher.origin_of(run.summaries["train"]).hub


def base_licence(run: Run) -> str | None:
    """The licence of the student's base model."""
    summary = run.summaries["train"]
    licence = summary.get("licence") or teacher.origin_of(summary).licence
    return str(licence) if licence else None


def hub_data(run: Run) -> str | None:
    """The Hub's data set that the train texts come from, if they do."""
    source = (run.info["spec"].get("data") or {}).get("train") or {}
    return str(source["path"]) if source.get("format") == "hub" else None


def _front_matter(run: Run, report: dict[str, Any], licence: str | None) -> Any:
    from huggingface_hub import ModelCardData

    # On one line each: YAML reads some exotic line ends otherwise than it writes them.
    name = flat(str(report["name"]))
    showing = kind_of(report["spec"]).showing
    base, data = (known and flat(known) for known in (base_model(run), hub_data(run)))
    return ModelCardData(
        **_licence(licence),
        library_name="transformers",
        pipeline_tag=showing.PIPELINE_TAG,
        base_model=base,
        base_model_relation="finetune" if base else None,
        datasets=[data] if data else None,
        metrics=[metric for _, metric, _, _ in showing.HUB_RESULTS] if measured(report) else None,
        tags=["tutelage", "distillation"],
        model_name=name,
        eval_results=_results(report, name) if measured(report) else None,
    )


def _licence(licence: str | None) -> dict[str, str]:
    """As the Hub wants it: one of its own names, or `other` with another."""
    if licence is None:
        return {"license": "other", "license_name": "not-known"}
    known = licence.lower()
    if known in HUB_LICENCES:
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", known).strip("-") or "not-known"}


def _results(report: dict[str, Any], name: str) -> list[Any]:
    """The student's figures on the experts' rows, for the Hub's result table."""
    from huggingface_hub import EvalResult

    # What the card's files give; of an export's figures only the primary one was measured for them as well.
    student = original(report) or report["evaluate"]["student"]
    showing = kind_of(report["spec"]).showing
    return [
        EvalResult(
            task_type=showing.PIPELINE_TAG,
            task_name=showing.TASK_NAME,
            dataset_type=name,
            dataset_name=f"{name}, test texts labelled by experts",
            dataset_split="test",
            metric_type=kind,
            metric_name=shown,
            metric_value=round(student[figure], 4),
            metric_args=arguments,
        )
        for figure, kind, shown, arguments in showing.HUB_RESULTS
        if student.get(figure) is not None
    ]
