"""A run folder for notebooks: tables as pandas DataFrames, the report, and the student. The public Python API.

It only reads: nothing is written into the run folder, no lock is taken, and Ray is not started. pandas and torch are
loaded when they are first needed. docs/notebooks.md documents the names; tests/test_public_api.py keeps them stable.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from runner.observe.events import read_events
from runner.rundir.folder import Folder
from runner.stages import correct, evaluate, label, pipeline, vote
from runner.student.trained import LoadedStudent, StudentRef, student_of_run
from runner.system.errors import UserError
from runner.system.paths import absolute
from runner.system.sanitize import without_secrets
from runner.tasks.kinds import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Open a run folder: a path, or a URL of any file system that fsspec knows, such as ``s3://bucket/runs/NAME``.

    What is opened is the last finished run in the folder. Where none has finished yet, it is the stages that have
    finished so far, so that the votes of a run that is still training can be read.

    :raises UserError: when there is no run, a newer version has written it, or the storage cannot be used.
    """
    run = Folder(absolute(os.fspath(folder)).rstrip("/"))
    pipeline.check_format(run)
    record = run.read_json("run.json") if run.exists("run.json") else None
    fingerprints = _recorded(record) if record else _finished_so_far(run)
    if not fingerprints:
        raise _no_run(run)
    return Run(run, record, fingerprints)


class Run:
    """A run as it was when it was opened; each table is read once, on first use.

    A table or report that is not there raises ``UserError``, which says why and what to do.
    """

    def __init__(self, folder: Folder, record: dict[str, Any] | None, fingerprints: dict[str, str]) -> None:
        """Made by :func:`open_run`; ``fingerprints`` names the folder of each finished stage."""
        self._folder, self._record, self._fingerprints = folder, record, fingerprints

    def __repr__(self) -> str:
        state = "finished" if self._record else f"not finished; done: {', '.join(self._fingerprints)}"
        return f"<run {without_secrets(self._folder.url)} ({state})>"

    @cached_property
    def votes(self) -> pd.DataFrame:
        """The teacher's verdict on each row of train and test, with its probabilities, or why it abstained.

        Where people have corrected labels, theirs stand in their place.
        """
        stage = correct.NAME if correct.NAME in self._fingerprints else vote.NAME
        return self._table(stage, "votes.parquet")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The test rows: the experts' label, the teacher's, and the student's with its probabilities."""
        return self._table(evaluate.NAME, "predictions.parquet")

    @cached_property
    def failures(self) -> pd.DataFrame:
        """The rows for which the teacher gave no usable answer, and why; empty where there are none."""
        return self._table(label.NAME, "failures.parquet")

    @cached_property
    def report(self) -> dict[str, Any]:
        """``report.json`` as a dict."""
        if not self._folder.exists("report.json"):
            if self._record is None:
                raise self._not_finished()
            raise UserError(
                "run.report-missing", f"{self._url}: its report is missing; `tutelage report RUN` writes it again"
            )
        report: dict[str, Any] = self._folder.read_json("report.json")
        return report

    def student(self) -> Student:
        """Load the student into this process, in the runtime that the run chose, as ``tutelage predict`` does.

        :raises UserError: when the run has not finished, or the student or its runtime is missing.
        """
        if self._record is None:
            raise self._not_finished()
        return Student(student_of_run(self._folder, self._record))

    @property
    def _url(self) -> str:
        return without_secrets(self._folder.url)

    def _not_finished(self, what: str = "") -> UserError:
        """The error for ``what`` a run has not written yet."""
        done = ", ".join(self._fingerprints)
        message = f"{self._url}: {what}this run has not finished yet (done: {done}); open it again when it has"
        return UserError("run.not-finished", message)

    def _table(self, stage: str, name: str) -> pd.DataFrame:
        if stage not in self._fingerprints:
            raise self._not_finished(f"{name} is written by stage {stage}, and ")
        place = self._folder.child(stage, self._fingerprints[stage])
        if not place.exists(name):
            raise UserError(
                "run.file-missing", f"{without_secrets(place.path(name))}: missing; run the spec again to restore it"
            )
        return place.read_table(name).to_pandas()


class Student:
    """A loaded student."""

    def __init__(self, model: StudentRef) -> None:
        """Made by :meth:`Run.student`."""
        self._student: LoadedStudent = model.open()
        self._predictions = TASKS[model.kind].predictions

    def predict(self, texts: Iterable[str]) -> pd.DataFrame:
        """Label texts. One row for each, in order, with the columns that ``tutelage predict`` writes.

        These are ``text``, ``label``, ``probability`` (of that label) and ``probability_<label>`` for each label.
        Blank texts, and those whose answer is not a finite number, have no label and no probabilities.

        :raises TypeError: when ``texts`` is one string, or holds something that is not a string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of strings, not one string")
        texts = list(texts)
        if wrong := {type(text).__name__ for text in texts if not isinstance(text, str)}:
            raise TypeError(f"texts must be strings, not {', '.join(sorted(wrong))}")
        outputs = self._student.outputs
        probabilities = self._student.predict(texts) if texts else np.empty((0, len(outputs)), np.float32)
        decision = self._student.decision
        values = self._predictions.values(outputs, probabilities, decision)
        silent = [value is None or not text.strip() for text, value in zip(texts, values, strict=True)]
        columns = self._predictions.columns(outputs, probabilities, np.array(silent, bool), decision)
        return pa.table({"text": pa.array(texts, pa.string())} | columns).to_pandas()


def _recorded(record: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["fingerprint"] for stage in record["stages"]}


def _finished_so_far(run: Folder) -> dict[str, str]:
    """The fingerprints of the stages that the last attempt has finished or kept, by its events.

    Without events, as where they are not uploaded yet: of stages that are there in one version only.
    """
    fingerprints: dict[str, str] = {}
    for event in read_events(run):
        if event.get("event") == "run_started":
            fingerprints = {}
        elif event.get("event") in ("stage_done", "stage_kept"):
            fingerprints[event["stage"]] = event["fingerprint"]
    if fingerprints:
        return fingerprints
    for name in (stage.NAME for stage in pipeline.STAGES):
        finished = [version for version in run.child(name).folders() if run.child(name, version).done is not None]
        if len(finished) == 1:
            fingerprints[name] = finished[0]
    return fingerprints


def _no_run(run: Folder) -> UserError:
    url = without_secrets(run.url)
    inside = [name for name in run.folders() if run.child(name).exists("run.json")]
    if inside:
        return UserError("run.several-inside", f"{url}: holds several runs; open one of them: {', '.join(inside)}")
    if any(stage.NAME in run.folders() for stage in pipeline.STAGES):
        return UserError(
            "run.nothing-finished", f"{url}: no stage of this run is known to have finished; open it again later"
        )
    return UserError("run.not-found", f"{url}: no run is there; give the run folder that `tutelage run` printed")
