"""The trainings of one student, started one after the other on the cluster's workers. Knows no torch.

Checkpoints and what is known so far lie in ``checkpoints/<fingerprint>/`` of the run folder, so that a killed run goes
on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources
from runner.observe.metrics import Meter
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.student import recipes
from runner.student.rows import Rows
from runner.student.training_plan import TrainingPlan
from runner.tasks.kinds import task_of

STAGE = "train"

CHECKPOINT_SECONDS = 60.0
"""From one checkpoint to the next, and as many again for each second that the last took. A short training has none."""

SPACE = {"learning_rate_factor": (0.25, 4.0), "lowest_rate": (0.05, 1.0)}
"""What a search tries besides batch sizes: from the least to the most, by ratio."""

FIRST = {"learning_rate_factor": 1.0, "lowest_rate": recipes.LOWEST_RATE}
"""The settings of a search's first trial: what is used without a search."""


@dataclass
class TrainingRuns:
    """The trainings of one run of the stage, whose folder is ``here``; ``checkpoints`` has a folder for each.

    ``model`` and ``revision`` are the encoder as workers open it. ``held_out`` rows choose epochs and settings.
    """

    spec: Spec
    cluster: Cluster
    progress: Progress
    here: Folder
    checkpoints: Folder
    model: str
    revision: str | None
    held_out: Rows
    plan: TrainingPlan
    settings: dict[str, Any] = field(default_factory=dict)
    texts_done: int = 0
    """Of trainings that are over."""

    @property
    def _resources(self) -> Resources:
        return Resources.of(self.spec.student.resources)

    def _folder(self, name: str) -> Folder:
        return self.checkpoints.child(self.here.name, name)

    def _config(self, rows: Rows, epochs: int, **more: Any) -> dict[str, Any]:
        """What :mod:`runner.student.train_worker` is given."""
        return {
            "kind": task_of(self.spec).NAME,
            "model": self.model,
            "revision": self.revision,
            "outputs": task_of(self.spec).targets.names(self.spec),
            "student": self.spec.to_dict()["student"] | {"epochs": epochs},
            "trainings": ["fast"],
            "settings": self.settings,
            "train": asdict(rows),
            "held_out": asdict(self.held_out),
            "checkpoint_seconds": CHECKPOINT_SECONDS,
        } | more

    def _train(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        workers, price = self.spec.student.resources.workers, self.spec.benchmark.price_per_hour
        usd_per_hour = None if price is None else price * workers
        with Meter(self.cluster, self.progress, STAGE, self._resources.gpus * workers, usd_per_hour) as meter:
            reporter = _ProgressReporter(self.progress, self.texts_done, meter)
            result = self.cluster.train(train_loop, config, self._resources, workers, self._folder(name), reporter)
        epochs = 1 if config["trainings"] == ["head"] else config["student"]["epochs"]
        self.texts_done += len(config["train"]["texts"]) * epochs
        self.progress.at(self.texts_done)
        return result

    def student(self, rows: Rows) -> dict[str, Any]:
        """Train the one that is kept on ``rows``, and save it to the stage's folder; the figures of its training."""
        plan = self.plan
        config = self._config(rows, plan.epochs, save_to=self.here.url, trainings=list(plan.trainings))
        return self._train("student", config)

    def search(self, rows: Rows) -> dict[str, Any]:
        """Find settings by Ray Tune and use them from here on; what was tried, for the report."""
        student, answers = self.spec.student, self.checkpoints.child(self.here.name)
        assert student.search is not None
        trials = student.search.trials
        if not answers.exists("search.json"):
            self.progress.say(f"{trials} trials, judged by {len(self.held_out)} held-out rows", STAGE)
            self.progress.begin(STAGE, trials, "trials")
            found = self.cluster.search(
                trial_loop,
                self._config(rows, self.plan.epochs),
                SPACE | {"batch_size": batch_sizes(student.batch_size)},
                FIRST | {"batch_size": student.batch_size},
                trials,
                self._resources,
                self._folder("search"),
                student.seed,
                self.progress.at,
            )
            answers.write_json("search.json", found)
        tried = answers.read_json("search.json")
        agreements = [trial["agreement"] for trial in tried]
        effective_rows = recipes.effective_sample_size(task_of(self.spec).targets.confidence(self.held_out.targets))
        chosen = recipes.chosen_trial(agreements, effective_rows)
        self.settings = tried[chosen]["settings"]
        error = recipes.standard_error(max(agreements), effective_rows)
        return {"trials": tried, "chosen": chosen, "standard_error": error}

    def out_of_fold_targets(self, rows: Rows) -> Rows:
        """The rows with the mean of their targets and the answers of students that did not learn from them.

        Each of those students is asked but once.
        """
        folds = recipes.fold_of(len(rows), self.spec.student.seed)
        answers = np.zeros_like(rows.targets)
        stored = self.checkpoints.child(self.here.name)
        for fold in range(folds.max() + 1):
            seen, unseen, name = rows.where(folds != fold), rows.where(folds == fold), f"fold-{fold}"
            epochs = self.plan.of(len(seen)).fold_epochs
            if not stored.exists(f"{name}.json"):
                result = self._train(name, self._config(seen, epochs, asked=unseen.texts))
                stored.write_json(f"{name}.json", result["probabilities"])
            else:
                self.texts_done += len(seen) * epochs
            answers[folds == fold] = stored.read_json(f"{name}.json")
        return Rows(rows.texts, recipes.out_of_fold_targets(rows.targets, answers))


class _ProgressReporter:
    """Shows how far a training is, after ``before`` texts of others, and says when it goes on from a checkpoint."""

    def __init__(self, progress: Progress, before: int, meter: Meter) -> None:
        self._progress, self._before, self._meter, self._resumes = progress, before, meter, 0

    def __call__(self, reported: dict[str, Any]) -> None:
        done, total = reported["done"], reported["total"]
        if reported["resumes"] > self._resumes:
            words = f"going on from a checkpoint, at {done} of {total} texts"
            self._progress.tell("training_resumed", STAGE, words, done=done, total=total)
        self._resumes = reported["resumes"]
        self._progress.at(self._before + done)
        self._meter.tick()


def batch_sizes(given: int) -> list[int]:
    """Those that a search tries around the one that is given."""
    return sorted({max(1, given // 2), given, given * 2})


def train_loop(config: dict[str, Any], report: Callable[[dict[str, Any]], None], **worker: Any) -> dict[str, Any]:
    """See :func:`runner.student.train_worker.run_trainings`."""
    result: dict[str, Any] = _in_worker().run_trainings(config, report, **worker)
    return result


def trial_loop(config: dict[str, Any], settings: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """See :func:`runner.student.train_worker.run_trial`."""
    _in_worker().run_trial(config, settings, report)


def _in_worker() -> Any:
    from runner.student import train_worker  # in the worker only: the driver needs no torch

    return train_worker
