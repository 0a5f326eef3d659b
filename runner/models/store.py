"""The cache of fetched models: where they lie, one writer at a time, whole or not there at all.

A model is built in a temporary sibling and renamed into place, under a lock that processes share.
This module does not know where models come from.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.models.catalog import Entry, Progress
from runner.system.errors import ModelError
from runner.system.paths import at_home

_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_dir() -> Path:
    """``$TUTELAGE_CACHE``, or ``~/.cache/tutelage``."""
    return Path(at_home(os.environ.get("TUTELAGE_CACHE") or "~/.cache/tutelage")).absolute()


def remember(note: Path, value: Any) -> None:
    """Keep ``value`` as JSON in a file of the cache, whole or not at all; where it cannot be kept, it is not."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=note.parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        os.replace(name, note)
    except OSError:
        return  # only slower next time


def folder_of(entry: Entry) -> Path:
    """Where the model lies, or will lie. The hash is in the name: other bytes, another folder."""
    return cache_dir() / "models" / f"{entry.name}-{entry.weights.sha256[:12]}"


def is_present(entry: Entry) -> bool:
    """Whether the model can be loaded from the cache without fetching anything; of a closed folder it cannot."""
    folder = folder_of(entry)
    return os.path.isfile(folder / "config.json") and any(folder.glob("*.safetensors"))


def install(entry: Entry, build: Callable[[Path], Path], progress: Progress) -> Path:
    """The model's folder, built first if it is not there.

    ``build`` gets an empty folder to work in, and returns the folder in it that is the model.
    Raises ModelError, with nothing left behind, where the disk is full or the cache not writable.
    """
    target = folder_of(entry)
    if is_present(entry):
        return target
    need = bytes_needed(entry)
    with _no_room(target.parent, need), _locked(target, progress):
        if is_present(entry):
            return target
        _sweep(target)
        if shutil.disk_usage(target.parent).free < need:
            raise OSError(errno.ENOSPC, "not enough room")
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            os.rename(build(work), target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def bytes_needed(entry: Entry) -> int:
    """The most that lies on the disk at one time while the model is made.

    pip holds a download up to three times (its cache, its working folder, the result); later there
    are the publisher's files and the unpacked weights side by side.
    """
    unpacked = (entry.shape.weight_bytes or 0) if entry.is_gguf else entry.size
    return max(3 * entry.size, entry.size + unpacked) + 50_000_000


def amount(count: int) -> str:
    """A number of bytes for people: ``1.1 GB``, ``98 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


@contextmanager
def _locked(target: Path, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout  # here, because most commands never fetch a model

    lock = FileLock(target.parent / f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=1)
    except Timeout:
        progress("waiting for another process that is making the same model")
        lock.acquire()
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise ModelError(
            "model.cache-not-writable",
            f"the model cache {target.parent} cannot be written to ({error}); set TUTELAGE_CACHE to a folder of yours",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(target: Path) -> None:
    """Remove what a killed process left. We hold the lock, so nobody is at work in these."""
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    if target.exists():  # and yet not present: somebody took files out of it
        shutil.rmtree(target)


@contextmanager
def _no_room(folder: Path, need: int) -> Iterator[None]:
    """Say a full disk in one way, whoever met it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        raise ModelError(
            "model.disk-full",
            f"the disk is too full for the model: {amount(need)} ({need} bytes) needed in {folder}, "
            f"{amount(free)} ({free} bytes) free; make room, or set TUTELAGE_CACHE to another disk",
        ) from error
