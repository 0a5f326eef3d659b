"""What a worker of a training does: the trainings of a recipe, one after the other, or one trial of a search.

Configurations come as plain data, as :mod:`runner.student.training_runs` makes them. Knows torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner import models
from runner.rundir.folder import Folder
from runner.student import recipes
from runner.student.finite import Diverged
from runner.student.fit import fit
from runner.student.fit_config import Fit, Worker
from runner.student.load import can_pool
from runner.student.predict import Student
from runner.student.rows import Rows
from runner.student.training_state import TrainingState, chosen_epoch
from runner.system.errors import ModelError
from runner.tasks.kinds import TASKS
from runner.tasks.protocol import Learner


def run_trainings(config: dict[str, Any], report: Callable[[dict[str, Any]], None], **worker: Any) -> dict[str, Any]:
    """What one worker does; rank 0 saves the student to ``save_to``, or has it say what it thinks of texts ``asked``.

    ``worker`` holds the fields of :class:`runner.student.fit_config.Worker`.
    """

    def tell(done: int, total: int, state: TrainingState) -> None:
        report({"done": done, "total": total, "resumes": state.resumes})

    learner, me, fits = _learner(config), Worker(**worker), fits_of(config)
    with tempfile.TemporaryDirectory() as scratch:

        def train(name: str) -> dict[str, Any]:
            if fits[name].epochs:
                return fit(learner, fits[name], *_rows(config), Path(scratch) / name, me, tell)
            # A head is fitted again in seconds: checkpoints are those of the fine-tuning.
            alone = replace(me, save_checkpoint=lambda write: None, load_checkpoint=lambda read: None)
            return fit(learner, fits[name], *_rows(config), Path(scratch) / name, alone)

        weights = learner.confidence(config["held_out"]["targets"])
        name, tried = try_recipes(list(fits), train, weights)
        saved, result = Path(scratch) / name, tried[name]
        if me.rank == 0 and "save_to" in config:
            Folder(config["save_to"]).upload(saved, "student")
            result["size_mb"] = (saved / "model.safetensors").stat().st_size / 1e6
        if me.rank == 0 and "asked" in config:
            student = Student.load(learner, saved, fits[name].max_length, result["precision"])
            result["probabilities"] = student.predict(config["asked"]).tolist()
    del result["right"]
    return result | {"kept": name, "tried": [recipe_figures(*each) for each in tried.items()]}


def try_recipes(
    names: Sequence[str], train: Callable[[str], dict[str, Any]], weights: NDArray[np.float32]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Train recipe after recipe; the one that is kept, and the result of each that was trained.

    Where a head alone is enough nothing else is trained. Else the last is kept, unless the held-out rows, each counted
    by its weight, show the head before it to be clearly better. Only rank 0 knows what its rows show.
    """
    tried: dict[str, dict[str, Any]] = {}
    for name in names:
        tried[name] = train(name)
        if name == "head" and tried[name]["head"]["cross_validated"] >= recipes.HEAD_IS_ENOUGH:
            break
    first, last = next(iter(tried)), name
    head, tuned = tried[first]["right"], tried[last]["right"]
    doubt = recipes.FEW_ROWS_DOUBT if last == "lp-ft" else recipes.MANY_ROWS_DOUBT
    better = first != last and bool(head) and recipes.standard_errors_ahead(head, tuned, weights) > doubt
    return (first if better else last), tried


def run_trial(config: dict[str, Any], settings: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """One trial of a search: a training that reports after each epoch how it stands, and leaves no student."""
    learner = _learner(config)
    train, held_out = _rows(config)
    rows = recipes.effective_sample_size(learner.confidence(held_out.targets))

    def tell(done: int, total: int, state: TrainingState) -> None:
        if not state.steps:  # an epoch is over
            chosen = chosen_epoch(state.history, rows)
            report({"agreement": chosen.val_accuracy, "epoch": chosen.epoch, "loss": chosen.val_loss})

    with tempfile.TemporaryDirectory() as scratch:
        try:
            fit(learner, Fit(**_fit(config) | settings), train, held_out, Path(scratch), report=tell)
        except Diverged:  # with these settings: the others may do
            report({"agreement": 0.0, "epoch": 0, "loss": None})


def fits_of(config: dict[str, Any]) -> dict[str, Fit]:
    """The trainings of a recipe by name, the one to keep in doubt last.

    :raises ModelError: when the recipe wants a head on an encoder of a kind that has none to fit.
    """
    names, tuned = config["trainings"], Fit(**_fit(config))
    if not {"head", "lp-ft"}.intersection(names):
        return {names[0]: tuned}
    if not can_pool(tuned.model):
        if len(names) > 1:
            return {"fast": tuned}
        raise ModelError(
            "student.recipe-unsuitable",
            f"{config['model']}: student.recipe {names[0]} fits a head to the mean of an encoder's tokens, and knows "
            "encoders built like BERT, RoBERTa or MPNet; set it to auto or fast",
        )
    head = replace(tuned, start="head")
    fits = {"head": replace(head, epochs=0), "lp-ft": head, "fast": tuned}
    return {name: fits[name] for name in names}


def recipe_figures(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """How a training did on the held-out rows."""
    averaged, history = result["averaged"], result["history"]
    chosen = averaged if averaged and averaged["taken"] else result["head"]
    if history and chosen is not averaged:
        chosen = history[result["best_epoch"] - 1]
    seconds = sum(epoch["seconds"] for epoch in history) + (result["head"] or {}).get("seconds", 0.0)
    return {"recipe": name, "val_loss": chosen["val_loss"], "val_accuracy": chosen["val_accuracy"], "seconds": seconds}


def _learner(config: dict[str, Any]) -> Learner:
    return TASKS[config["kind"]].learner()


def _fit(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of :class:`runner.student.fit_config.Fit`."""
    names = ("epochs", "learning_rate", "batch_size", "max_length", "precision", "seed", "accumulate")
    return {
        **{name: config["student"][name] for name in names},
        **config["settings"],
        "model": models.ensure(config["model"], config["revision"], who="student.model"),
        "outputs": tuple(config["outputs"]),
        "checkpoint_seconds": config["checkpoint_seconds"],
    }


def _rows(config: dict[str, Any]) -> tuple[Rows, Rows]:
    train, held_out = (Rows(**config[part]) for part in ("train", "held_out"))
    return train, held_out
