"""Rows of JSON files: an object on each line, an array of objects, or objects one after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from runner.data.cells import Number, kind_of
from runner.data.file_kinds import LONGEST_BYTES
from runner.data.tables import Row, Wanted, positions
from runner.system.errors import DataError


class _Twice(dict[str, Any]):
    """An object of JSON in which a key stands twice, of which Python would keep the last."""

    keys_twice: frozenset[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = _Twice(found)
    names = [name for name, _ in pairs]
    twice.keys_twice = frozenset(name for name in names if names.count(name) > 1)
    return twice


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=Number)


def _record(place: str, record: Any, wanted: Wanted) -> Row:
    """A row of an object of JSON."""
    if not isinstance(record, dict):
        raise DataError(
            "data.not-an-object",
            f"{place}: expected a JSON object with the columns {', '.join(wanted.columns)}, found {_called(record)}",
        )
    if isinstance(record, _Twice) and (twice := [one for one in wanted.columns if one in record.keys_twice]):
        raise DataError("data.key-repeated", f"{place}: the key {twice[0]!r} is there twice: rename one of them")
    if any(column not in record for column in wanted.columns):
        positions(place, list(record), wanted.columns)
    return Row(place, wanted.texts(place, [record[column] for column in wanted.columns]))


def _called(value: Any) -> str:
    if value is None:
        return "null"
    return "a text" if isinstance(value, str) else "a number" if isinstance(value, int | float) else kind_of(value)


def jsonl_rows(lines: Iterator[str], name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of a file with a JSON object on each line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            record = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            raise DataError("data.json-broken", f"{place}: broken JSON: {_said(error)}{_array(line)}") from error
        yield _record(place, record, wanted)


def _said(error: Exception) -> str:
    """Without the line of a decoder that saw one line alone."""
    return f"{error.msg} (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else str(error)


def _array(line: str) -> str:
    return "; a JSON array is read from a .json file (format: json)" if line.lstrip().startswith("[") else ""


def json_rows(lines: Iterator[str], name: str, wanted: Wanted) -> Iterator[Row]:
    """Rows of a JSON array of objects, or of objects one after the other, over as many lines as they take."""
    for number, (place, value) in enumerate(json_values(lines, name), start=1):
        yield _record(f"{place} (row {number})", value, wanted)


def json_values(lines: Iterator[str], name: str) -> Iterator[tuple[str, Any]]:
    """The elements of a JSON array, or values one after the other, each with its place (``tasks.json:17``).

    :raises DataError: when they are broken or break off.
    """
    text = _JsonText(lines, name)
    array = text.taken("[")
    further = False
    while not text.at_end():
        if array and text.taken("]"):
            break
        if array and further and not text.taken(","):
            text.fail("a comma or ] is missing after this object")
        further = True
        yield text.place(), text.value()
    else:
        if array:
            text.fail("the array does not end: ] is missing")
    if not text.at_end():
        text.fail("there is more behind the end of the array")


class _JsonText:
    """Text that comes line by line, and JSON values that are taken off its beginning."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        self._lines, self._name = lines, name
        self._text, self._at, self._line = "", 0, 1

    def _more(self) -> bool:
        """Take at least as much text again as there is: a long value is not begun anew with each line."""
        rest = self._text[self._at :]
        wanted, parts, size = max(len(rest), 1), [rest], 0
        while size < wanted and (line := next(self._lines, "")):
            parts.append(line)
            size += len(line)
        self._text, self._at = "".join(parts), 0
        return size > 0

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    def at_end(self) -> bool:
        """Whether only blanks are left."""
        while True:
            match = _BLANKS.match(self._text, self._at)
            self._advance(match.end() if match else self._at)
            if self._at < len(self._text):
                return False
            if not self._more():
                return True

    def taken(self, mark: str) -> bool:
        """Whether ``mark`` comes next; it is gone then."""
        found = not self.at_end() and self._text.startswith(mark, self._at)
        if found:
            self._at += len(mark)
        return found

    def place(self) -> str:
        """Where the next value starts."""
        self.at_end()
        return f"{self._name}:{self._line}"

    def value(self) -> Any:
        """The next value."""
        if self.at_end():
            self.fail("a value is missing")
        while True:
            try:
                found, end = _JSON.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > LONGEST_BYTES or not self._more():
                    where = self._text.count("\n", self._at, error.pos) if isinstance(error, _Broken) else 0
                    self.fail(error.msg if isinstance(error, _Broken) else str(error), where)
            else:
                self._advance(end)
                return found

    def fail(self, words: str, further: int = 0) -> NoReturn:
        """:raises DataError: with the line."""
        raise DataError("data.json-broken", f"{self._name}:{self._line + further}: broken JSON: {words}")


_Broken = json.JSONDecodeError
_BLANKS = re.compile(r"[ \t\r\n]*")
