"""The schema check, its findings said in plain words. Knows JSON Schema's keywords; knows no YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.spec.fields import schema, types_of
from runner.spec.positions import Places
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import Problem, did_you_mean

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a mapping (key: value)",
    "boolean": "true or false",
    "null": "null",
}


class Fault(NamedTuple):
    """``value`` at ``path`` breaks the ``keyword`` of the schema's ``node``, which wants ``wanted``."""

    path: KeyPath
    keyword: str
    wanted: Any
    value: Any
    node: Mapping[str, Any]


Said = Iterator[tuple[KeyPath, str, str]]
"""Where, the code and the message."""


def check(data: Any, places: Places, rules: Mapping[str, Any] | None = None) -> tuple[list[Problem], set[KeyPath]]:
    """Hold ``data`` against the schema (the spec's, or ``rules``): the problems, and the paths not to rely on."""
    faults = list(_faults(data, schema() if rules is None else rules))
    # A value of the wrong type breaks other rules too; one sentence about it is enough.
    mistyped = {fault.path for fault in faults if fault.keyword == "type"}
    problems: dict[Problem, None] = {}  # jsonschema reports each missing key, and _missing names them all
    broken: set[KeyPath] = set()
    for fault in faults:
        if fault.path in mistyped and fault.keyword != "type":
            continue
        for path, code, message in SAY[fault.keyword](fault):
            if fault.keyword == "additionalProperties":  # what is unknown is left out, and spoils nothing
                problems[places.problem(path, code, message, shown=fault.path, key=True)] = None
                continue
            if fault.keyword != "uniqueItems":  # every item is fine by itself
                broken.add(path)
            if fault.keyword == "required":
                problems[places.problem(fault.path, code, message, key=True)] = None
            else:
                problems[places.problem(path, code, message)] = None
    return list(problems), broken


def found(value: Any) -> str:
    """What came instead, short enough to print whatever it is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        short = value if len(value) <= 60 else value[:57] + "..."
        return f"the text {short!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "a mapping" if isinstance(value, dict) else f"the number {value}"


def _faults(data: Any, rules: Mapping[str, Any]) -> Iterator[Fault]:
    from jsonschema import Draft202012Validator, validators

    extend: Any = validators.extend
    for error in extend(Draft202012Validator, {"pattern": _whole_pattern})(rules).iter_errors(data):
        path = tuple(error.absolute_path)
        yield Fault(path, error.validator, error.validator_value, error.instance, error.schema)


def _whole_pattern(_: Any, pattern: str, instance: Any, node: Mapping[str, Any]) -> Iterator[ValidationError]:
    """JSON Schema's ``$`` is the very end of the text; Python's also stands before a last line end."""
    from jsonschema.exceptions import ValidationError

    wanted = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
    if isinstance(instance, str) and not re.search(wanted, instance):
        yield ValidationError("")


def _missing(fault: Fault) -> Said:
    for name in fault.wanted:
        if name not in fault.value:
            why = fault.node["properties"][name].get("x-missing", "")
            yield (*fault.path, name), "spec.missing-key", f"the key {name!r} is missing" + (f": {why}" if why else "")


def _unknown(fault: Fault) -> Said:
    known = fault.node["properties"]
    for name in fault.value:
        if name not in known:
            hint = did_you_mean(name, known) or f" (known here: {', '.join(known)})"
            yield (*fault.path, name), "spec.unknown-key", f"unknown key {name[:60]!r}{hint}"


def _type(fault: Fault) -> Said:
    value, types = fault.value, types_of(fault.node)
    hint = ""
    if "string" in types and isinstance(value, int | float):
        hint = ": put it in quotes"
    elif "string" in types and isinstance(value, dict):
        hint = ": put text that holds ': ' in quotes"
    elif "object" in types and value is None:
        hint = ": write the keys of this section below it, indented"
    elif types == ("array",) and isinstance(value, str):
        hint = ": write [one, two]"
    expected = " or ".join(_TYPES[kind] for kind in types)
    yield fault.path, "spec.wrong-type", f"expected {expected}, found {found(value)}{hint}"


def _choice(fault: Fault) -> Said:
    choices = [str(choice) for choice in fault.wanted]
    hint = did_you_mean(fault.value, choices) if isinstance(fault.value, str) else ""
    yield fault.path, "spec.not-a-choice", f"expected one of {', '.join(choices)}, found {found(fault.value)}{hint}"


def _const(fault: Fault) -> Said:
    yield fault.path, "spec.wrong-form", f"expected {fault.node['x-expected']}, found {found(fault.value)}"


def _pattern(fault: Fault) -> Said:
    yield fault.path, "spec.wrong-form", f"expected {fault.node['x-expected']}, found {found(fault.value)}"


def _bound(words: str) -> Callable[[Fault], Said]:
    def say(fault: Fault) -> Said:
        yield fault.path, "spec.out-of-range", f"must be {words} {fault.wanted}, found {found(fault.value)}"

    return say


def _count(words: str, unit: str) -> Callable[[Fault], Said]:
    def say(fault: Fault) -> Said:
        yield fault.path, "spec.wrong-size", f"must have {words} {fault.wanted} {unit}, found {len(fault.value)}"

    return say


def _repeated(fault: Fault) -> Said:
    seen: list[Any] = []
    for index, item in enumerate(fault.value):
        if item in seen:
            yield (*fault.path, index), "spec.item-repeated", f"{found(item)} is in the list twice"
        seen.append(item)


# Every keyword of schema.json that can fail, and who says so.
SAY: dict[str, Callable[[Fault], Said]] = {
    "required": _missing,
    "additionalProperties": _unknown,
    "type": _type,
    "enum": _choice,
    "const": _const,
    "pattern": _pattern,
    "minimum": _bound("at least"),
    "maximum": _bound("at most"),
    "exclusiveMinimum": _bound("more than"),
    "maxLength": _count("at most", "characters"),
    "minItems": _count("at least", "items"),
    "maxItems": _count("at most", "items"),
    "uniqueItems": _repeated,
    "maxProperties": _count("at most", "entries"),
}
