"""A run folder that an earlier version wrote (``run/``, a noop teacher's, kept as it was): nothing is asked again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.cluster.cluster import Cluster
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.spec import Spec, load_spec
from runner.stages import pipeline
from runner.stages.contract import Context

KEPT = Path(__file__).parent / "run"
DATA_STAGES = ("load", "label", "vote")


class Nobody(Cluster):
    """A cluster on which nothing may be done."""

    def start(self) -> Any:
        raise AssertionError("Ray was started, though all answers are there")


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[Spec, Folder]:
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    return load_spec(tmp_path / "spec.yaml"), Folder(str(tmp_path / "folder"))


def test_finished_stages_are_kept(earlier: tuple[Spec, Folder]) -> None:
    cached = {step.stage.NAME: step.cached for step in pipeline.steps(*earlier)}
    assert {name: cached[name] for name in DATA_STAGES} == dict.fromkeys(DATA_STAGES, True)


def test_stored_answers_are_used_where_a_stage_is_done_again(earlier: tuple[Spec, Folder]) -> None:
    spec, run = earlier
    steps = [step for step in pipeline.steps(spec, run) if step.stage.NAME in DATA_STAGES]
    votes = steps[-1].folder.read_table("votes.parquet")
    for step in steps[1:]:
        context = Context(spec, run, step.folder, step.inputs, Nobody(), Progress(sys.stderr, "quiet"))
        pipeline.run_step(step, context)
    summary = (steps[1].folder.done or {})["summary"]
    assert (summary["rows"], summary["generated"]) == (9, 0)
    assert steps[-1].folder.read_table("votes.parquet").equals(votes)
