"""A job without experts' labels, a review through csv, and the job again: on Ray, by the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from runner.commands.cli import main

pytestmark = pytest.mark.slow("ray")

WORDS = ("loss", "plant", "record")
LABELS = ("negative", "neutral", "positive")
ROWS, WRONG_EACH, SAMPLE = 60, 5, 10


def truth(number: int) -> str:
    return LABELS[number % 3]


def text(number: int) -> str:
    return f"{WORDS[number % 3]} {WORDS[number % 3]} number {number}"


@pytest.fixture(scope="module")
def job(job_in: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A job whose teacher is wrong on each fifth row, run once."""
    job = job_in(tmp_path_factory.mktemp("review"))
    given = [LABELS[(number + (number % WRONG_EACH == 0)) % 3] for number in range(ROWS)]
    job.csv("train.csv", [(text(n), "", label, label, label) for n, label in enumerate(given)])
    written = job.path.read_text("utf-8")
    lines = [line for line in written.splitlines() if not line.startswith("  test:")]
    job.path.write_text("\n".join([*lines, f"review: {{audit: {{rows: {SAMPLE}}}}}"]) + "\n", "utf-8")
    assert run(job, tiny_model) == 0
    return job


def run(job: Any, model: Path) -> int:
    overrides = [f"student.model={model}", "student.recipe=head", "student.precision=fp32", "evaluate.resamples=100"]
    words = [word for override in overrides for word in ("--set", override)]
    return main(["run", str(job.path), "--runs-dir", str(job.runs_dir), "--quiet", *words])


def report(job: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(job.run.url) / "report.json").read_text("utf-8"))
    return found


def review(job: Any, *words: str) -> int:
    return main(["review", str(job.run.url), "--quiet", *words])


def exported(job: Any) -> list[dict[str, str]]:
    with open(job.root / "out.csv", encoding="utf-8-sig", newline="") as handle:
        return list(csv.DictReader(handle))


def test_01_a_first_run_claims_nothing(job: Any) -> None:
    found = report(job)
    assert found["evaluate"]["rows"] == 0 and found["rows"]["test"] == 0
    assert found["evaluate"]["held_out"]["rows"] == 6
    assert found["review"] is None
    page = (Path(job.run.url) / "report.html").read_text("utf-8")
    assert "not measured yet" in page and "tutelage review RUN" in page


def test_02_rows_go_out_and_the_sample_is_blind(job: Any) -> None:
    assert review(job, "--export", "csv", "-o", str(job.root / "out.csv")) == 0
    rows = exported(job)
    sample, queue = ([row for row in rows if row["list"] == name] for name in ("sample", "queue"))
    assert (len(sample), len(queue)) == (SAMPLE, ROWS - SAMPLE)
    assert {row["teacher"] for row in sample} == {""} and {row["teacher"] for row in queue} <= set(LABELS)
    assert not {row["text"] for row in sample} & {row["text"] for row in queue}


def test_03_decisions_come_back_once(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = exported(job)
    for row in rows:
        row["label"] = truth(int(row["text"].rsplit(" ", 1)[1]))
    with open(job.root / "in.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert review(job, "--import", str(job.root / "in.csv"), "--reviewer", "ada") == 0
    assert f"taken in: {ROWS}" in capsys.readouterr().out
    assert review(job, "--import", str(job.root / "in.csv"), "--reviewer", "ada") == 0
    assert "taken in: 0" in capsys.readouterr().out


def test_04_the_job_measures_and_learns_and_asks_nothing(job: Any, tiny_model: Path) -> None:
    before = {stage["name"]: stage["fingerprint"] for stage in report(job)["stages"]}
    assert run(job, tiny_model) == 0
    found = report(job)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert [stages[name]["cached"] for name in ("load", "label", "vote")] == [True, True, True]
    assert stages["train"]["fingerprint"] != before["train"]
    assert found["evaluate"]["population"] == ROWS and found["evaluate"]["rows"] == SAMPLE
    low, high = found["evaluate"]["teacher"]["ci95"]["accuracy"]
    assert 0 < low < found["evaluate"]["teacher"]["accuracy"] < high < 1
    assert found["review"]["corrected"] == found["train"]["rows"] + found["train"]["held_out"] == ROWS - SAMPLE
    assert found["review"]["decisions"]["queue"]["changed"] == found["review"]["changed"]
    assert found["review"]["changed"] >= ROWS // WRONG_EACH - SAMPLE, "the sample cannot have all that is wrong"
    card = (Path(job.run.url) / "cards" / "data.md").read_text("utf-8")
    assert f"People have looked at {ROWS - SAMPLE} of them" in card


def test_05_no_rerun_loses_a_decision(job: Any, tiny_model: Path) -> None:
    kept = sorted((Path(job.run.url) / "review" / "decisions").iterdir())
    content = [file.read_bytes() for file in kept]
    assert run(job, tiny_model) == 0
    assert [file.read_bytes() for file in kept] == content
    assert all(stage["cached"] for stage in report(job)["stages"])


def test_06_a_folder_without_a_run_is_refused_in_words(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", str(job.root)]) == 1
    assert "no finished run is there" in capsys.readouterr().err
    assert main(["review", str(job.run.url), "--export", "csv"]) == 2
