"""A spec that is wrong, made whole with stand-ins, so that the files that it names rightly can be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from copy import deepcopy
from typing import Any

from runner.spec.fields import fill, schema
from runner.spec.strict_yaml import KeyPath

_REQUIRED: dict[str, Any] = {
    "version": 1,
    "name": "x",
    "task": {"labels": ["a", "b"]},
    "data": {"train": {"path": "x.csv"}, "test": {"path": "x.csv", "label": "label"}},
    "teacher": {"model": "x"},
}
"""For fields that have no default."""


class _Lost(Exception):
    """Nothing can stand in for a field but in what holds it."""


def whole(complete: dict[str, Any], broken: Set[KeyPath]) -> tuple[dict[str, Any], set[KeyPath]]:
    """A copy of ``complete`` without its ``broken`` values, which builds; and the fields with stand-ins."""
    replaced: set[KeyPath] = set()
    mended: dict[str, Any] = _mended(complete, schema(), (), _REQUIRED, broken, replaced)
    return mended, replaced


def _mended(
    value: Any, node: Mapping[str, Any], path: KeyPath, required: Any, broken: Set[KeyPath], replaced: set[KeyPath]
) -> Any:
    below = [bad for bad in broken if bad[: len(path)] == path]
    if not below:
        return value
    if path in broken or not isinstance(value, dict):
        return _stand_in(node, path, required, replaced)
    if "properties" not in node:  # by names of the user's: without those that are wrong
        return {name: one for name, one in value.items() if all(bad[len(path)] != name for bad in below)}
    found = {}
    for name, child in node["properties"].items():
        given = required.get(name) if isinstance(required, dict) else None
        try:
            if name in value:
                found[name] = _mended(value[name], child, (*path, name), given, broken, replaced)
            else:
                found[name] = _stand_in(child, (*path, name), given, replaced)
        except _Lost:
            return _stand_in(node, path, required, replaced)
    return found


def _stand_in(node: Mapping[str, Any], path: KeyPath, required: Any, replaced: set[KeyPath]) -> Any:
    if "default" not in node and required is None:
        raise _Lost
    value = fill(deepcopy(node.get("default", required)), node)
    replaced |= set(_below(value, path))
    return value


def _below(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """A field, and all fields in it."""
    yield path
    for name, child in value.items() if isinstance(value, dict) else ():
        yield from _below(child, (*path, name))
