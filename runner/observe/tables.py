"""Tables for people: aligned by the cells that characters take on a terminal, where a Chinese one takes two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.system.sanitize import for_terminal

GAP = "  "


@dataclass(frozen=True)
class Column:
    """A column of a table. ``width`` is its least width in plain lines, in cells."""

    header: str
    width: int = 0
    right: bool = False
    style: str = ""
    whole: bool = False
    """Never broken across lines on a terminal: a name that people copy."""


def cells(text: str) -> int:
    """How many cells of a terminal ``text`` takes."""
    return cell_len(text)


def pad(text: str, width: int, right: bool = False) -> str:
    """``text`` with blanks, to ``width`` cells; on its left where it goes to the right."""
    blanks = " " * (width - cells(text))
    return blanks + text if right else text + blanks


def plain_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as aligned lines, without the header."""
    shown = [[for_terminal(cell) for cell in row] for row in rows]
    widths = [max([column.width, *(cells(row[n]) for row in shown)]) for n, column in enumerate(columns)]
    return [
        GAP.join(
            pad(cell, width, column.right) for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in shown
    ]


def console(stream: IO[str]) -> Console:
    """A console for a terminal. Markup is off: ``[red]`` in a label is a label's. NO_COLOR is respected by rich."""
    return Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], stream: IO[str]) -> None:
    """Print a table with a header, where any column has one, as wide as the terminal at most."""
    header = any(column.header for column in columns)
    table = Table(box=None, show_header=header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.header),
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=column.whole,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(for_terminal(cell)) for cell in row))
    console(stream).print(table)
