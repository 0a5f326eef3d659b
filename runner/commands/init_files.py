"""New files, all of them or none: nothing is overwritten, and what turns out to be wrong is taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from runner.system.errors import UserError


def write_new(files: Mapping[str, str], check: Callable[[], object]) -> None:
    """Write files that are not there yet, then ``check`` them: where that raises, none is left.

    :raises UserError: when one is there already, or cannot be written.
    """
    written: list[Path] = []
    try:
        for name, text in files.items():
            path = Path(name)
            with open(path, "x", encoding="utf-8", newline="") as handle:
                written.append(path)
                handle.write(text)
        check()
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise UserError("file.already-exists", f"{error.filename}: already exists; choose another name") from None
        if isinstance(error, OSError):
            raise UserError(
                "file.not-writable", f"{error.filename or name}: cannot be written: {error.strerror}"
            ) from error
        raise
