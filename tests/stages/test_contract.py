"""What a stage is: each of the table offers it, what it promises is checked, and other lists follow the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner.report import summary
from runner.report.gather import OPTIONAL
from runner.report.gather import STAGES as REPORTED
from runner.stages import pipeline

ROOT = Path(__file__).parents[2]
NAMES = [stage.NAME for stage in pipeline.STAGES]


@pytest.mark.parametrize("stage", pipeline.STAGES, ids=NAMES)
def test_a_stage_says_all_about_itself(stage: Any) -> None:
    assert stage.__name__ == f"runner.stages.{stage.NAME}"
    assert set(stage.NEEDS) <= set(NAMES[: NAMES.index(stage.NAME)]), "what it needs comes before it"
    assert stage.VERSION >= 1
    assert all(table is None or callable(table) or isinstance(table, pa.Schema) for table in stage.WRITES.values())
    assert stage.__doc__.startswith(f"{stage.NAME}: ")


def test_the_table_is_all_stages_there_are() -> None:
    others = {"__init__", "pipeline", "contract", "tables"}
    assert {path.stem for path in (ROOT / "runner" / "stages").glob("*.py")} - others == set(NAMES)


def test_the_loop_knows_no_stage_by_name() -> None:
    source = (ROOT / "runner" / "stages" / "pipeline.py").read_text("utf-8")
    after = source[source.index("FORMAT = ") :]
    assert not re.findall(rf"\b({'|'.join(NAMES)})\.\w+|[\"']({'|'.join(NAMES)})[\"']", after)


def test_a_job_has_the_stages_that_its_spec_wants(job: Any) -> None:
    def names(*changes: str) -> list[str]:
        return [step.stage.NAME for step in pipeline.steps(job.spec(*changes), job.run)]

    assert names() == [name for name in NAMES if name not in OPTIONAL]
    everything = ("student.export=[onnx]", "data.corpus={path: train.csv, text: text}", "audit.consensus=true")
    assert names(*everything) == NAMES


def test_demands_are_those_of_the_student_and_of_further_machines(job: Any) -> None:
    spec = job.spec("student.resources.workers=3", "benchmark.hardware=[{name: big, cpus: 2, price_per_hour: 1}]")
    asked = {
        stage.NAME: [(each.who, each.workers, each.at_start) for each in stage.demands(spec)]
        for stage in pipeline.STAGES
    }
    one = ("student.resources", 1, True)
    assert asked == {
        "load": [],
        "label": [],
        "vote": [],
        "audit": [one],
        "correct": [],
        "train": [("student.resources", 3, True)],
        "export": [one],
        "evaluate": [one],
        "benchmark": [one, ("benchmark.hardware 'big'", 1, False)],
        "apply": [one],
    }


@pytest.mark.parametrize(
    ("promised", "words"),
    [
        ({"nowhere.parquet": None}, "load has not written nowhere.parquet"),
        ({"train.parquet": pa.schema([("id", pa.string())])}, "load has written train.parquet in another schema"),
    ],
)
def test_what_a_stage_promises_is_checked(
    job: Any, monkeypatch: pytest.MonkeyPatch, promised: dict[str, Any], words: str
) -> None:
    load = pipeline.STAGES[0]
    monkeypatch.setattr(load, "WRITES", {**load.WRITES, **promised})
    with pytest.raises(RuntimeError, match=words):
        job.do("load")
    assert not pipeline.steps(job.spec(), job.run)[0].cached, "it does not count as done"


def test_other_lists_follow_the_table() -> None:
    assert list(REPORTED) == [name for name in NAMES if name not in OPTIONAL]
    assert [name for name in NAMES if name in summary.WARNING_STAGES] == list(summary.WARNING_STAGES)
    flow = re.search(r"^spec -> plan -> (.+) -> report$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert flow is not None
    assert flow[1].split(" -> ") == NAMES
