"""train: what is said before anything is learned; the training itself is in test_training.py."""

from __future__ import annotations

from typing import Any

from runner import pipeline
from runner.stages import train


def rows(*labels: str) -> list[dict[str, Any]]:
    return [{"label": label, "text": f"text {number}"} for number, label in enumerate(labels)]


def test_a_label_whose_only_rows_are_held_out_is_named(job: Any) -> None:
    given = rows("positive", "negative", "positive", "negative", "positive")
    [warning] = train._unlearnable(job.spec(), given, [0, 2, 4])
    assert warning.startswith("the only 2 rows of negative are held out to choose the epoch")
    assert "(the first: 'text 1')" in warning


def test_labels_that_can_be_learned_or_were_never_given_are_not_named(job: Any) -> None:
    assert train._unlearnable(job.spec(), rows("positive", "negative", "positive"), [0, 1]) == []


def test_the_number_of_workers_makes_another_student_and_cores_do_not(job: Any) -> None:
    def fingerprint(*overrides: str) -> str:
        [step] = [step for step in pipeline.steps(job.spec(*overrides), job.run) if step.stage is train]
        return step.fingerprint

    one = fingerprint()
    assert fingerprint("student.resources.cpus=1") == one
    assert fingerprint("student.resources.workers=2") != one
    assert fingerprint("student.accumulate=2") != one
