"""Each error has a code with one meaning, and ``docs/errors.md`` lists them all."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.problem_codes import CODE, PAGE, by_code, class_of, kinds, modules, page, parted, path_of, sites
from tests.problem_remedies import REMEDIES

PASSED_ON = ("code", "error.code", "self.code")
"""A code that is not written where the error is made: another place has it, right before a message."""


def made() -> Iterator[tuple[str, ast.Call]]:
    """Each place where an error is made, as ``runner/data/tables.py:73``."""
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and class_of(module, node.func) in kinds():
                yield f"{path_of(module)}:{node.lineno}", node


def test_all_kinds_of_error_are_found() -> None:
    names = {name for _, name in kinds()}
    assert {"TutelageError", "UserError", "DataError", "LostError", "BusyError", "ColumnError"} <= names
    assert "SpecError" not in names
    assert len(list(made())) > 200


def test_each_error_has_a_code() -> None:
    def coded(node: ast.Call) -> bool:
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant):
            return isinstance(first.value, str) and CODE.fullmatch(first.value) is not None
        return isinstance(first, ast.Starred) or (first is not None and ast.unparse(first) in PASSED_ON)

    assert not [place for place, node in made() if not coded(node)]


def test_the_same_message_has_the_same_code_within_a_part() -> None:
    """Else nobody could tell from the message what to look for."""
    codes: dict[tuple[str, str], set[str]] = {}
    for site in sites():
        for message in set(site.messages) - {"…"}:
            codes.setdefault((site.code.partition(".")[0], message), set()).add(site.code)
    assert not {key: found for key, found in codes.items() if len(found) > 1}


def test_a_code_is_raised_by_one_kind_of_error() -> None:
    raised: dict[str, set[str]] = {}
    for _, node in made():
        if isinstance(node.args[0], ast.Constant) and isinstance(node.func, ast.Name):
            raised.setdefault(node.args[0].value, set()).add(node.func.id)
    assert not {code: found for code, found in raised.items() if len(found) > 1}


def test_the_page_says_what_to_do_about_each() -> None:
    silent = {code for code, messages in by_code().items() if not all(parted(message)[1] for message in messages)}
    assert not silent - REMEDIES.keys(), "let the message say what to do, or add it to tests/problem_remedies.py"
    assert not REMEDIES.keys() - silent, "these messages say it themselves"


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs-errors`"


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("{path}: already exists; choose another name", ("{path}: already exists", "Choose another name.")),
        ("the runner sets it itself: budget", ("the runner sets it itself: budget", "")),
        ("{n} rows failed. Ask for less", ("{n} rows failed", "Ask for less.")),
    ],
)
def test_a_message_is_parted_where_it_says_what_to_do(message: str, parts: tuple[str, str]) -> None:
    assert parted(message) == parts
