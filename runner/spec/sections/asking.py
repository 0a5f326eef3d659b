"""How the teacher is asked: the fields of ``teacher`` that go with one prompt or the other."""

from __future__ import annotations

from typing import Any

from runner.spec.sections.shared import Found
from runner.spec.sections.teacher import PLACEHOLDER, PLACEHOLDERS
from runner.system.errors import did_you_mean
from runner.tasks.rules import rules_of


def exhaustive_has_branches(spec: dict[str, Any]) -> Found:
    if spec["teacher"]["exhaustive"] and spec["teacher"]["prompt"] == "cot":
        yield (
            ("teacher", "exhaustive"),
            "spec.exhaustive-without-direct",
            "prompt: cot has the answer written, and asks about no tokens: leave it out, or use prompt: direct",
        )


def shortlist_makes_sense(spec: dict[str, Any]) -> Found:
    teacher, path = spec["teacher"], ("teacher", "shortlist")
    if teacher["shortlist"] is None:
        return
    if teacher["engine"] == "recorded":
        yield path, "spec.shortlist-without-prompt", "engine: recorded shows nobody a list: leave it out"
    elif wrong := rules_of(spec["task"]).shortlist(spec["task"], teacher["shortlist"]):
        yield path, "spec.shortlist-size", f"{wrong}: make it smaller, or leave it out"
    if teacher["template"] is not None and "{labels}" not in teacher["template"]:
        yield (
            path,
            "spec.shortlist-not-shown",
            "teacher.template has no {labels}, so that it would not be shown: put it in, or leave this out",
        )


def structured_has_a_form(spec: dict[str, Any]) -> Found:
    teacher, path = spec["teacher"], ("teacher", "structured")
    if not teacher["structured"]:
        return
    if teacher["prompt"] == "direct":
        yield (
            path,
            "spec.structured-without-text",
            "prompt: direct reads probabilities and no text: leave it out, or use prompt: cot",
        )
    if teacher["max_tokens"] < 40:
        yield (
            ("teacher", "max_tokens"),
            "spec.max-tokens-low",
            f"{teacher['max_tokens']} tokens hold no reason and label in JSON: at least 40",
        )


def template_is_whole(spec: dict[str, Any]) -> Found:
    template, path = spec["teacher"]["template"], ("teacher", "template")
    if template is None:
        return
    used = PLACEHOLDER.findall(template)
    if used.count("text") != 1:
        yield path, "spec.template-text", f"{{text}} must stand in it once, found {used.count('text')} times"
    for name in dict.fromkeys(used):
        if name not in PLACEHOLDERS:
            hint = did_you_mean(name, PLACEHOLDERS) or f" (it knows {', '.join(PLACEHOLDERS)})"
            yield path, "spec.placeholder-unknown", f"{{{name}}} is no placeholder{hint}"
