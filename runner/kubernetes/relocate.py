"""The spec as the pods read it: the same job, with its data where the cluster has them.

A pod sees no file of the machine that renders. So each local path becomes one on shared storage, a price table goes
along, and what must be put there first is said. The environment is not read: a path of ``${TUTELAGE_DATA}`` is known
by what stands behind it.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from runner.data.file_kinds import stored_as
from runner.kubernetes.options import MOUNT, RenderOptions, has_password, on_the_volume
from runner.kubernetes.yaml_text import to_yaml
from runner.models.reference import pull_name, resolve
from runner.spec import Spec, resolve_path
from runner.spec.fields import fill
from runner.spec.load import read_file
from runner.spec.model import Annotator, ExamplePool, TextSource
from runner.spec.paths import VARIABLE
from runner.spec.prices import prices_of
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import Problem, SpecError, UserError
from runner.system.paths import at_home

SPEC_FILE, PRICES_FILE = "spec.yaml", "prices.yaml"
MODELS_FOLDER = f"{MOUNT}/models"
MOST_BYTES = 1_000_000
"""In a ConfigMap Kubernetes takes 1 MiB, names and all."""

Source = TypeVar("Source", bound=TextSource)

_LATER: dict[str, tuple[str, ...]] = {
    "task": ("type", "out_of_scope"),
    "teacher": ("exhaustive", "shortlist"),
    "audit": (),
    "review": (),
}
"""Fields that came later, by section; without names the whole section."""

_HEAD = "# Written by `tutelage render`: the spec with its defaults, and with its data where the cluster has them.\n"


@dataclass(frozen=True)
class RelocatedSpec:
    """``files`` are those of the ConfigMap, by name; ``needs`` says what must be there before the job starts."""

    spec: Spec
    files: dict[str, str]
    needs: tuple[str, ...]


def relocate_for_pods(spec: Spec, options: RenderOptions) -> RelocatedSpec:
    """Rewrite ``spec`` for the pods.

    :raises SpecError: with every path and model that no pod could reach.
    :raises UserError: when it is too large for a ConfigMap.
    """
    places = _Places(spec, options.data_dir)
    data, task, evaluate = spec.data, spec.task, spec.evaluate
    moved = replace(
        spec,
        data=replace(
            data,
            train=places.source(("data", "train", "path"), data.train),
            test=data.test and places.source(("data", "test", "path"), data.test),
            corpus=data.corpus and places.source(("data", "corpus", "path"), data.corpus),
        ),
        task=replace(task, examples=places.pool(task.pool) if task.pool else task.examples),
        evaluate=replace(
            evaluate, compare={name: places.annotator(name, annotator) for name, annotator in evaluate.compare.items()}
        ),
    )
    needs, problems = _models(spec)
    if places.problems or problems:
        raise SpecError([*places.problems, *problems])
    files = {}
    if spec.benchmark.prices is not None:
        prices_of(spec)  # a table that is wrong is said here, not in the cluster
        files[PRICES_FILE] = read_file(str(Path(resolve_path(spec, spec.benchmark.prices)))).decode()
        moved = replace(moved, benchmark=replace(moved.benchmark, prices=PRICES_FILE))
    files = {SPEC_FILE: _HEAD + to_yaml(_written(moved)), **files}
    size = sum(len(text.encode()) for text in files.values())
    if size > MOST_BYTES:
        raise UserError(
            "kubernetes.spec-too-large",
            f"{spec.source}: {size:,} bytes with its price table, and a ConfigMap holds {MOST_BYTES:,}: "
            "put long examples into a file (task.examples.from)",
        )
    servers = [each.teacher.endpoint for each in spec.teachers() if each.teacher.endpoint]
    needs += [f"{server}: the teacher's server, within what the network lets the pods reach" for server in servers]
    return RelocatedSpec(moved, files, (*dict.fromkeys(places.needs), *needs))


def _written(spec: Spec) -> dict[str, Any]:
    """The spec as data, without what an image of before does not know, where that is as by default."""
    written, default = spec.to_dict(), fill({section: {} for section in _LATER})
    for section, names in _LATER.items():
        for name in names:
            if written[section][name] == default[section][name]:
                del written[section][name]
        if not names and written[section] == default[section]:
            del written[section]
    return written


@dataclass
class _Places:
    """Where each path of the spec lies in the cluster; problems and needs are collected on the way."""

    spec: Spec
    data_dir: str
    problems: list[Problem] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    _moved: dict[str, str] = field(default_factory=dict)

    def source(self, at: KeyPath, source: Source) -> Source:
        return replace(source, path=self._place(at, source.path, source.format))

    def pool(self, pool: ExamplePool) -> ExamplePool:
        return replace(pool, from_=self._place(("task", "examples", "from"), pool.from_))

    def annotator(self, name: str, annotator: Annotator) -> Annotator:
        return replace(annotator, path=self._place(("evaluate", "compare", name, "path"), annotator.path))

    def _place(self, at: KeyPath, path: str, form: str = "auto") -> str:
        if stored_as(path, form) == "hub":
            self.needs.append(f"{path}: this data set in the Hub's cache, {MODELS_FOLDER}/huggingface")
            return path
        local = path.removeprefix("file://")
        if has_password(local):
            self._problem(
                at,
                "kubernetes.option-has-password",
                "no user or password may stand in a manifest; put them into a Secret (--secret NAME)",
            )
        if "://" in local:
            return path
        local = at_home(local, self.spec.base)
        place = self._absolute(at, local) if local.startswith("/") else self._below(at, local)
        self.needs.append(f"{place}: the file that the spec calls {path!r}")
        return place

    def _absolute(self, at: KeyPath, path: str) -> str:
        if not on_the_volume(path):
            advice = f"put it on shared storage and name it there: --set {'.'.join(map(str, at))}={MOUNT}/..."
            self._problem(
                at,
                "kubernetes.path-not-shared",
                f"{path!r} is on this machine, where no pod sees it: {advice}, or a URL",
            )
        return posixpath.normpath(path)

    def _below(self, at: KeyPath, path: str) -> str:
        """A path that is relative, to the spec or to a variable's folder, below the data's folder in the cluster."""
        variable = VARIABLE.match(path)
        rest = posixpath.normpath(path[variable.end() :].lstrip("/") if variable else path)
        if rest.startswith(".."):
            self._problem(
                at,
                "kubernetes.path-outside",
                f"{path!r} leads out of the spec's folder: name the place in the cluster with --set",
            )
        if self._moved.setdefault(rest, path) != path:
            self._problem(
                at,
                "kubernetes.paths-collide",
                f"{path!r} and {self._moved[rest]!r} would be one file in the cluster: rename one",
            )
        return f"{self.data_dir.rstrip('/')}/{rest}"

    def _problem(self, at: KeyPath, code: str, message: str) -> None:
        self.problems.append(self.spec.places.problem(at, code, message))


def _models(spec: Spec) -> tuple[list[str], list[Problem]]:
    """What must be pulled before, and the models that are folders of this machine."""
    pulled: dict[str, None] = {}
    folders, problems = [], []
    for at, name, revision in spec.models():
        kind = resolve(name, revision, spec.base)
        if not isinstance(kind, Path):
            pulled[pull_name(name, revision)] = None
        elif name.startswith("/") and on_the_volume(name):
            folders.append(f"{posixpath.normpath(name)}: the model's folder")
        else:
            message = f"{name!r} is a folder on this machine, where no pod sees it: copy it to {MOUNT}/... and --set it"
            problems.append(spec.places.problem(at, "kubernetes.model-is-local", message))
    if pulled:
        folders.append(f"{MODELS_FOLDER}: the models, by `tutelage models pull {' '.join(pulled)}`")
    return folders, problems
