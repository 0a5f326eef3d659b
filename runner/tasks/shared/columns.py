"""What columns of recorded answers hold, row by row, for messages about cells that say no value. Knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

ADVICE = "name the columns that hold the votes in teacher.columns, or correct them"

MOST = 200
"""Characters of a value by which it is counted."""

SHOWN = 5
"""So many different values of a column are named in a message; the rest is counted."""


@dataclass
class Columns:
    """Which rows have no usable answer in the columns ``names``, and what stands there instead.

    ``is_usable`` says whether a cell says a value (it raises ValueError for a cell that is wrong whatever was meant),
    ``quoted`` how a cell is shown, and ``expected`` what the task's values are, for the end of a message.
    """

    names: Sequence[str]
    is_usable: Callable[[str], bool]
    quoted: Callable[[str], str]
    expected: str
    rows: int = 0
    without: int = 0
    _usable: Counter[str] = field(default_factory=Counter)
    _values: dict[str, Counter[str]] = field(default_factory=dict)

    def look(self, cells: Sequence[str]) -> None:
        """Count one row: a cell for each column. :raises ValueError: as ``is_usable`` does, with the column."""
        any_usable = False
        for name, cell in zip(self.names, cells, strict=True):
            try:
                usable = self.is_usable(cell)
            except ValueError as error:
                raise ValueError(f"column {name!r}: {error}") from error
            any_usable |= usable
            self._usable[name] += usable
            self._values.setdefault(name, Counter())[cell.strip()[:MOST] if not usable else ""] += not usable
        self.rows += 1
        self.without += not any_usable

    def dead(self) -> list[str]:
        """Columns of which no cell is a vote: another column was meant, or another task."""
        return [name for name in self.names if self.rows and not self._usable[name]]

    def too_many(self, allowed: float) -> bool:
        """Whether more rows lack a vote than the share ``allowed``; of few rows one may, unless none may."""
        return self.without > (max(1.0, allowed * self.rows) if allowed else 0)

    def held(self, only: Sequence[str] = ()) -> str:
        """What stands there that is no vote: the most frequent values of each column, each with its count."""
        said = []
        for name in only or self.names:
            counts = +self._values.get(name, Counter())
            if counts:
                said.append(f"column {name} holds {self._listed(counts)}")
        return "; ".join([*said, self.expected])

    def words(self) -> str:
        """How many rows have no vote, and why."""
        share = f"{100 * self.without / max(1, self.rows):.1f} %"
        return f"{self.without:,} of {self.rows:,} rows ({share}) have no usable vote: {self.held()}"

    def _listed(self, counts: Counter[str]) -> str:
        common = [
            f"{self.quoted(value) if value else 'nothing'} ({rows:,})" for value, rows in counts.most_common(SHOWN)
        ]
        more = [f"and {len(counts) - SHOWN:,} other values"] if len(counts) > SHOWN else []
        return ", ".join([*common, *more])
