"""Strict YAML: what each word stands for, where things stand, and that nothing but SpecError comes out."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.spec import strict_yaml
from runner.spec.strict_yaml import Mark, decode, parse
from runner.system.errors import SpecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("1e6", 1e6),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        *[(word, word) for word in ("no", "yes", "on", "off", "True", "FALSE", "y", "n", "None")],
        *[(word, word) for word in ("12:30", "0777", "0o17", "0x1F", "1_000", "007.5", ".inf", ".nan")],
        *[(word, word) for word in ("2024-05-01", "1e999", "1.2.3", ".", "+", "e5", ".e5", "12e5678", "<<")],
        ("9" * 5000, "9" * 5000),
        ("'12'", "12"),
        ('"true"', "true"),
        ("'null'", "null"),
        ("|\n  no\n  1", "no\n1"),
    ],
)
def test_words(text: str, value: Any) -> None:
    read = parse(f"a: {text}", "f").data["a"]
    assert read == value and type(read) is type(value)


def test_marks_of_keys_and_values_count_from_one() -> None:
    document = parse("\ufeffa: 1\r\nb:\r\n  - c: {ü: x, d: y}\r\n  - |\r\n    text\r\n".removeprefix("\ufeff"), "f")
    assert document.values[()] == Mark(1, 1)
    assert document.keys[("b",)] == Mark(2, 1)
    assert document.keys[("b", 0, "c")] == Mark(3, 5)
    assert document.keys[("b", 0, "c", "d")] == Mark(3, 15)
    assert document.values[("b", 0, "c", "d")] == Mark(3, 18)
    assert document.values[("b", 1)] == Mark(4, 5)


def test_a_key_that_is_refused_leaves_no_marks_behind() -> None:
    document = parse("a: {b: 1}\na: {b: 2, c: 3}\n", "f")
    assert document.data == {"a": {"b": 1}}
    assert document.values[("a", "b")] == Mark(1, 8) and ("a", "c") not in document.values
    assert [str(problem) for problem in document.problems] == ["f:2:1: the key 'a' is given twice (see line 1)"]


def test_an_alias_bomb_ends_at_its_first_alias() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 10_001)]
    start = time.process_time()
    with pytest.raises(SpecError) as caught:
        parse("\n".join(lines), "f")
    assert time.process_time() - start < 0.5
    assert [str(problem) for problem in caught.value.problems] == [
        "f:1:5: a0: the anchor '&a0' is not allowed: write values out",
        "f:2:10: a1.0: the alias '*a0' is not allowed: write the value out",
    ]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_without_recursion(opening: str) -> None:
    with pytest.raises(SpecError, match="nested more than 32 levels deep"):
        parse(opening * 100_000, "f")


def test_nesting_up_to_the_limit_is_read() -> None:
    depth = strict_yaml.MAX_DEPTH
    value = parse("[" * depth + "]" * depth, "f").data
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    assert decode(b"a" * (1 << 20), "f")
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        decode(b"a" * ((1 << 20) + 1), "f")


def test_a_byte_order_mark_is_no_text() -> None:
    assert decode("\ufeffname: x".encode(), "f") == "name: x"


@pytest.mark.parametrize(
    ("raw", "place"),
    [(b"a: 1\nb: \xff", "f:2:4: "), ("ü: \x00".encode(), "f:1:4: "), (b"a\r\nb\rc\x1b", "f:3:2: ")],
)
def test_what_is_not_text_is_refused_with_its_place(raw: bytes, place: str) -> None:
    with pytest.raises(SpecError) as caught:
        decode(raw, "f")
    assert str(caught.value).startswith(place)


def check_total(text: str) -> None:
    """Reading ``text`` ends in data or in a SpecError that has places; nothing else comes out."""
    try:
        document = parse(text, "f")
    except SpecError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
    else:
        for path in document.values:
            value = document.data
            for part in path:
                value = value[part]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
@example('"\\UFFFFFFFF"')
@example('"\\ud800"')
@example("%TAG ! x\n--- !a b")
@example("? ? ? [")
def test_any_text_gives_data_or_a_spec_error(text: str) -> None:
    check_total(text)


PIECES = [
    "a",
    "b: ",
    "- ",
    "\n",
    "  ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "? ",
    "&x ",
    "*x",
    "!t ",
    "!!int ",
]
PIECES += [
    "'",
    '"',
    "\\",
    "\\x",
    "|",
    ">",
    "#",
    "%",
    "@",
    "`",
    "---",
    "...",
    "<<",
    "1",
    "1e5",
    "\x85",
    "\u2028",
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_anything_that_looks_like_yaml_gives_data_or_a_spec_error(text: str) -> None:
    check_total(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_give_text_or_a_spec_error(raw: bytes) -> None:
    try:
        text = decode(raw, "f")
    except SpecError as error:
        assert len(error.problems) == 1
    else:
        assert text.encode() == raw.removeprefix(b"\xef\xbb\xbf")
