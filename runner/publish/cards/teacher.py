"""Who labelled, and how: what both cards say of the teachers, from what the label stage noted and from the spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner import models
from runner.report.gather import Run
from runner.spec.model import Prompt, prompt_and_votes
from runner.tasks.kinds import TASKS
from runner.teacher import prompt

UNKNOWN = "not known"

TEXT = "[the text]"
"""Stands in a prompt for the text that is to be labelled."""


@dataclass(frozen=True)
class Teacher:
    """One teacher: its name in the spec, what is known of the model, and how it was asked."""

    name: str
    source: str
    licence: str
    asked: str
    prompt: str | None


def teachers(run: Run) -> list[Teacher]:
    """All teachers of the run, in their order in the spec."""
    summary, spec = run.summaries["label"], run.info["spec"].get("teacher") or {}
    others = spec.get("also") or []
    found = []
    for number, one in enumerate(summary.get("teachers") or [summary]):
        own = others[number - 1] if 0 < number <= len(others) else {}
        first: tuple[Prompt, int] = (spec.get("prompt") or "direct", spec.get("votes") or 1)
        kind, votes = prompt_and_votes(first, (own.get("prompt"), own.get("votes"))) if number else first
        server = bool(own.get("endpoint") if number else spec.get("endpoint"))
        found.append(_teacher(run, one, kind, votes, server))
    return found


def _teacher(run: Run, summary: dict[str, Any], kind: str, votes: int, server: bool) -> Teacher:
    recorded = summary.get("engine") == "recorded"
    # A recorded teacher is who the spec says it is: the licence is that of the model of this name.
    known = models.origin(f"hub:{summary.get('model')}@main") if recorded else origin_of(summary)
    return Teacher(
        name=str(summary.get("model") or summary.get("engine") or UNKNOWN),
        source=_source(known, summary, server),
        licence=summary.get("licence") or known.licence or UNKNOWN,
        asked=_asked(summary, kind, votes),
        prompt=None if recorded or summary.get("engine") == "noop" else conversation(run, kind),
    )


def origin_of(summary: dict[str, Any]) -> models.Origin:
    """Where the model of a stage's summary comes from; runs of older versions noted its name only."""
    return models.origin(summary.get("identity") or summary.get("model") or "")


def _source(known: models.Origin, summary: dict[str, Any], server: bool) -> str:
    if summary.get("engine") == "recorded":
        return "the name is what the spec says; its answers were recorded before this run"
    if server:
        return "asked on a server, by this name: which weights it served was not checked"
    if known.hub:
        where = f"{known.hub} on the Hugging Face Hub, "
        if known.pinned:
            return where + "pinned by the SHA-256 of the publisher's file"
        if not summary.get("identity"):
            return where + "by the catalog"
        return where + (f"revision {known.revision}" if known.revision else "its main branch at the time")
    if str(summary.get("identity") or "").startswith("folder:"):
        return "a local folder"
    return UNKNOWN


def _asked(summary: dict[str, Any], kind: str, votes: int) -> str:
    if summary.get("engine") == "recorded":
        return "not in this run: its recorded votes were read"
    if kind == "cot":
        return f"for its reasoning and then a label, up to {votes:,} times for each text"
    return "once for each text; the probability of every label was read off one token"


def all_recorded(run: Run) -> bool:
    """Whether every answer was recorded before: by whom or what, nobody can tell but the spec."""
    summary = run.summaries["label"]
    return all(one.get("engine") == "recorded" for one in summary.get("teachers") or [summary])


def prompts(run: Run) -> list[str]:
    """The prompts that teachers were asked with, each once; none where all answers were recorded."""
    return list(dict.fromkeys(one.prompt for one in teachers(run) if one.prompt is not None))


def conversation(run: Run, kind: str) -> str:
    """The prompt as it was filled in, turn by turn, with :data:`TEXT` for the text."""
    task, teacher = run.info["spec"]["task"], run.info["spec"].get("teacher") or {}
    examples = task.get("examples") or []
    shown = (
        ()
        if isinstance(examples, dict)
        else tuple(prompt.Example(one["text"], one["label"], one.get("reason") or "") for one in examples)
    )
    answers = TASKS[task.get("type", "single-label")].asking.answer_format(task)
    told = prompt.Task(answers, task.get("instructions") or "", shown, kind, teacher.get("template"))
    return "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in prompt.messages(told, TEXT))


def chosen_examples(run: Run) -> str | None:
    """How examples were chosen, where they are not written in the spec: their texts are data and are not shown."""
    pool = run.info["spec"]["task"].get("examples")
    if not isinstance(pool, dict):
        return None
    how = "the nearest to each text" if pool.get("select") == "similar" else "the same for all, spread over the labels"
    return f"{pool.get('k')} labelled examples were shown besides, chosen from a file: {how}."


def agreement(run: Run) -> list[str]:
    """How far votes and teachers agree, in sentences."""
    vote = run.summaries["vote"]
    said = []
    mean = vote.get("mean_agreement")
    sampled = any(one.prompt is None or "reasoning" in one.asked for one in teachers(run))
    if together := vote.get("teachers"):
        alpha = together.get("krippendorff_alpha")
        weights = ", ".join(
            f"{model} {weight:.2f}" for model, weight in zip(together["models"], together["weights"], strict=True)
        )
        said.append(f"{len(together['models'])} teachers were pooled ({together['method']}), with weights {weights}.")
        said.append(
            "Krippendorff's alpha between them is "
            + (UNKNOWN if alpha is None else f"{alpha:.2f} (1 is full agreement, 0 is chance)")
            + "."
        )
        if mean is not None:
            said.append(f"On average {100 * mean:.1f} % of the teachers that named a label gave the pooled one.")
    elif mean is not None and sampled:
        said.append(f"On average {100 * mean:.1f} % of a text's votes went to the label that won.")
    else:
        said.append("The teacher was asked once for each text: there are no votes to agree.")
    if vote.get("calibration") not in (None, "none"):
        said.append(f"A part of the teacher's bias was divided out of its probabilities ({vote['calibration']}).")
    return said
