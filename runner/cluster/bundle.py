"""What a submitted job takes along: this package, the spec, and the files that the spec names relatively.

Laid out in a folder that becomes the job's working directory on the cluster::

    runner/          this package: the job runs the code that checked the spec
    job.json         the arguments of `tutelage run`; the job's command names this file, and nothing that a user wrote
    files/...        the spec and its files, as they lie to each other

What is named absolutely or by URL stays where it is, and must be reachable from the cluster. Knows no Ray.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner import __version__
from runner.data.file_kinds import stored_as
from runner.rundir.folder import fingerprint
from runner.spec import Spec
from runner.spec.paths import VARIABLE, is_packaged
from runner.system.errors import SpecError, UserError
from runner.system.sanitize import has_secret

JOB_FILE = "job.json"
ENTRYPOINT = "python -m runner.cluster.entry"
"""The same for all jobs: Ray gives it to a shell."""

MOST_BYTES = 100 * 2**20
"""Files that go along are held in the memory of the cluster's head."""


def pack(spec: Spec, overrides: Sequence[str], runs_dir: str, options: Sequence[str], folder: Path) -> str:
    """Fill ``folder``; returns the fingerprint of what is asked for: equal jobs, equal names.

    :raises SpecError: with every model that is a folder here.
    :raises UserError: when the files are too large.
    """
    _refuse_local_models(spec)
    files = sorted({Path(os.path.abspath(path)) for path in _files(spec)})
    if (size := sum(path.stat().st_size for path in files)) > MOST_BYTES:
        raise UserError(
            "job.files-too-large",
            f"the files that the spec names relatively have {size / 2**20:.0f} MiB, and at most {MOST_BYTES // 2**20} "
            "go along with a job: put them where all nodes reach them, and name them by URL or absolute path",
        )
    base = Path(os.path.abspath(spec.base))
    root = Path(
        os.path.commonpath([base, *files, *(_highest(base, path) for path in _paths(spec) if is_packaged(spec, path))])
    )
    spec_name = Path(spec.source).name
    _copy_package(folder)
    (folder / "files" / base.relative_to(root)).mkdir(parents=True)
    (folder / "files" / base.relative_to(root) / spec_name).write_text(spec.text, encoding="utf-8")
    digests = {}
    for path in files:
        target = folder / "files" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        digests[os.path.relpath(path, base)] = hashlib.sha256(path.read_bytes()).hexdigest()
    at = Path("files", base.relative_to(root), spec_name).as_posix()
    arguments = ["run", at, "--runs-dir", runs_dir, *(f"--set={override}" for override in overrides), *options]
    job = {"tutelage": __version__, "arguments": arguments, "environment": _variables(spec)}
    (folder / JOB_FILE).write_text(json.dumps(job, indent=2), encoding="utf-8")
    return fingerprint([spec.to_dict(), digests, runs_dir])


def _paths(spec: Spec) -> Iterator[str]:
    """Every path of a file that the spec names, as written."""
    for _, source in spec.sources():
        if stored_as(source.path, source.format) != "hub":
            yield source.path
    if spec.benchmark.prices is not None:
        yield spec.benchmark.prices
    if spec.task.label_file is not None:
        yield spec.task.label_file


def _files(spec: Spec) -> Iterator[str]:
    for path in _paths(spec):
        if is_packaged(spec, path):
            where = str(spec.base / path)
            yield from [where] if os.path.lexists(where) else glob.glob(where, recursive=True)


def _highest(base: Path, path: str) -> Path:
    """The highest folder that a relative path passes through: ``../here/x.csv`` needs the one above, from here too."""
    ups = 0
    for part in Path(os.path.normpath(path)).parts:
        if part != "..":
            break
        ups += 1
    return base if not ups else base.parents[min(ups, len(base.parents)) - 1]


def _variables(spec: Spec) -> dict[str, str]:
    """What the spec's ``${TUTELAGE_...}`` stand for: the same places are meant on the cluster.

    An address with a password stays here: on the cluster it must stand in the environment of `ray start`.
    """
    named = {match[1] for path in _paths(spec) if (match := VARIABLE.match(path))}
    values = {name: value for name in sorted(named) if not has_secret(value := os.environ.get(name, ""))}
    return {name: value if "://" in value else str(Path(value).absolute()) for name, value in values.items()}


def _refuse_local_models(spec: Spec) -> None:
    problems = [
        spec.places.problem(
            at,
            "job.model-is-local",
            f"{model!r} is a folder here, and models do not go along with a job: name it by an absolute path that "
            "all nodes have, by its Hub name, or as catalog:NAME",
        )
        for at, model, _ in spec.models()
        if model.startswith((".", "~")) or (not os.path.isabs(model) and (spec.base / model).is_dir())
    ]
    if problems:
        raise SpecError(problems)


def _copy_package(folder: Path) -> None:
    package = Path(__file__).parents[1]
    # Without what Python wrote: the same code must be the same package, which the cluster may have already.
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
