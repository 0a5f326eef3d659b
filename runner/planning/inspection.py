"""A data file as a person would look at it before writing a spec: columns, lengths, duplicates, languages, labels.

Reads with the one reader (:mod:`runner.data.preview`), so that what is seen here is what a run reads. Only looks: what
follows from it is chosen in :mod:`runner.planning.propose`.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from runner.data.file_kinds import READABLE, stored_as
from runner.data.preview import BEGINNING_BYTES, column_names, not_a_file, preview_rows, shown_path
from runner.data.reading import Source, row_id
from runner.planning.languages import shares
from runner.system.errors import DataError, UserError
from runner.tasks.shared.labels import plain

LABELS_MOST, LABEL_CHARACTERS = 50, 60
"""A column with more values, or with longer ones, is not offered as labels."""
ROWS_A_LABEL = 3
"""On average, of what may be a column of labels: names and ids stand on a row or two each."""
CLEARLY_LONGER = 1.5
"""How many times as long as those of any other column the cells of the column with the text are, where it is clear."""
TEXT_NAMES = ("text", "sentence", "review", "message", "body", "content", "comment", "description")
LANGUAGE_TEXTS = 500
DELIMITERS = ";\t|"

_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*")
_WHOLE = re.compile(r"[+-]?\d{1,3}(\.0+)?")


@dataclass(frozen=True)
class Column:
    """What the cells of a column are: how many have a text, their mean length in characters, and how many differ.

    ``values`` are the distinct ones with their counts, the most frequent first, where they are few and short.
    """

    name: str
    filled: int
    mean_characters: float
    distinct: int
    values: tuple[tuple[str, int], ...] = ()
    numbers: float = 0.0
    """The share of the cells with a text that are numbers."""

    @property
    def may_be_labels(self) -> bool:
        """Whether its values may be labels: few, short, each on several rows, and no measurements."""
        many = len(self.values) >= 2 and self.filled >= ROWS_A_LABEL * len(self.values)
        return many and all(_WHOLE.fullmatch(value) or not _NUMBER.fullmatch(value) for value, _ in self.values)


@dataclass(frozen=True)
class Inspection:
    """What was seen of a file. ``whole``: all its rows were read, else its beginning alone."""

    source: Source
    rows: int
    whole: bool
    columns: tuple[Column, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    """Columns that cannot be read as text, with the reason."""

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def text_column(self) -> str | None:
        """The column that holds the texts, as far as it can be told; None where several might."""
        by_length = sorted(self.columns, key=lambda column: -column.mean_characters)
        by_length = [column for column in by_length if column.filled and column.numbers < 0.5]
        if not by_length:
            return None
        first = by_length[0]
        if len(by_length) == 1 or first.mean_characters >= CLEARLY_LONGER * by_length[1].mean_characters:
            return first.name
        named = [column.name for column in by_length if column.name.casefold() in TEXT_NAMES]
        return named[0] if len(named) == 1 else None

    def label_columns(self, text: str) -> list[Column]:
        """The columns whose values may be labels."""
        return [column for column in self.columns if column.name != text and column.may_be_labels]


@dataclass(frozen=True)
class Texts:
    """What the column with the text holds; lengths in characters, ``languages`` by share (a guess)."""

    texts: int
    empty: int
    duplicates: int
    median: int
    p95: int
    longest: int
    mean: float
    languages: dict[str, float]


def inspect(path: str, encoding: str | None = None, delimiter: str | None = None) -> Inspection:
    """Look at a file. Of a csv file with another delimiter than a comma that is found out, and stands in ``source``.

    :raises UserError: when there is no such file, or its name does not tell how rows are stored.
    :raises DataError: when it cannot be read, with the line.
    """
    if "://" in path.removeprefix("file://"):
        raise UserError(
            "data.not-local", f"{path}: only a file on this machine can be looked at: fetch it, or some of its rows"
        )
    local = os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
    if wrong := not_a_file(local):
        raise UserError(*wrong)
    if stored_as(local) is None:
        raise UserError(
            "init.format-unknown",
            f"{shown_path(local)}: its name does not tell how rows are stored: let it end in {READABLE}",
        )
    source = Source(local, encoding=encoding, delimiter=delimiter)
    names = column_names(source)
    if len(names) == 1 and delimiter is None and stored_as(local) in ("csv", "tsv"):
        source, names = _separated(source, names)
    if not names:
        raise DataError("data.no-rows", f"{shown_path(local)}: there is no row of data in this file")
    return _read(source, names)


def look_at_texts(found: Inspection, text: str) -> Texts:
    """What the column ``text`` holds. :raises DataError: when it has no text at all."""
    seen: Counter[str] = Counter()
    lengths, sample, empty = list[int](), list[str](), 0
    for row in _rows(found.source, [text], found.whole):
        value = row[text]
        if not value.strip():
            empty += 1
            continue
        seen[row_id(value)] += 1
        lengths.append(len(value))
        if len(sample) < LANGUAGE_TEXTS:
            sample.append(value)
    if not lengths:
        raise DataError("data.no-texts", f"{shown_path(found.source.path)}: column {text!r} has no text in any row")
    lengths.sort()
    return Texts(
        texts=len(seen),
        empty=empty,
        duplicates=len(lengths) - len(seen),
        median=lengths[len(lengths) // 2],
        p95=lengths[math.ceil(0.95 * len(lengths)) - 1],
        longest=lengths[-1],
        mean=sum(lengths) / len(lengths),
        languages=shares(sample),
    )


def _separated(source: Source, names: tuple[str, ...]) -> tuple[Source, tuple[str, ...]]:
    """The source with the delimiter of its header, which came out as one column."""
    for mark in DELIMITERS:
        if mark in names[0]:
            other = replace(source, delimiter=mark)
            found = column_names(other)
            if len(found) > 1:
                return other, found
    return source, names


def _rows(source: Source, names: Sequence[str], whole: bool) -> Iterator[dict[str, str]]:
    for row in preview_rows(source, names, names, beginning=not whole):
        yield row.values


def _read(source: Source, names: tuple[str, ...]) -> Inspection:
    """All columns that can be read; one that cannot is left out with its reason, unless none can."""
    whole = os.path.getsize(source.path) <= BEGINNING_BYTES
    left_out = {name: "its name is there more than once" for name in names if names.count(name) > 1}
    good = [name for name in names if name not in left_out]
    if not good:
        raise DataError(
            "data.column-repeated",
            f"{shown_path(source.path)}: all its columns have the same name ({names[0]!r}): rename them",
        )
    try:
        tallies, rows = _tallied(source, good, whole)
    except DataError as error:
        left_out |= _unreadable(source, good, whole)
        good = [name for name in good if name not in left_out]
        if not good or len(good) == len(names):
            raise error
        tallies, rows = _tallied(source, good, whole)
    if not rows:
        raise DataError("data.no-rows", f"{shown_path(source.path)}: there is no row of data in this file")
    return Inspection(source, rows, whole, tuple(tally.column() for tally in tallies), left_out)


def _tallied(source: Source, names: Sequence[str], whole: bool) -> tuple[list[_Tally], int]:
    tallies, rows = [_Tally(name) for name in names], 0
    for values in _rows(source, names, whole):
        rows += 1
        for tally in tallies:
            tally.add(values[tally.name])
    return tallies, rows


def _unreadable(source: Source, names: Sequence[str], whole: bool) -> dict[str, str]:
    """The columns that cannot be read, each alone, with the reason."""
    found = {}
    for name in names:
        try:
            for _ in _rows(source, [name], whole):
                pass
        except DataError as error:
            found[name] = str(error)
    return found


class _Tally:
    """The cells of one column, counted as they come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._filled = self._characters = self._numbers = 0
        self._values: Counter[str] | None = Counter()
        self._spelling: dict[str, str] = {}
        self._ids: set[str] = set()

    def add(self, cell: str) -> None:
        cell = cell.strip()
        if not cell:
            return
        self._filled += 1
        self._characters += len(cell)
        self._numbers += _NUMBER.fullmatch(cell) is not None
        self._ids.add(row_id(cell))
        if self._values is None:
            return
        key = plain(cell)
        self._spelling.setdefault(key, cell)
        self._values[key] += 1
        if len(self._values) > LABELS_MOST or len(cell) > LABEL_CHARACTERS:
            self._values = None

    def column(self) -> Column:
        values = self._values.most_common() if self._values else []
        spelled = tuple((self._spelling[key], count) for key, count in values)
        filled = max(1, self._filled)
        mean, numbers = self._characters / filled, self._numbers / filled
        return Column(self.name, self._filled, mean, len(self._ids), spelled, numbers)
