"""What one field demands of another. Each rule names the fields that it reads, and is skipped while one
of them is broken by itself, so that a rule never meets a value of the wrong type. No rule reads a file.
"""

from __future__ import annotations

from typing import Any

from runner.spec.positions import Places
from runner.spec.sections import apply, asking, benchmark, data, evaluate, shared, student, task, teacher
from runner.spec.sections.shared import Rule
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import Problem
from runner.tasks.rules import RULES as RULES_OF_KINDS


def check(spec: dict[str, Any], places: Places, broken: set[KeyPath]) -> list[Problem]:
    """The problems between fields of ``spec``, which has its defaults; ``broken`` paths are not read."""
    problems = []
    for rule, reads in RULES:
        if not any(_touches(path, bad) for path in reads for bad in broken):
            problems += [places.problem(path, code, message) for path, code, message in rule(spec)]
    return problems


def _touches(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _fields(part: str, *names: str) -> tuple[KeyPath, ...]:
    return tuple((part, *name.split(".")) for name in names)


_ANSWERS = _fields("task", "type", *dict.fromkeys(field for kind in RULES_OF_KINDS.values() for field in kind.FIELDS))
"""What says which answers there are."""

_RESOURCES = ("resources.accelerator", "resources.gpus")

# Each rule with the fields that it reads.
RULES: tuple[tuple[Rule, tuple[KeyPath, ...]], ...] = (
    (task.answers_are_clear, _ANSWERS),
    (task.out_of_scope_is_a_label, (*_ANSWERS, *_fields("task", "out_of_scope"))),
    (task.examples_fit, (*_ANSWERS, *_fields("task", "examples"))),
    (
        task.pool_is_clear,
        (*_fields("task", "examples"), *_fields("data", "train.path", "test.path"), *_fields("teacher", "template")),
    ),
    (data.paths_are_clear("train"), _fields("data", "train")),
    (data.paths_are_clear("test"), _fields("data", "test")),
    (data.paths_are_clear("corpus"), _fields("data", "corpus")),
    (student.runtime_is_exported, _fields("student", "export", "runtime", "resources.gpus")),
    (apply.kept_columns_are_apart, (*_ANSWERS, *_fields("apply", "keep"))),
    (data.label_columns_fit, (*_ANSWERS, *_fields("data", "test.label"))),
    (data.test_is_apart, _fields("data", "train", "test")),
    (evaluate.others_have_a_test, (*_fields("evaluate", "compare"), *_fields("data", "test"))),
    (evaluate.others_are_clear, _fields("evaluate", "compare")),
    (evaluate.published_stands_beside_something, _fields("evaluate", "compare", "published")),
    (teacher.votes_make_sense, _fields("teacher", "votes", "engine", "columns", "prompt", "temperature")),
    (teacher.engine_has_columns, _fields("teacher", "engine", "columns")),
    (teacher.reasons_go_with_columns, _fields("teacher", "columns", "reasons")),
    (asking.template_is_whole, _fields("teacher", "template")),
    (teacher.options_exist, _fields("teacher", "engine", "engine_options")),
    (teacher.options_are_possible, _fields("teacher", "engine_options")),
    (
        teacher.endpoint_stands_alone,
        _fields("teacher", "endpoint", "engine", "engine_options", "resources.gpus"),
    ),
    (teacher.budget_has_a_price, _fields("teacher", "budget", "price_per_hour")),
    (
        teacher.others_make_sense,
        _fields("teacher", "also", "engine", "prompt", "votes", "temperature", "engine_options"),
    ),
    (asking.exhaustive_has_branches, _fields("teacher", "exhaustive", "prompt")),
    (asking.shortlist_makes_sense, (*_ANSWERS, *_fields("teacher", "shortlist", "engine", "template"))),
    (asking.structured_has_a_form, _fields("teacher", "structured", "prompt", "max_tokens")),
    (teacher.answer_fits, _fields("teacher", "prompt", "max_tokens", "max_context")),
    (teacher.replicas_grow, _fields("teacher", "resources.replicas")),
    (shared.accelerator_has_gpus("teacher"), _fields("teacher", *_RESOURCES)),
    (shared.accelerator_has_gpus("student"), _fields("student", *_RESOURCES)),
    (student.batches_can_be_shared, _fields("student", "batch_size", "accumulate", "resources.workers")),
    (shared.catalog_knows("teacher"), _fields("teacher", "model", "revision")),
    (shared.catalog_knows("student"), _fields("student", "model", "revision")),
    (benchmark.carbon_is_one, _fields("benchmark", "carbon")),
    (benchmark.hardware_makes_sense, _fields("benchmark", "hardware")),
    (benchmark.prices_are_a_file, _fields("benchmark", "prices")),
)
