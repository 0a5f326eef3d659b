"""push: a finished run -> a folder, or repositories on the Hugging Face Hub, that can be handed on.

::

    DIR/README.md, config.json, model.safetensors, tokenizer...   the student and its model card
    DIR/spec.yaml, report.html, report.json                       how it was made, and how good it is
    DIR/dataset/README.md, data/train.parquet                     with --data: the labelled texts and their data card
    DIR/tutelage.json                                             what push wrote, with SHA-256s: the marker

On the Hub, `dataset/` is a data set repository of the same name. No text of the data leaves without ``--data``: the
report is written anew without its rows. Reads the run folder, on any file system, and writes nothing into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from runner import __version__
from runner.models import folder, hub
from runner.publish.cards import data_card, model_card
from runner.report.build import show
from runner.report.gather import Run, gather, without_texts
from runner.report.summary import summarise
from runner.review.decisions import read
from runner.rundir.folder import Folder
from runner.spec import load_spec
from runner.system.errors import DataError, SpecError, UserError
from runner.system.paths import absolute
from runner.system.sanitize import has_secret
from runner.tasks.kinds import kind_of

HUB = "hf:"
MARKER = "tutelage.json"
DATASET = "dataset"
DATA_FILE = "data/train.parquet"

_MODEL_FILES = (".json", ".safetensors", ".txt", ".model", ".jinja")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z", re.ASCII)
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS|_KEY|_PASS|_PAT)$", re.IGNORECASE)
_SHORTEST_SECRET = 8
_READABLE = (".md", ".yaml", ".json", ".html")


@dataclass(frozen=True)
class Pushed:
    """Where a push went; ``texts`` is the number of labelled texts that went along."""

    places: list[str]
    texts: int


def push(run: Folder, to: str, *, data: bool = False, private: bool = True) -> Pushed:
    """Write the run's model, cards, spec and report to ``to``: a local folder, or ``hf:OWNER/NAME``.

    ``private`` is for repositories on the Hub that are not there yet.

    :raises UserError: when the run is not finished, the target holds something else, a secret would go along, or the
        Hub does not take it.
    """
    gathered = _finished(run)
    if to.startswith(HUB):
        try:
            return _to_hub(run, gathered, to.removeprefix(HUB), data, private)
        except OSError as error:
            raise UserError(
                "push.not-assembled", f"{to}: the files could not be put together: {error.strerror or error}"
            ) from error
    if "://" in to:
        raise UserError(
            "push.target-invalid",
            f"{to}: push writes to a local folder or to hf:OWNER/NAME; copy a folder to where you want it",
        )
    return _to_folder(run, gathered, Path(absolute(to)), data)


def _finished(run: Folder) -> Run:
    if not run.exists("run.json"):
        raise UserError(
            "run.not-finished", f"{run.url}: no finished run is there (no run.json); give the folder that `run` printed"
        )
    try:
        gathered = gather(run.read, run.exists, read(run))
    except DataError as error:
        raise DataError(error.code, f"{run.url}: {error}") from error
    if not run.exists(f"{_student(gathered)}/config.json"):
        raise DataError(
            "push.student-missing", f"{run.url}: the trained student is gone ({_student(gathered)}); run the spec again"
        )
    return gathered


def _student(gathered: Run) -> str:
    return f"{gathered.places['train']}/student"


def _to_folder(run: Folder, gathered: Run, target: Path, data: bool) -> Pushed:
    _check_replaceable(target)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        beside.mkdir(parents=True)
        _write_model(run, gathered, beside, ".", "the folder that this card lies in")
        texts = _write_data(run, gathered, beside / DATASET) if data else 0
        _check_secrets(beside)
        _mark(beside, gathered)
        _swap(beside, target)
    except OSError as error:
        raise UserError("file.not-writable", f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Pushed([str(target)], texts)


def _to_hub(run: Folder, gathered: Run, repo: str, data: bool, private: bool) -> Pushed:
    if not _REPO.match(repo):
        raise UserError(
            "push.name-invalid", f"{HUB}{repo}: a name on the Hub is OWNER/NAME, of letters, digits, '.', '_' and '-'"
        )
    kinds: list[hub.Kind] = ["model", "dataset"] if data else ["model"]
    hub.check_publish(kinds, repo, private, MARKER)
    with tempfile.TemporaryDirectory() as scratch:
        parts = [(kind, Path(scratch) / kind) for kind in kinds]
        _write_model(run, gathered, parts[0][1], repo, None)
        texts = _write_data(run, gathered, parts[1][1]) if data else 0
        for _, part in parts:
            _check_secrets(part)
            _mark(part, gathered)
        message = f"{gathered.info['name']}: pushed by tutelage {__version__}"
        return Pushed(hub.publish(parts, repo, private, message), texts)


def _write_model(run: Folder, gathered: Run, target: Path, load_from: str, where: str | None) -> None:
    """The student with its card, the spec, and the report without the data's texts."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        student = run.fetch(_student(gathered), Path(scratch) / "student")
        if wrong := folder.problem(student):
            raise DataError("run.student-broken", f"{run.url}: the trained student {wrong}; run the spec again")
        for file in sorted(student.iterdir()):
            if file.is_file() and file.suffix in _MODEL_FILES:
                shutil.copyfile(file, target / file.name)
    quiet = without_texts(gathered)
    report, page = show(quiet)
    files = {
        "README.md": model_card(quiet, report, load_from, where),
        "spec.yaml": spec_text(gathered.info),
        "report.html": page,
        "report.json": json.dumps(report, indent=2, ensure_ascii=False),
    }
    for name, content in files.items():
        (target / name).write_text(content, encoding="utf-8")


def _write_data(run: Folder, gathered: Run, target: Path) -> int:
    """The train texts that have the teacher's label, with their card; how many they are."""
    path = f"{gathered.places.get('correct', gathered.places['vote'])}/votes.parquet"
    if not run.exists(path):
        raise DataError(
            "run.labels-missing",
            f"{run.url}: the labelled texts are gone ({path}); run the spec again, or push without --data",
        )
    votes = run.read_table(path)
    labelled = votes.filter(pc.and_(pc.equal(votes["split"], "train"), pc.is_valid(votes["label"])))
    answer = [field.name for field in kind_of(gathered.info["spec"]).scoring.ANSWER]
    table: pa.Table = labelled.select(["id", "text", *answer])
    (target / DATA_FILE).parent.mkdir(parents=True)
    pq.write_table(table, target / DATA_FILE)
    (target / "README.md").write_text(data_card(gathered, summarise(gathered)), encoding="utf-8")
    return len(table)


def spec_text(info: dict[str, Any]) -> str:
    """The spec that was run, as YAML: the file as it was written, or all fields where ``--set`` changed some."""
    written = info.get("spec_text") or ""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "spec.yaml"
        file.write_text(written, encoding="utf-8", errors="surrogatepass")
        try:
            same = load_spec(file).to_dict() == info["spec"]
        except SpecError:  # an older tutelage wrote it
            same = False
    if same:
        return str(written)
    head = "# The spec as it was run, with every field; the file that was written differs (--set, another version).\n"
    return head + yaml.safe_dump(info["spec"], sort_keys=False, allow_unicode=True, width=120)


def _check_replaceable(target: Path) -> None:
    """:raises UserError: when ``target`` holds anything that an earlier push did not write."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError("push.target-is-file", f"{target}: is a file; name a folder")
    there = _files(target)
    if not there:
        return
    try:
        known = json.loads((target / MARKER).read_text(encoding="utf-8"))["files"]
        strange = [name for name in there if name != MARKER and known.get(name) != _digest(target / name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            "push.target-not-empty",
            f"{target}: is not empty, and no earlier push wrote it; choose a folder that is new or empty",
        ) from None
    if strange:
        raise UserError(
            "push.target-foreign-files",
            f"{target}: holds what push did not write, or what was changed since: {', '.join(strange[:3])}; "
            "move that away, or choose another folder",
        )


def _files(top: Path) -> list[str]:
    """All files below a folder; a link is one whatever it leads to."""
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_symlink() or not path.is_dir())


def _mark(top: Path, gathered: Run) -> None:
    files = {name: _digest(top / name) for name in _files(top)}
    stage = gathered.info["stages"][-1]["fingerprint"]
    marker = {"tutelage": __version__, "run": f"{gathered.info['name']}-{stage[:8]}", "files": files}
    (top / MARKER).write_text(json.dumps(marker, indent=2, ensure_ascii=False), encoding="utf-8")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``, which is not there, empty, or an earlier push.

    A file system renames a folder in one step, but exchanges none: between two renames there is no folder.
    """
    if not target.exists() or not any(target.iterdir()):
        os.rename(new, target)
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old)


def _check_secrets(top: Path) -> None:
    """:raises UserError: when a secret of the environment, or a password in an address, would be handed on."""
    secrets = {name: value for name, value in os.environ.items() if _SECRET.search(name)}
    for name in _files(top):
        if not name.endswith(_READABLE):
            continue
        content = (top / name).read_text(encoding="utf-8", errors="replace")
        for variable, value in secrets.items():
            if len(value) >= _SHORTEST_SECRET and value in content:
                raise UserError(
                    "push.holds-secret",
                    f"{name} would hold the value of ${variable}; take it out of the spec, and run again",
                )
        if name == "spec.yaml" and has_secret(content):
            raise UserError(
                "push.holds-password",
                "spec.yaml would hold an address with a password; take it out of the spec, and run again",
            )
