"""``--set student.epochs=3``: changes to a spec from the command line, as ``dotted.path=YAML value``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.spec import strict_yaml
from runner.spec.positions import Override, Places
from runner.spec.strict_yaml import KeyPath, dotted
from runner.system.errors import Problem, SpecError


def apply(data: dict[str, Any], overrides: Sequence[str], places: Places) -> list[Problem]:
    """Put each override into ``data``, in order, and tell ``places``; returns what is wrong with them."""
    problems: list[Problem] = []
    for text in overrides:
        label = f"--set {text if len(text) <= 120 else text[:117] + '...'}"
        try:
            _apply(data, text, label, places)
        except SpecError as error:
            problems += error.problems
    return problems


def _apply(data: dict[str, Any], text: str, label: str, places: Places) -> None:
    left, equals, right = text.partition("=")
    parts = [part.strip() for part in left.split(".")]
    if not equals or not all(parts):
        raise SpecError([Problem(label, 0, 0, "", "spec.set-form", "expected PATH=VALUE, such as student.epochs=3")])
    value = _value(right, label, ".".join(parts))
    target: Any = data
    path: KeyPath = ()
    made: set[KeyPath] = set()
    for part in parts[:-1]:
        key = _key(target, part, path, label)
        path = (*path, key)
        if isinstance(target, dict) and target.get(key) is None:
            target[key] = {}
            made.add(path)
        target = target[key]
    key = _key(target, parts[-1], path, label)
    target[key] = value
    places.overrides.append(Override(label, (*path, key), frozenset(made)))


def _value(text: str, label: str, path: str) -> Any:
    """The value, read as YAML by the same strict rules; its problems stand at the ``--set``."""
    try:
        document = strict_yaml.parse(text, label)
        problems = document.problems
    except SpecError as error:
        problems = error.problems
    if problems:
        raise SpecError([replace(problem, line=0, column=0, path=path) for problem in problems])
    return document.data


def _key(target: Any, part: str, path: KeyPath, label: str) -> str | int:
    """``part`` as a key of ``target``: a name, or the number of an item that is there."""
    if isinstance(target, dict):
        return part
    if isinstance(target, list):
        if part.isascii() and part.isdigit() and len(part) < 6 and int(part) < len(target):
            return int(part)
        code, message = "spec.no-such-item", f"there is no item {part!r} in a list of {len(target)} (they count from 0)"
    else:
        code, message = "spec.no-such-field", f"this is a single value and has no field {part!r}"
    raise SpecError([Problem(label, 0, 0, dotted(path), code, message)])
