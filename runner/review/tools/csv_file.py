"""Files of comma-separated values, to be filled in with any program: UTF-8 with its mark, so that Excel sees that.

A cell that a spreadsheet program would run as a formula begins with an apostrophe (so does one that begins with an
apostrophe itself), which is taken off again: texts come back exactly. Ids begin with ``row-``, since a program would
read 1234e5 as a number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.review.lists import Item
from runner.review.tools.answers import About, Answer, Unreadable
from runner.review.tools.cells import MORE, NEEDED, answer_of, columns_of, row_of
from runner.review.tools.choices import Choices
from runner.review.tools.files import csv_records, new, write

NAME = "csv"

_FORMULAS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What a formula may begin with: OWASP, CSV Injection."""


def export(items: Sequence[Item], target: Path, about: About) -> list[Path]:
    """Write one file; see :class:`runner.review.tools.answers.Tool`."""
    target = new(target, ".csv")
    choices, columns = Choices(about.question), columns_of(items)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for item in items:
        cells = row_of(item, choices)
        writer.writerow(guarded(cells.get(column, "")) for column in columns)
    return [write(target, text.getvalue().encode("utf-8-sig"))]


def read(path: Path) -> Iterator[Answer | Unreadable]:
    """The answers of a file that was filled in. :raises DataError: when it is broken or breaks off."""
    for place, record in csv_records(path, NEEDED, MORE):
        yield answer_of(place, {column: unguarded(cell) for column, cell in record.items()})


def guarded(cell: str) -> str:
    """A cell that no program runs as a formula."""
    return f"'{cell}" if cell.startswith("'") or cell.lstrip(" ").startswith(_FORMULAS) else cell


def unguarded(cell: str) -> str:
    """What a guarded cell holds."""
    return cell[1:] if cell.startswith("'") else cell
