"""The one table of the kinds of tasks, by ``task.type`` of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from runner.spec import Spec
from runner.tasks.multi_label import kind as multi_label
from runner.tasks.protocol import TaskKind
from runner.tasks.single_label import kind as single_label

DEFAULT_KIND = single_label.NAME
"""Of a spec that names none."""

TASKS: dict[str, TaskKind] = {kind.NAME: kind for kind in (cast(TaskKind, single_label), cast(TaskKind, multi_label))}


def task_of(spec: Spec) -> TaskKind:
    """The kind of the spec's task."""
    return TASKS[spec.task.type]


def kind_of_model(config: Mapping[str, Any]) -> str:
    """The name of the kind whose student a model folder holds, by its ``config.json``; the first where none says so."""
    return next((name for name, kind in TASKS.items() if kind.predictions.answers_of(config)), DEFAULT_KIND)


def kind_of(spec: Mapping[str, Any]) -> TaskKind:
    """The kind of task of a spec as ``run.json`` has it; that of earlier versions names none."""
    return TASKS[(spec.get("task") or {}).get("type") or single_label.NAME]
