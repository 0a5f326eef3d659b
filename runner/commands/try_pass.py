"""One look at the spec and its rows after another, for ``tutelage try``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from runner.cluster.cluster import Cluster
from runner.commands.output import on_terminal, put
from runner.commands.spec_and_run import run_folder
from runner.commands.try_show import Shown, show
from runner.observe.progress import Progress
from runner.planning import versions
from runner.planning.check import check_models
from runner.planning.files import check_spec
from runner.planning.trial import Trial, is_calibrated, label_few, version_of
from runner.rundir.lock import locked
from runner.spec import Spec, load_spec
from runner.spec.paths import resolve_path
from runner.stages import label, pipeline
from runner.system.errors import SpecError, TutelageError
from runner.system.paths import at_home
from runner.tasks.kinds import task_of

LOOK_SECONDS = 0.1
"""From one look at the watched files to the next; a change counts once two looks in a row find the same."""


@dataclass
class Trying:
    """What stays from one version of the spec to the next."""

    path: str
    overrides: Sequence[str]
    runs_dir: str
    rows: int
    as_json: bool
    cluster: Cluster
    stream: IO[str]
    _last: Spec | None = field(default=None, init=False)

    def once(self, quick: bool = False) -> None:
        """Label what was not labelled before, and show it all.

        ``quick``: show the values before calibration's own texts are asked about, and what calibration changes after.

        :raises TutelageError: when the spec is wrong, or cannot be tried.
        """
        begun = time.monotonic()
        before, spec = self._last, self._read()
        run = run_folder(spec, self.runs_dir)
        progress = Progress(sys.stderr, "json" if self.as_json else "terminal" if _on_terminal() else "plain")
        with locked(run, progress.say), progress.recorded(run, "try"):
            context = pipeline.run_up_to(label.NAME, spec, run, self.cluster, progress)
            old = versions.before(run, version_of(spec))
            changed = _changed(before, spec) if before else []
            first = None
            if quick and is_calibrated(spec):
                first = label_few(context, self.rows, calibrated=False)
                self._show(spec, first, old, changed, begun)
            trial = label_few(context, self.rows)
            versions.keep(run, trial)
        self._last = spec
        self._show(spec, _with_asked(trial, first), old, changed, begun, first)

    def watched_files(self) -> list[str]:
        """The spec, and the file from which its examples are chosen."""
        files = [at_home(self.path)]
        if self._last and self._last.task.pool:
            files.append(resolve_path(self._last, self._last.task.pool.from_))
        return files

    def _read(self) -> Spec:
        """The spec, whose files are looked at where it names others than before."""
        if self._last is not None:
            spec = load_spec(at_home(self.path), self.overrides)
            if _cells(spec) == _cells(self._last) and not spec.task.pool:
                if spec.teacher != self._last.teacher or spec.task != self._last.task:
                    check_models(spec, elsewhere=self.cluster.address is not None)
                return spec
        spec = check_spec(at_home(self.path), self.overrides)
        check_models(spec, elsewhere=self.cluster.address is not None)
        return spec

    def _show(
        self,
        spec: Spec,
        trial: Trial,
        old: dict[str, Any] | None,
        changed: list[str],
        begun: float,
        first: Trial | None = None,
    ) -> None:
        comparison = versions.compare(spec, old, trial) if old is not None else None
        seconds = time.monotonic() - begun
        show(Shown(spec, trial, comparison, changed, seconds, first), self.as_json, self.stream)


def watched(trying: Trying) -> None:
    """Try again after each change of the spec, until a signal stops it. What is wrong with a version is said, and the
    next is waited for."""
    seen = _contents(trying.watched_files())
    while True:
        try:
            trying.once(quick=True)
        except TutelageError as error:
            put(f"{error}" if isinstance(error, SpecError) else f"tutelage: {error}", sys.stderr)
        if not trying.as_json:
            put(f"\nwatching {trying.path}: save a change to see what it changes, Ctrl-C ends")
        seen = _changed_contents(trying.watched_files(), seen)


def _with_asked(trial: Trial, first: Trial | None) -> Trial:
    """``asked`` of both looks together."""
    return replace(trial, asked=trial.asked + first.asked) if first else trial


def _changed(before: Spec, now: Spec) -> list[str]:
    """The fields of the second level that are others now: ``task.instructions``."""
    old, new = before.to_dict(), now.to_dict()
    parts = [(name, key) for name, part in new.items() if isinstance(part, dict) for key in part]
    return [f"{name}.{key}" for name, key in parts if (old.get(name) or {}).get(key) != new[name][key]]


def _on_terminal() -> bool:
    return on_terminal() and sys.stderr.isatty()


Contents = dict[str, bytes | None]
"""What stands in the watched files; None for one that is not there, as while an editor puts another in its place."""


def _contents(files: Sequence[str]) -> Contents:
    return {file: _content(file) for file in files}


def _content(file: str) -> bytes | None:
    try:
        with open(file, "rb") as handle:
            return handle.read()
    except OSError:
        return None


def _changed_contents(files: Sequence[str], seen: Contents) -> Contents:
    """Wait until the files are others than they were ``seen``, for two looks in a row, and return what stands there."""
    seen = _contents(files) | {file: seen[file] for file in files if file in seen}
    before = seen
    while True:
        time.sleep(LOOK_SECONDS)
        now = _contents(files)
        if now == before and now != seen and None not in now.values():
            return now
        before = now


def _cells(spec: Spec) -> tuple[Any, ...]:
    """Which cells of which files a spec reads, and how."""
    return spec.data, spec.task.type, task_of(spec).gold.key(spec)
