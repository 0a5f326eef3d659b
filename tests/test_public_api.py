"""The public Python API: exactly these names, on a run that finished and on one that has not, wherever it lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

import runner
from runner.publish.opened_run import Run, Student
from runner.rundir.folder import Folder
from runner.stages import pipeline
from runner.system.errors import UserError

REPOSITORY = Path(__file__).parents[1]
EARLIER = REPOSITORY / "tests" / "golden" / "run" / "folder"
LABELS = ["negative", "neutral", "positive"]
TEXTS = ["Profit fell by half.", " ", "Orders grew again."]


def public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_these_are_the_public_names() -> None:
    assert set(runner.__all__) == {"__version__", "open_run"}
    assert public(vars(Run)) == {"votes", "predictions", "failures", "report", "student"}
    assert public(vars(Student)) == {"predict"}
    page = (REPOSITORY / "docs" / "notebooks.md").read_text(encoding="utf-8")
    for name in ("open_run(", "run.votes", "run.predictions", "run.failures", "run.report", "student.predict("):
        assert f"`{name}" in page, name


@pytest.mark.slow("subprocess")
def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, runner\n"
        "print([name for name in ('numpy', 'pandas', 'pyarrow', 'fsspec', 'ray', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def in_memory(folder: Path) -> str:
    """A copy of a run folder on fsspec's file system in memory."""
    url = f"memory://{uuid.uuid4().hex}/run"
    fsspec.filesystem("memory").put(str(folder), url, recursive=True)
    return url


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("place", [str, in_memory], ids=["disk", "memory"])
def test_a_run_that_has_not_finished_gives_what_is_there(tmp_path: Path, place: Any) -> None:
    folder = shutil.copytree(EARLIER, tmp_path / "run")
    before = files(folder)
    run = runner.open_run(place(folder))
    (votes,) = (pq.read_table(path).to_pylist() for path in folder.glob("vote/*/votes.parquet"))
    assert run.votes[["id", "split", "text"]].to_dict("records") == [
        {name: row[name] for name in ("id", "split", "text")} for row in votes
    ]
    assert isinstance(run.failures, pd.DataFrame) and list(run.failures) == ["id", "split", "text", "reason"]
    assert "not finished; done: load, label, vote" in repr(run)
    for ask in (lambda: run.predictions, lambda: run.report, run.student):
        with pytest.raises(UserError, match=r"this run has not finished yet \(done: load, label, vote\)"):
            ask()
    assert files(folder) == before


def test_an_attempt_after_an_edit_counts_by_its_events(job: Any) -> None:
    first = job.do("vote")
    second = job.do("vote", "task.instructions=Label this sentence.", "teacher.columns=[anna, ben]")
    assert first.url != second.url
    with pytest.raises(UserError, match="no stage of this run is known to have finished"):
        runner.open_run(job.run.url)  # two versions of each, and no events
    steps = {step.stage.NAME: step.fingerprint for step in pipeline.steps(job.spec(), job.run)}
    events: list[dict[str, Any]] = [{"event": "run_started"}]
    events += [{"event": "stage_done", "stage": "vote", "fingerprint": second.name}]
    events += [{"event": "run_started"}]
    events += [{"event": "stage_kept", "stage": name, "fingerprint": steps[name]} for name in ("load", "label", "vote")]
    job.run.write("events.jsonl", "".join(json.dumps(event) + "\n" for event in events).encode())
    assert len(runner.open_run(job.run.url).votes) == first.read_table("votes.parquet").num_rows
    assert runner.open_run(job.run.url)._fingerprints["vote"] == first.name


def test_errors_say_what_to_do(job: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is there; give the run folder that `tutelage run` printed"):
        runner.open_run(tmp_path / "nowhere")
    job.run.write_json("run.json", {"format": 1, "stages": []})
    with pytest.raises(UserError, match="holds several runs; open one of them: small"):
        runner.open_run(job.runs_dir)
    job.run.write_json("run.json", {"format": 99, "stages": []})
    with pytest.raises(UserError, match="newer tutelage"):
        runner.open_run(job.run.url)
    Folder(str(tmp_path / "begun" / "load" / "f")).write("train.parquet", b"")
    with pytest.raises(UserError, match="no stage of this run is known to have finished"):
        runner.open_run(tmp_path / "begun")


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, job_in: Any) -> Path:
    """The folder of a small job, as ``tutelage run`` leaves it."""
    job = job_in(tmp_path_factory.mktemp("finished"))
    job.csv("train.csv", [(f"It grew in {n}.", "", *["positive" if n % 2 else "neutral"] * 3) for n in range(40)])
    changes = (f"student.model={tiny_model}", "student.recipe=fast", "student.epochs=1")
    words = [word for change in changes for word in ("--set", change)]
    subprocess.run(
        [sys.executable, "-m", "runner", "run", str(job.path), "--runs-dir", str(job.runs_dir), *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        check=True,
        timeout=500,
    )
    return Path(job.run.url)


@pytest.mark.slow("ray")
@pytest.mark.parametrize("place", [str, in_memory], ids=["disk", "memory"])
def test_a_finished_run(finished: Path, place: Any) -> None:
    before = files(finished)
    run = runner.open_run(place(finished))
    assert run.report == json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert len(run.votes) == 43 and len(run.failures) == 0
    assert {"text", "label", "teacher_label", "student_label", "student_probabilities"} <= set(run.predictions)

    student = run.student()
    given = student.predict(TEXTS)
    columns = [f"probability_{label}" for label in LABELS]
    assert list(given) == ["text", "label", "probability", *columns] and list(given.text) == TEXTS
    assert given.label.isna().tolist() == [False, True, False] == given.probability.isna().tolist()
    assert given[columns].sum(axis=1).round(3).tolist() == [1, 0, 1]
    for row in given.dropna().itertuples():
        assert row.probability == max(row[4:]) and row.label == LABELS[row[4:].index(row.probability)]
    test = run.predictions
    assert student.predict(test.text).label.tolist() == test.student_label.tolist()
    assert list(student.predict([])) == list(given)
    for wrong in ("one text", [1], [None]):
        with pytest.raises(TypeError, match="texts must be"):
            student.predict(wrong)
    assert files(finished) == before


@pytest.mark.slow("ray")
def test_what_was_removed_is_said(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    for path in (*folder.glob("vote/*"), *folder.glob("train/*")):
        shutil.rmtree(path)
    (folder / "report.json").unlink()
    run = runner.open_run(folder)
    with pytest.raises(UserError, match=r"votes\.parquet: missing; run the spec again"):
        _ = run.votes
    with pytest.raises(UserError, match="`tutelage report RUN` writes it again"):
        _ = run.report
    with pytest.raises(UserError, match="the run's student is gone"):
        run.student()
