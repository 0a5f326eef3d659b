"""The table of all fields, for the documentation: ``python -m runner.spec.describe``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from runner.spec.fields import types_of, walk

_WORDS = {"integer": "whole number", "string": "text", "array": "list", "object": "mapping"}


def field_table() -> str:
    """Markdown: a row for every field with its path, type, default and description, in the schema's order."""
    rows = ["| field | type | default | what it is |", "|---|---|---|---|"]
    for path, node in walk():
        default = f"`{json.dumps(node['default'])}`" if "default" in node else "**required**"
        cells = (f"`{'.'.join(path)}`", _type(node), default, node["description"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _type(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{'null' if choice is None else choice}`" for choice in node["enum"])
    if choices := node.get("items", {}).get("enum"):
        return "list of " + ", ".join(f"`{choice}`" for choice in choices)
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    return " or ".join(_WORDS.get(kind, kind) for kind in types_of(node)) + _range(node)


def _range(node: Mapping[str, Any]) -> str:
    """The allowed numbers, such as `` 1 to 25``."""
    least, most = node.get("minimum"), node.get("maximum")
    if "exclusiveMinimum" in node:
        return f", over {node['exclusiveMinimum']}" + ("" if most is None else f" to {most}")
    return "" if least is None else f", {least} to {most}"


if __name__ == "__main__":
    sys.stdout.write(field_table())
