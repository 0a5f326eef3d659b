"""Columns of text that line up, whatever script they are in."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], gap: int = 2) -> str:
    """``rows`` with each column as wide as its widest cell on a terminal, where some letters take two places."""
    from rich.cells import cell_len  # late: the command line starts without it

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "".join(cell + " " * (width - cell_len(cell) + gap) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
