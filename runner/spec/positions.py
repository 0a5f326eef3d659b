"""Where in the user's own words a field stands: a line of the spec, or a ``--set``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runner.spec.strict_yaml import KeyPath, Mark, dotted
from runner.system.errors import Problem


@dataclass(frozen=True)
class Override:
    """One ``--set``: what it is called in messages, what it sets, and the parents that it had to make."""

    label: str
    path: KeyPath
    made: frozenset[KeyPath] = frozenset()


@dataclass
class Places:
    """Finds the place of a field; a field that nobody wrote stands where its nearest parent does."""

    file: str
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    overrides: list[Override] = field(default_factory=list)

    @property
    def base(self) -> Path:
        """The folder of the spec: relative paths start there."""
        return Path(self.file).absolute().parent

    def problem(
        self, path: KeyPath, code: str, message: str, shown: KeyPath | None = None, key: bool = False
    ) -> Problem:
        """A problem at ``path``: at its value, or at its key. ``shown`` is the path to name instead."""
        text = dotted(path if shown is None else shown)
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path or path in override.made:
                return Problem(override.label, 0, 0, text, code, message)
        mark = self._mark(path, key)
        return Problem(self.file, mark.line, mark.column, text, code, message)

    def _mark(self, path: KeyPath, key: bool) -> Mark:
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        mark = first.get(path) or second.get(path)
        if mark is not None:
            return mark
        return self._mark(path[:-1], key=True) if path else Mark(1, 1)
