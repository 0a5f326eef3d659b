"""``tutelage try``: what it says of a few rows, and how it goes on after a change."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from stopping import Command

from runner.commands.cli import main
from runner.commands.try_show import wilson
from runner.data.reading import row_id
from runner.review.decisions import Decision, Writer, text_digest
from runner.stages import label
from runner.teacher.answer_store import answers_folder, pending, read_answers

LINE = "tutelage: stopped; what was finished is kept, the same command goes on from there\n"


def tried(job: Any, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["try", str(job.path), "--runs-dir", str(job.runs_dir), *words]) == 0
    return capsys.readouterr().out


def test_rows_are_shown_with_the_experts_value_and_counted(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    said = tried(job, capsys)
    assert "The plant is in Turku." in said and "answer: positive" in said
    assert "7 rows: negative 3, neutral 2, positive 2; all were answered before" in said
    assert "right on 3 of 3 rows that experts have labelled (100 %; 95 % interval 44 % to 100 %)" in said
    assert "these rows are of data.test" in said
    assert "against the version before" not in said


def test_the_next_version_is_compared_with_this_one_rows_that_changed_first(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(job, capsys)
    said = tried(job, capsys, "--set", "teacher.columns=[anna]")
    first, second = said.splitlines()[:2]
    assert first.startswith("neutral") and first.endswith("Costs rose sharply.")
    assert second.startswith("was negative") and second.endswith("answer: neutral")
    assert "against the version before: 1 of 7 rows have another value" in said
    assert "of 3 rows that experts have labelled 0 became right and 0 wrong" in said
    worse = tried(job, capsys, "--set", "teacher.columns=[carl]")
    assert "0 became right and 1 wrong: no more than chance (McNemar's exact test, p = 1)" in worse
    assert "under 6 such rows it can never be more: try more rows (--rows)" in worse


def test_json_has_all_of_it_on_one_line(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tried(job, capsys)
    (line,) = tried(job, capsys, "--json", "--set", "teacher.columns=[ben]", "--rows", "4").splitlines()
    told = json.loads(line)
    assert (told["event"], len(told["rows"]), told["asked"], told["calibrated"]) == ("try", 4, 0, True)
    assert told["compared"]["rows"] == 4 and told["compared"]["known"] == 2
    assert {"value", "probabilities", "reason", "answers", "why_not", "truth"} <= told["rows"][0].keys()


def test_where_nobody_has_labelled_a_text_nothing_is_said_of_how_good_it_is(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(job, capsys, "--set", "data.test=null")
    said = tried(job, capsys, "--set", "data.test=null", "--set", "teacher.columns=[anna]")
    assert "4 rows: " in said and "1 of 4 rows have another value" in said
    assert "right on" not in said and "McNemar" not in said and "data.test" not in said


def test_what_people_decided_in_a_review_counts_as_the_experts_word(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Costs rose sharply."
    decision = Decision(
        list="queue", id=row_id(text), digest=text_digest(text), action="label", value="positive", reviewer="ann"
    )
    Writer(job.run).append([decision])
    said = tried(job, capsys, "--set", "data.test=null")
    assert "expert: positive" in said and "right on 0 of 1 rows" in said


def test_a_wrong_spec_is_2_and_nothing_is_left(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    job.path.write_text(job.path.read_text().replace("labels:", "lables:"))
    assert main(["try", str(job.path), "--runs-dir", str(job.runs_dir)]) == 2
    assert "did you mean 'labels'?" in capsys.readouterr().err
    assert not job.runs_dir.exists()


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"), [(0, 3, 0.0, 0.5615), (3, 3, 0.4385, 1.0), (8, 10, 0.4902, 0.9433)]
)
def test_the_interval_is_wilsons(right: int, rows: int, low: float, high: float) -> None:
    """Figures of Wilson's interval from statsmodels' ``proportion_confint(method="wilson")``."""
    assert wilson(right, rows) == pytest.approx((low, high), abs=5e-4)


class Watching:
    """`tutelage try --watch` at work on a job's spec."""

    def __init__(self, job: Any, *words: str) -> None:
        self.path: Path = job.path
        self.command = Command(job.root, "try", "spec.yaml", "--watch", "--json", *words)

    def next(self) -> dict[str, Any]:
        """The next version that it tells."""
        assert self.command.until("try", None), self.command.said[-3000:]  # type: ignore[arg-type]
        return self.command.events[-1]

    def save(self, text: str) -> float:
        """Save as editors do: another file in the place of the old one; returns when."""
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.path)
        return time.monotonic()

    def until_said(self, words: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while words not in self.command.said:
            assert time.monotonic() < end and self.command.process.poll() is None, self.command.said[-3000:]
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Ctrl-C; the status, and the last line."""
        self.command.process.send_signal(signal.SIGINT)
        status = self.command.ended()
        return status, self.command.said.splitlines(keepends=True)[-1]


@pytest.mark.slow("subprocess")
def test_watching_goes_on_after_a_broken_spec_and_ends_with_ctrl_c(job: Any) -> None:
    watching = Watching(job)
    good = job.path.read_text()
    try:
        assert watching.next()["compared"] is None
        watching.save(good.replace("labels: [", "labels: [["))
        watching.until_said("spec.yaml:")
        assert watching.command.process.poll() is None
        watching.save(good.replace("[anna, ben, carl]", "[nobody]"))
        watching.until_said("nobody")
        watching.save(good.replace("[anna, ben, carl]", "[anna]"))
        told = watching.next()
        assert told["changed"] == ["teacher.columns"]
        assert list(told["compared"]["was"].values()) == ["negative"]
        watching.save(good)
        assert watching.next()["compared"]["rows"] == 7
        assert watching.end() == (130, LINE)
        assert watching.command.all_gone() == []
    finally:
        watching.command.kill()


LIVE = """\
version: 1
name: small
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence for an investor.
data:
  train: {path: train.csv}
  test: {path: test.csv, label: label}
teacher: {model: "catalog:smollm2-135m-instruct", max_context: 1024, engine_options: {dtype: float32}}
"""


@pytest.mark.slow("vllm")
@pytest.mark.parametrize("prompt", ["direct", "cot"])
def test_a_warm_engine_answers_a_changed_prompt_and_a_run_asks_nothing_again(job: Any, prompt: str) -> None:
    asks = {"cot": "prompt: cot, votes: 1, max_tokens: 24, ", "direct": ""}[prompt]
    live = LIVE.replace("teacher: {", "teacher: {" + asks)
    job.path.write_text(live)
    watching = Watching(job, "--rows", "6")
    try:
        first = watching.next()
        assert (len(first["rows"]), first["asked"], first["compared"]) == (6, 6, None)
        if prompt == "direct":  # shown before calibration's texts are answered, and again after
            assert (first["calibrated"], first["note"]) == (False, "before calibration")
            first = watching.next()
        assert first["calibrated"]
        begun = watching.save(live.replace("for an investor", "as cheerfully as you can"))
        second = watching.next()
        took = time.monotonic() - begun
        assert second["changed"] == ["task.instructions"] and second["asked"] == 6
        assert [row["id"] for row in second["rows"]] == [row["id"] for row in first["rows"]]
        second = watching.next() if prompt == "direct" else second
        assert second["version"] != first["version"] and second["compared"]["known"] == 3
        watching.save(live.replace("labels: [negative, ", "labels: [awful, "))
        watching.until_said("every row needs one of task.labels")
        watching.save(live.replace("positive]", "positive, mixed]"))
        third = watching.next()
        assert third["changed"] == ["task.labels", "task.instructions"] and third["asked"] == 6
        third = watching.next() if prompt == "direct" else third
        if prompt == "direct":
            assert all(len(row["probabilities"]) == 4 for row in third["rows"])
        watching.save(live)
        again = watching.next()
        assert (again["asked"], again["version"]) == (0, first["version"]), "what was answered is kept"
        assert watching.end() == (130, LINE)
        assert watching.command.said.count("model loaded in") == 1, "the engine was started once"
        assert watching.command.all_gone() == []
        assert took < 60
    finally:
        watching.command.kill()
    spec = job.spec()
    waiting = pending(spec, label.loaded_rows(job.do("load")), read_answers(answers_folder(job.run, spec)))
    assert len(waiting) == 7 - 6, "a run asks about the others alone"
