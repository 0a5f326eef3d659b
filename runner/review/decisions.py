"""What people decide about rows, kept beside the teacher's answers: append-only, one JSON object a line.

::

    RUN/review/decisions/<writer>.jsonl          on a disk: each process that writes has a file of its own
    RUN/review/decisions/<writer>-00001.jsonl    in an object store, which cannot append: an object for each write

Decisions of another machine are merged by copying its files into the folder. A decision has an id: one that stands
there twice counts once. Nothing is ever changed: an undo is a decision as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from runner.rundir.folder import Folder, explained
from runner.system.errors import DataError, UserError
from runner.system.sanitize import without_secrets

FORMAT = 1
"""Of a line; a reader refuses lines of a newer one."""

FOLDER = ("review", "decisions")

ListName = Literal["sample", "queue"]
Action = Literal["label", "unclear", "skip", "undo"]
ACTIONS = ("label", "unclear", "skip", "undo")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one reviewer said of one row, at one time.

    ``digest`` is :func:`text_digest` of the text that was shown. ``value`` is the task's (None but for ``label``).
    ``seconds``: from the row being shown to the decision; None where nobody measured. ``time`` is UTC, ISO 8601.
    ``undoes`` is the id of the decision that an ``undo`` takes back.
    """

    list: ListName
    id: str
    digest: str
    action: Action
    value: Any = None
    reviewer: str
    seconds: float | None = None
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    tool: str = "page"
    decision: str = field(default_factory=lambda: uuid.uuid4().hex)
    undoes: str | None = None


def text_digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal: another text has another one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Writer:
    """Appends decisions; use one in each process. What :meth:`append` has returned from is on the disk."""

    def __init__(self, run: Folder) -> None:
        self._folder = run.child(*FOLDER)
        self._name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._written = 0

    def append(self, decisions: Sequence[Decision]) -> None:
        """Write all of them, or none.

        :raises UserError: when they cannot be written, as on a full disk; the same call may be made again.
        """
        lines = "".join(f"{_line(decision)}\n" for decision in decisions).encode()
        local = self._folder.local
        if local is None:
            self._folder.write(f"{self._name}-{self._written + 1:05}.jsonl", lines)
            self._written += 1
        else:
            _append(local / f"{self._name}.jsonl", lines)


def read(run: Folder) -> list[Decision]:
    """All decisions of a run, each once, in the order of their time.

    A last line without its end was cut off by a crash before anybody was told that it is kept: it does not count.

    :raises DataError: when a line is broken, or one decision stands there in two forms; with file and line.
    :raises UserError: when a newer version wrote one.
    """
    folder = run.child(*FOLDER)
    known: dict[str, Decision] = {}
    for name in folder.names(".jsonl"):
        for place, decision in _decisions(folder, name):
            if known.setdefault(decision.decision, decision) != decision:
                raise DataError(
                    "review.decision-differs",
                    f"{place}: decision {decision.decision} also stands in another form; remove one of them",
                )
    return sorted(known.values(), key=lambda decision: (decision.time, decision.decision))


def _line(decision: Decision) -> str:
    return json.dumps({"version": FORMAT} | asdict(decision), ensure_ascii=True, separators=(",", ":"))


def _append(file: Path, lines: bytes) -> None:
    """Append and sync; a write that fails leaves the file as it was."""
    with explained(str(file)):
        new = not file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            before = os.fstat(handle).st_size
            try:
                _write_all(handle, lines)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        if new:
            _sync_folder(file.parent)


def _write_all(handle: int, data: bytes) -> None:
    """A disk that is nearly full takes a part of a write and says so by its length alone."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_folder(folder: Path) -> None:
    """Without it a new file's name may be lost where its bytes are not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _decisions(folder: Folder, name: str) -> Iterator[tuple[str, Decision]]:
    *lines, _ = folder.read(name).split(b"\n")  # what follows the last line's end is empty, or was cut off
    for number, line in enumerate(lines, 1):
        place = f"{without_secrets(folder.path(name))}:{number}"
        yield place, _parsed(line, place)


def _parsed(line: bytes, place: str) -> Decision:
    try:
        data = json.loads(line)
        version = data.pop("version")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            "review.decision-broken", f"{place}: is no decision ({error}); restore the file, or remove the line"
        ) from error
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            "run.newer-format",
            f"{place}: was written by a newer tutelage (format {version}, this one reads {FORMAT}); upgrade",
        )
    names = {each.name for each in fields(Decision)}
    if set(data) != names or data["action"] not in ACTIONS or data["list"] not in ("sample", "queue"):
        raise DataError(
            "review.decision-broken", f"{place}: is no decision of this format; restore the file, or remove the line"
        )
    return Decision(**data)
