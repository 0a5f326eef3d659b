"""The line at the bottom of a terminal that rewrites itself: what is at work, and a bar where its share is known.

rich draws it; its ``Live`` is not used, because it hides the cursor, and a run that is killed could not show it again.
"""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.observe.tables import console
from runner.system.sanitize import for_terminal

BAR_CELLS = 20
BESIDE_BAR_CELLS = 60
"""A terminal that is narrower than this and the bar together shows no bar."""
ERASE = "\r\x1b[K"


class StatusLine:
    """One line, never wider than the terminal: what is too long ends in an ellipsis."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._console: Console | None = None

    def drawn(self, text: str, share: float | None) -> str:
        """What to write so that the line shows ``text``, and a bar that is filled to ``share``, from 0 to 1."""
        if self._console is None:
            self._console = console(self._stream)
        target = self._console
        width = target.size.width - 1  # a letter in the last column would begin a new line on some terminals
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis")
        cells: list[Text | ProgressBar] = [Text(" ".join(for_terminal(text).split()))]
        if share is not None and width >= BESIDE_BAR_CELLS + BAR_CELLS:
            grid.add_column(width=BAR_CELLS)
            cells.append(ProgressBar(total=1.0, completed=share, width=BAR_CELLS))
        grid.add_row(*cells)
        with target.capture() as capture:
            target.print(grid, width=max(1, width), end="")
        return ERASE + capture.get().rstrip("\n")
