"""train: what is said before anything is learned; the training itself is in test_training.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.cluster.cluster import Cluster
from runner.stages import pipeline, train
from runner.student import recipes
from runner.student.training_plan import TrainingPlan


def test_the_number_of_workers_makes_another_student_and_cores_do_not(job: Any) -> None:
    def fingerprint(*overrides: str) -> str:
        [step] = [step for step in pipeline.steps(job.spec(*overrides), job.run) if step.stage is train]
        return step.fingerprint

    one = fingerprint()
    assert fingerprint("student.resources.cpus=1") == one
    assert fingerprint("student.resources.workers=2") != one
    assert fingerprint("student.accumulate=2") != one


class Here(Cluster):
    """Trains for real, in this process: what Ray Train would be handed is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[dict[str, Any]] = []

    def train(self, loop: Any, config: dict[str, Any], *where: Any) -> dict[str, Any]:
        self.trained.append(config)
        found: dict[str, Any] = loop(config, lambda said: None)
        return found


@pytest.fixture
def many(job: Any, tiny_model: Path) -> Any:
    """A job of 60 train rows, whose student is a tiny encoder."""
    words = {"positive": "Profit rose", "negative": "Profit fell", "neutral": "It stayed"}
    job.csv("train.csv", [(f"{said} in {1900 + i}.", *[label] * 4) for i in range(20) for label, said in words.items()])
    job.student = (f"student.model={tiny_model}", "student.epochs=4", "student.learning_rate=0.003")
    job.do("vote", *job.student)
    return job


def trained(job: Any, cluster: Here, *overrides: str) -> tuple[Any, dict[str, Any]]:
    context = replace(job.context("train", job.spec(*job.student, *overrides)), cluster=cluster)
    return context, train.run(context)


@pytest.mark.usefixtures("one_thread")
def test_best_learns_from_students_that_did_not_see_the_row(many: Any) -> None:
    cluster = Here()
    context, result = trained(many, cluster, "student.recipe=best")
    *folds, last = cluster.trained
    assert len(folds) == recipes.FOLDS and result["recipe"] == "best"
    texts = set(last["train"]["texts"])
    asked = [text for config in folds for text in config["asked"]]
    assert len(asked) == len(texts) and set(asked) == texts
    for config in folds:
        seen = set(config["train"]["texts"])
        assert not seen & set(config["asked"]) and seen | set(config["asked"]) == texts
        assert not texts & set(config["held_out"]["texts"])
        assert "save_to" not in config
    given = np.array(
        [[label in text.split() for label in ("fell", "stayed", "rose")] for text in last["train"]["texts"]]
    )
    assert (last["train"]["targets"].argmax(axis=1) == given.argmax(axis=1)).all()  # all of them learn it
    assert last["train"]["targets"].max() < 0.999  # but are less sure than the teacher
    assert context.here.exists("student/model.safetensors")
    assert not context.run.child("checkpoints").folders()


@pytest.mark.usefixtures("one_thread")
def test_students_that_were_asked_already_are_not_trained_again(many: Any) -> None:
    first, second = Here(), Here()

    def stopped(*arguments: Any) -> Any:
        if len(first.trained) == 2:
            raise KeyboardInterrupt
        return Here.train(first, *arguments)

    first.train = stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trained(many, first, "student.recipe=best")
    trained(many, second, "student.recipe=best")
    assert len(first.trained) == 2 and len(second.trained) == recipes.FOLDS + 1 - 2


def test_plans_count_what_a_recipe_trains(job: Any) -> None:
    def plan(*overrides: str) -> TrainingPlan:
        return TrainingPlan(job.spec("student.epochs=10", *overrides).student, 1000, 3, None)

    assert plan().texts_learned == plan("student.recipe=lp-ft").texts_learned == 10_000
    assert plan("student.recipe=head").texts_learned == 1000
    assert plan("student.recipe=best").texts_learned == 10_000 + 4 * 750 * 5
    assert plan("student.search.trials=3").texts_tried == 30_000
