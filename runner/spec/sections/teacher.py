"""The model that labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from runner.spec.engine_options import known_options, ours, refused, wrong_value
from runner.spec.sections.shared import Found, catalog_knows
from runner.system.errors import did_you_mean

PLACEHOLDERS = ("text", "labels", "examples", "instructions")
"""What may stand in braces in a template of the user's own."""

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


Prompt = Literal["direct", "cot"]


@dataclass(frozen=True, kw_only=True)
class TeacherResources:
    """What each replica of the teacher runs on; ``replicas`` is (least, most)."""

    accelerator: str | None
    gpus: int
    cpus: int | None
    replicas: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a run may spend on labelling, with all its teachers and in all its commands."""

    usd: float | None
    hours: float | None


@dataclass(frozen=True, kw_only=True)
class Another:
    """A further teacher; None: as the first one."""

    model: str
    revision: str | None
    endpoint: str | None
    prompt: Prompt | None
    votes: int | None
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """The model that labels."""

    engine: Literal["vllm", "recorded", "noop"]
    model: str
    revision: str | None
    also: tuple[Another, ...]
    endpoint: str | None
    allow_external: bool
    concurrency: int
    columns: tuple[str, ...]
    reasons: tuple[str, ...]
    prompt: Prompt
    votes: int
    temperature: float
    top_k: int
    top_p: float
    max_tokens: int
    structured: bool
    early_stop: bool
    exhaustive: bool
    shortlist: int | None
    template: str | None
    calibration: Literal["content-free", "batch", "none"]
    batch_size: int
    truncate: bool
    start_minutes: float
    engine_options: dict[str, Any]
    budget: Budget
    max_failure_rate: float
    seed: int
    max_context: int
    resources: TeacherResources
    price_per_hour: float | None

    def with_overrides(self, other: Another) -> Teacher:
        """This teacher with the settings of ``other`` over its own."""
        prompt, votes = prompt_and_votes((self.prompt, self.votes), (other.prompt, other.votes))
        return replace(
            self,
            model=other.model,
            revision=other.revision,
            endpoint=other.endpoint,
            prompt=prompt,
            votes=votes,
            columns=other.columns,
            reasons=(),
        )


def prompt_and_votes(first: tuple[Prompt, int], other: tuple[Prompt | None, int | None]) -> tuple[Prompt, int]:
    """How a further teacher is asked: what it leaves out is as with the first; votes only with the same prompt."""
    prompt = other[0] or first[0]
    return prompt, other[1] or (first[1] if prompt == first[0] else 1)


def votes_make_sense(spec: dict[str, Any]) -> Found:
    teacher = spec["teacher"]
    votes, path = teacher["votes"], ("teacher", "votes")
    if votes % 2 == 0:
        yield path, "spec.votes-even", f"votes must be odd, so that two labels cannot tie, found {votes}"
    if votes == 1:
        return
    if teacher["engine"] == "recorded":
        if teacher["columns"] and votes != len(teacher["columns"]):
            yield (
                path,
                "spec.votes-differ",
                f"{votes} votes, but {len(teacher['columns'])} recorded columns: leave votes out",
            )
    elif teacher["prompt"] == "direct":
        yield path, "spec.votes-alike", "prompt: direct gives the same answer every time: use prompt: cot, or votes: 1"
    elif teacher["temperature"] == 0:
        yield (
            path,
            "spec.votes-alike",
            "at temperature 0 every vote is the same: raise the temperature, or use votes: 1",
        )


def engine_has_columns(spec: dict[str, Any]) -> Found:
    engine, columns = spec["teacher"]["engine"], spec["teacher"]["columns"]
    path = ("teacher", "columns")
    if engine == "recorded" and not columns:
        yield path, "spec.columns-missing", "engine: recorded needs at least one column that holds labels"
    if engine != "recorded" and columns:
        yield (
            path,
            "spec.columns-needless",
            f"engine: {engine} reads no columns: use engine: recorded, or leave them out",
        )


def reasons_go_with_columns(spec: dict[str, Any]) -> Found:
    reasons, columns = spec["teacher"]["reasons"], spec["teacher"]["columns"]
    if reasons and len(reasons) != len(columns):
        yield (
            ("teacher", "reasons"),
            "spec.reasons-differ",
            f"{len(reasons)} columns of reasons for {len(columns)} columns of votes: name one for each, or none",
        )


def options_exist(spec: dict[str, Any]) -> Found:
    options, path = spec["teacher"]["engine_options"], ("teacher", "engine_options")
    if not options or spec["teacher"]["engine"] == "noop":
        return
    known = known_options()
    for name in options:
        if name in ours:
            yield (*path, name), "spec.option-set-already", f"the runner sets {name} itself: {ours[name]}"
        elif name in refused:
            yield (*path, name), "spec.option-refused", f"this option is not taken: {refused[name]}"
        elif known and name not in known:
            yield (
                (*path, name),
                "spec.option-unknown",
                f"vLLM has no option {name!r}{did_you_mean(name, sorted(known))}",
            )


def options_are_possible(spec: dict[str, Any]) -> Found:
    """The values that this program computes with, whichever engine they are for: a wrong one never gets further."""
    options, path = spec["teacher"]["engine_options"], ("teacher", "engine_options")
    if not options:
        return
    for name, value in options.items():
        if message := wrong_value(name, value):
            yield (*path, name), "spec.option-value", message


def endpoint_stands_alone(spec: dict[str, Any]) -> Found:
    teacher = spec["teacher"]
    path = ("teacher", "endpoint")
    if teacher["endpoint"] is None:
        return
    if teacher["engine"] != "vllm":
        yield path, "spec.endpoint-needless", f"engine: {teacher['engine']} asks no server: leave one of the two out"
    if "@" in teacher["endpoint"]:
        yield (
            path,
            "spec.endpoint-has-password",
            "no user or password may stand in a spec: set TUTELAGE_ENDPOINT_TOKEN in the environment",
        )
    if teacher["engine_options"]:
        yield (
            ("teacher", "engine_options"),
            "spec.option-with-endpoint",
            "the server has its own options: leave these out",
        )
    if teacher["resources"]["gpus"]:
        yield (
            ("teacher", "resources", "gpus"),
            "spec.gpus-with-endpoint",
            "the server has the GPUs, the runner needs none: leave them out",
        )


def budget_has_a_price(spec: dict[str, Any]) -> Found:
    if spec["teacher"]["budget"]["usd"] is not None and not spec["teacher"]["price_per_hour"]:
        message = "a budget in USD needs teacher.price_per_hour, or nobody knows when it is spent: set it, or use hours"
        yield ("teacher", "budget", "usd"), "spec.budget-without-price", message


def answer_fits(spec: dict[str, Any]) -> Found:
    teacher = spec["teacher"]
    if teacher["prompt"] == "cot" and teacher["max_tokens"] >= teacher["max_context"]:
        yield (
            ("teacher", "max_tokens"),
            "spec.max-tokens-high",
            (
                f"an answer of {teacher['max_tokens']} tokens leaves no room for the prompt in max_context, "
                f"which is {teacher['max_context']}"
            ),
        )


def others_make_sense(spec: dict[str, Any]) -> Found:
    """Each further teacher by the rules of a teacher."""
    first = spec["teacher"]
    for index, other in enumerate(first["also"]):
        prompt, votes = prompt_and_votes((first["prompt"], first["votes"]), (other["prompt"], other["votes"]))
        teacher = {**first, **other, "prompt": prompt, "votes": votes}
        for rule in (votes_make_sense, engine_has_columns, endpoint_stands_alone, catalog_knows("teacher")):
            for path, code, message in rule({**spec, "teacher": teacher}):
                yield ("teacher", "also", index, path[-1]), code, message


def replicas_grow(spec: dict[str, Any]) -> Found:
    least, most = spec["teacher"]["resources"]["replicas"]
    if most < least:
        yield (
            ("teacher", "resources", "replicas"),
            "spec.replicas-shrink",
            f"the most ({most}) is less than the least ({least})",
        )
