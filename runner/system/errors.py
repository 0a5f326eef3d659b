"""What can go wrong, and the exit status that each kind ends with.

::

    TutelageError
    |-- SpecError          2   the spec or the command line is wrong; carries every problem at once
    |-- UserError          1   the user can mend it: data, files, disk, a lock held by another run
    |   |-- DataError      1   a data file is missing, empty, broken, or lacks a column
    |   |-- ModelError     1   a model is not there, cannot be fetched, or is not what it claims to be
    |   |   `-- FetchError 1   it was not to be had at this time
    |   |-- EngineError    1   the teacher's engine cannot start, or failed on too many rows
    |   |   `-- LostError  1   machines that the run worked on are gone
    |   `-- BusyError      1   another run holds the run folder
    `-- (anything else)    3   our bug: the traceback goes to a log file, its path to the user

Each problem has a code, such as ``data.column-missing``: a part of the product, and what is wrong. It stands once or
more where the error is raised, always with the same meaning, right before the message. ``docs/errors.md`` lists them
all, made from these places (``make docs-errors``). Events and ``--json`` carry it, and it is kept when a message is
reworded.

A signal ends with 128 and its number: Ctrl-C with 130, SIGTERM with 143. Only ``cli.py`` turns these into output and an
exit status. None of this knows Ray, vLLM or torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from runner.tasks.shared.labels import look_alike

KEPT = "what was finished is kept, the same command goes on from there"
"""What is promised of a run that is stopped, or stops."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a spec, with the place where it is wrong.

    ``line`` and ``column`` count from 1; 0 means that the place is not in a file (a ``--set``).
    ``path`` is the dotted field path, such as ``teacher.temperature``. ``code`` names the kind of problem.
    """

    file: str
    line: int
    column: int
    path: str
    code: str = field(compare=False)
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.path + ': ' if self.path else ''}{self.message}"


class TutelageError(Exception):
    """Base of everything that is reported to the user without a traceback.

    ``code`` names the kind of problem, such as ``run.in-use``; ``message`` is what the user reads.
    """

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # an error that comes from a worker is made again from its arguments
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.message

    def with_message(self, message: str) -> Self:
        """The same problem, said in other words."""
        return type(self)(self.code, message)


class SpecError(TutelageError):
    """The spec is wrong. ``problems`` holds every problem found, in the order of the file."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems)
        message = "\n".join(str(problem) for problem in self.problems)
        super().__init__(self.problems[0].code if self.problems else "", message)
        self.args = (self.problems,)

    def with_message(self, message: str) -> Self:
        """The same problems: each has its own message."""
        return type(self)(self.problems)


class UserError(TutelageError):
    """Something outside the spec that the user can mend; the message says how."""


class DataError(UserError):
    """A data file is missing, empty, broken, or lacks what the spec says it has."""


class ModelError(UserError):
    """A model cannot be had: not there, not reachable, or its bytes are not the promised ones."""


class FetchError(ModelError):
    """A model that is not here yet, or that nobody gave at this time: a later run may find it."""


class EngineError(UserError):
    """The teacher's engine cannot start, or too many rows failed."""


class LostError(EngineError):
    """What the run worked on was taken away: on other machines the same may go well."""


class BusyError(UserError):
    """Another run is using the same run folder."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'temperature'?)``, or nothing when no choice looks alike.

    Both in ASCII where nobody could see the difference.
    """
    choices = list(choices)
    if twin := next((choice for choice in choices if look_alike(word, choice)), None):
        return f" (did you mean {twin!a}? This is {word[:200]!a})"
    by_lower = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(word[:200].casefold().strip(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def code_of(error: BaseException) -> str | None:
    """The code of the problem; None for what is no :class:`TutelageError`: a signal, or a bug."""
    return error.code if isinstance(error, TutelageError) else None


def first_line(error: BaseException, most: int = 300) -> str:
    """What an error says, in one line of at most ``most`` characters; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]
