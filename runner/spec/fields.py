"""The schema as data: the one list of fields, their defaults and their words. Knows no YAML and no files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).with_name("schema.json")


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a spec, with what each ``$ref`` names in its place.

    One shared object: read it, never change it.
    """
    loaded: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    definitions = loaded.pop("$defs")
    resolved: dict[str, Any] = _resolved(loaded, definitions)
    return resolved


def _resolved(node: Any, definitions: Mapping[str, Any]) -> Any:
    """``node`` with its references resolved; what stands beside a ``$ref`` adds to the definition, or replaces its
    annotations."""
    if isinstance(node, list):
        return [_resolved(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    own = {name: _resolved(child, definitions) for name, child in node.items() if name != "$ref"}
    if "$ref" not in node:
        return own
    return _resolved(definitions[node["$ref"].removeprefix("#/$defs/")], definitions) | own


def types_of(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The JSON types that ``node`` allows; a list of choices without a type is text."""
    kind = node.get("type", "string")
    return (kind,) if isinstance(kind, str) else tuple(kind)


def walk(node: Mapping[str, Any] | None = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field with its path, in the order of the schema; ``*`` stands for a list's items, or any name."""
    for name, child in (schema() if node is None else node).get("properties", {}).items():
        yield (*path, name), child
        yield from walk(child, (*path, name))
        for many in ("items", "additionalProperties"):
            if isinstance(child.get(many), dict):
                yield from walk(child[many], (*path, name, "*"))


def fill(value: Any, node: Mapping[str, Any] | None = None) -> Any:
    """A copy of ``value`` with the schema's defaults put in and unknown keys left out.

    Whole numbers become ``int`` and other numbers ``float``, so that ``1e6`` and ``1000000`` are the
    same spec. Values of the wrong type are left as they are: naming them is the schema check's task.
    """
    node = schema() if node is None else node
    if isinstance(value, dict) and "properties" in node:
        full = {}
        for name, child in node["properties"].items():
            if name in value:
                full[name] = fill(value[name], child)
            elif "default" in child:
                full[name] = fill(deepcopy(child["default"]), child)
        return full
    if isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        return {name: fill(item, node["additionalProperties"]) for name, item in value.items()}
    if isinstance(value, list) and "items" in node:
        return [fill(item, node["items"]) for item in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer() and "integer" in types_of(node):
        return int(value)
    return float(value) if isinstance(value, int) and "number" in types_of(node) else value
