"""A field that nobody reads is a promise that nobody keeps."""

import re
from pathlib import Path

import pytest

from runner.spec import schema
from runner.spec.describe import field_table

RUNNER = Path(__file__).resolve().parents[2] / "runner"
# Read by the spec language itself.
OWN = {"version", "split", "revision"}


def leaves(node, name=""):
    if "$ref" in node:
        target = schema()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    for key, child in node.get("properties", {}).items():
        yield key
        yield from leaves(child, key)
    for many in ("items", "additionalProperties"):
        if isinstance(node.get(many), dict):
            yield from leaves(node[many], name)


@pytest.mark.parametrize("field", sorted(set(leaves(schema())) - OWN))
def test_every_field_is_read(field):
    sources = (path for path in RUNNER.rglob("*.py") if "spec" not in path.relative_to(RUNNER).parts)
    use = re.compile(rf"\.{field}\b|\[\"{field}\"\]|\"{field}\"[,)]")
    assert any(use.search(path.read_text(encoding="utf-8")) for path in sources)


def test_the_table_in_the_docs_is_the_schemas():
    page = (RUNNER.parent / "docs" / "spec.md").read_text(encoding="utf-8")
    assert field_table().strip() in page
