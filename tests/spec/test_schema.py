"""The schema is the only list of fields: valid by itself, mirrored by the dataclasses, explained in full."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from jsonschema import Draft202012Validator

from runner.data.file_kinds import stored_as
from runner.spec import Spec, schema
from runner.spec.explain import SAY
from runner.spec.fields import SCHEMA_FILE, fill, types_of, walk

SPECS = Path(__file__).parents[1] / "specs"
OUTSIDE = {"source", "base", "text", "places", "reviewed"}
MADE = {"descriptions", "label_file"}
"""Of a task: what its labels come to."""
JSON_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    NoneType: "null",
    tuple: "array",
    bool: "boolean",
    dict: "object",
}
ANNOTATIONS = {"title", "description", "examples", "default", "$schema", "x-expected", "x-missing"}


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("properties", {}).values():
        yield from nodes(child)
    for many in ("items", "propertyNames", "additionalProperties"):
        if isinstance(node.get(many), dict):
            yield from nodes(node[many])


def json_types(hint: Any) -> set[str]:
    if get_origin(hint) in (UnionType, Union):
        return set().union(*(json_types(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return {"string"}
    return {"object"} if dataclasses.is_dataclass(hint) else {JSON_TYPES[get_origin(hint) or hint]}


def compare(cls: Any, node: dict[str, Any], where: str) -> None:
    hints = {name: hint for name, hint in get_type_hints(cls).items() if name not in (OUTSIDE if cls is Spec else MADE)}
    # A field of the schema that is a word of Python's (from) has an underscore after it in the dataclass.
    assert {name.rstrip("_") for name in hints} == set(node["properties"]), where
    for name, hint in hints.items():
        child, path = node["properties"][name.rstrip("_")], f"{where}.{name}"
        assert json_types(hint) <= set(types_of(child)), path
        if get_origin(hint) is Literal:
            assert list(get_args(hint)) == child["enum"], path
        if get_origin(hint) is UnionType and any(map(dataclasses.is_dataclass, get_args(hint))):
            compare(next(kind for kind in get_args(hint) if dataclasses.is_dataclass(kind)), child, path)
        elif dataclasses.is_dataclass(hint):
            compare(hint, child, path)
        elif get_origin(hint) is dict and dataclasses.is_dataclass(get_args(hint)[1]):
            compare(get_args(hint)[1], child["additionalProperties"], path)
        elif get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0]):
            compare(get_args(hint)[0], child["items"], path)
        elif get_origin(hint) is tuple:
            items = set(types_of(child["items"]))
            assert json_types(get_args(hint)[0]) == items - ({"object"} if name == "labels" else set()), path


def test_the_schema_is_valid_and_closed() -> None:
    Draft202012Validator.check_schema(schema())
    for node in nodes(schema()):
        if node.get("type") == "object" and "properties" in node:
            assert node["additionalProperties"] is False
            assert set(node.get("required", [])) <= set(node["properties"])


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in the file, whatever it means."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects(child)


def test_the_file_says_nothing_twice() -> None:
    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    counts = Counter(json.dumps(node, sort_keys=True) for node in objects(written) if len(node) > 1)
    assert not [text for text, count in counts.items() if count > 1]
    patterns = [node["pattern"] for node in objects(written) if isinstance(node.get("pattern"), str)]
    assert len(patterns) == len(set(patterns))
    named = {node["$ref"].removeprefix("#/$defs/") for node in objects(written) if "$ref" in node}
    assert named == set(written["$defs"]), "each definition is used"


@pytest.mark.parametrize("path", [*sorted(SPECS.glob("good/*.yaml")), *sorted(SPECS.glob("bad/*.yaml"))], ids=str)
def test_editors_which_read_the_file_see_what_we_see(path: Path) -> None:
    """To them a reference holds and what stands beside it, too; for us the latter replaces: it may never widen."""
    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(written)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OverflowError):
        pytest.skip("no YAML")
    by_file, by_us = (
        {tuple(error.absolute_path) for error in Draft202012Validator(rules).iter_errors(data)}
        for rules in (written, schema())
    )
    assert by_file == by_us


@pytest.mark.slow("subprocess")
def test_check_jsonschema_takes_the_shipped_specs() -> None:
    """What many editors and hooks use."""
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--schemafile", str(SCHEMA_FILE)]
    shipped = sorted(str(path) for path in (SPECS.parents[1] / "specs").glob("*.yaml"))
    done = subprocess.run([*command, *shipped], capture_output=True, text=True, check=False)
    assert shipped and done.returncode == 0, done.stdout


def test_the_dataclasses_mirror_the_schema() -> None:
    compare(Spec, schema(), "spec")


def test_dataclasses_have_no_defaults_of_their_own() -> None:
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(Spec))


def test_every_field_is_described_and_either_required_or_has_a_default() -> None:
    for node in nodes(schema()):
        assert node["description"].endswith("."), node
        for name, child in node.get("properties", {}).items():
            assert (name in node.get("required", [])) != ("default" in child), name


def test_every_default_and_example_is_allowed_by_its_own_field() -> None:
    for path, node in walk():
        values = [*node.get("examples", []), *([node["default"]] if "default" in node else [])]
        for value in values:
            errors = list(Draft202012Validator(node).iter_errors(value))
            assert not errors, (path, value)


def test_every_keyword_of_the_schema_has_somebody_to_explain_it() -> None:
    used = set().union(*(set(node) for node in nodes(schema())))
    assert used - ANNOTATIONS - {"properties", "items", "propertyNames"} == set(SAY)


def test_what_is_explained_with_words_of_the_schema_has_them() -> None:
    for node in nodes(schema()):
        assert ("x-expected" in node) == ("pattern" in node or "const" in node), node


def test_filling_in_defaults_makes_copies() -> None:
    first = fill({})
    first["benchmark"]["batch_sizes"].append(7)
    assert fill({})["benchmark"]["batch_sizes"] == [1, 8, 32, 128]


@pytest.mark.parametrize(
    ("path", "chosen", "kind"),
    [
        ("a.csv", "auto", "csv"),
        ("s3://b/A.CSV.gz", "auto", "csv"),
        ("a/*.ndjson", "auto", "jsonl"),
        ("a.jsonl.gz", "auto", "jsonl"),
        ("a.parquet", "auto", "parquet"),
        ("a.parquet.gz", "auto", None),
        ("a.tsv", "auto", "tsv"),
        ("a.json", "auto", "json"),
        ("a.tsv.zst", "auto", "tsv"),
        ("a.XLSX", "auto", "xlsx"),
        ("a.xlsx.gz", "auto", None),
        ("a.txt", "auto", None),
        ("owner/name", "hub", "hub"),
        ("data.txt", "csv", "csv"),
    ],
)
def test_the_ending_tells_the_format(path: str, chosen: str, kind: str | None) -> None:
    assert stored_as(path, chosen) == kind
