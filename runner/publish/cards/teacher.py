"""Who labelled, and how: what both cards say of the teachers, from what the label stage noted and from the spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner import models
from runner.report.gather import Run
from runner.spec.model import Prompt, prompt_and_votes
from runner.tasks.kinds import kind_of
from runner.teacher import prompt

UNKNOWN = "not known"

TEXT = "[the text]"
"""Stands in a prompt for the text that is to be labelled."""


@dataclass(frozen=True)
class Teacher:
    """One teacher: its name in the spec, what is known of the model, and how it was asked.

    ``sampled``: each text may have several votes.
    """

    name: str
    source: str
    licence: str
    asked: str
    prompt: str | None
    sampled: bool


def teachers(run: Run) -> list[Teacher]:
    """All teachers of the run, in their order in the spec."""
    summary, spec = run.summaries["label"], run.info["spec"].get("teacher") or {}
    others = spec.get("also") or []
    listed = []
    for number, answered in enumerate(summary.get("teachers") or [summary]):
        own = others[number - 1] if 0 < number <= len(others) else {}
        first: tuple[Prompt, int] = (spec.get("prompt") or "direct", spec.get("votes") or 1)
        kind, votes = prompt_and_votes(first, (own.get("prompt"), own.get("votes"))) if number else first
        server = bool(own.get("endpoint") if number else spec.get("endpoint"))
        listed.append(_teacher(run, answered, kind, votes, server))
    return listed


def _teacher(run: Run, summary: dict[str, Any], kind: str, votes: int, server: bool) -> Teacher:
    recorded, showing = summary.get("engine") == "recorded", kind_of(run.info["spec"]).showing
    replayed = recorded or summary.get("engine") == "noop"
    # A recorded teacher is who the spec says it is: the licence is that of the model of this name.
    known = models.origin(f"hub:{summary.get('model')}@main") if recorded else origin_of(summary)
    return Teacher(
        name=str(summary.get("model") or summary.get("engine") or UNKNOWN),
        source=_source(known, summary, server),
        licence=summary.get("licence") or known.licence or UNKNOWN,
        asked="not in this run: its recorded votes were read" if recorded else showing.asked(kind, votes),
        prompt=None if replayed else conversation(run, kind),
        sampled=replayed or kind == "cot",
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


def all_recorded(run: Run) -> bool:
    """Whether every answer was recorded before: by whom or what, nobody can tell but the spec."""
    summary = run.summaries["label"]
    return all(answered.get("engine") == "recorded" for answered in summary.get("teachers") or [summary])


def prompts(run: Run) -> list[str]:
    """The prompts that teachers were asked with, each once; none where all answers were recorded."""
    return list(dict.fromkeys(teacher.prompt for teacher in teachers(run) if teacher.prompt is not None))


def conversation(run: Run, kind: str) -> str:
    """The prompt as it was filled in, turn by turn, with :data:`TEXT` for the text."""
    task, teacher = run.info["spec"]["task"], run.info["spec"].get("teacher") or {}
    examples = task.get("examples") or []
    shown = (
        ()
        if isinstance(examples, dict)
        else tuple(
            prompt.Example(example["text"], example["label"], example.get("reason") or "") for example in examples
        )
    )
    answers = kind_of(run.info["spec"]).asking.answer_format(task)
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
    return kind_of(run.info["spec"]).showing.agreement(
        run.summaries["vote"], sampled=any(teacher.sampled for teacher in teachers(run))
    )
