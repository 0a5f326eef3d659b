"""Fine-tune the student on what its task has it learn, on one worker or on several.

Knows torch; does not know Ray (the caller hands in how a model is made distributed), the spec or the run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from runner.student.finite import Diverged, NotFinite
from runner.student.fit_config import Fit, Worker
from runner.student.inflight import out_of_memory
from runner.student.loop import Loop
from runner.student.rows import Rows
from runner.student.save import save_student
from runner.student.tokens import count_unknown
from runner.student.training_state import TrainingState, chosen_epoch
from runner.system import machine
from runner.system.errors import ModelError, first_line
from runner.tasks.protocol import Learner

PACE = 8
"""Steps from one look at the clock, and at what the device has summed up, to the next."""

Report = Callable[[int, int, TrainingState], None]
"""Told the texts that are learned, those in all, and how the training stands."""


def fit(
    learner: Learner,
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker | None = None,
    report: Report = lambda done, total, state: None,
) -> dict[str, Any]:
    """Train, keep the weights of the chosen epoch, save them to ``save_to``.

    Chosen is the last epoch whose agreement with the teacher on held-out rows, counted by the teacher's confidence, is
    within one standard error of the best. A few hundred rows cannot tell such epochs apart, and the later one's weights
    moved in smaller steps. The held-out loss would favour early epochs: a student that is surer
    than its teacher pays for it even where both are right. The averaged weights are kept instead of that epoch's
    unless the held-out rows tell them to be worse.

    Goes on from the worker's checkpoint, if it has one. ``report(texts_done, texts_total, state)`` is called
    every few batches. Only rank 0 saves.
    Returns the history and the settings that were used, ready for JSON, and how ``right`` each held-out row is. Where
    the numbers of a training in half precision are not finite it is done again in fp32, from the beginning;
    ``fell_back`` says why.

    :raises UserError: when the checkpoint cannot be read.
    :raises ModelError: when weights, loss or answers are not finite numbers in fp32, or the GPU's memory runs out.
    """
    machine.keep_freed_memory()
    try:
        return _fit_in_some_precision(learner, config, train, held_out, save_to, worker or Worker(), report)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            "student.out-of-memory",
            f"{config.model}: the GPU's memory does not hold a part of a training step: {first_line(error)}; set "
            f"student.accumulate higher than {config.accumulate}, which computes a step in parts, or "
            "student.max_length lower",
        ) from error


def _fit_in_some_precision(
    learner: Learner,
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker,
    report: Report,
) -> dict[str, Any]:
    """One training, done again in fp32 where it comes to numbers that are not finite in less."""
    try:
        return _fit(learner, config, train, held_out, save_to, worker, report)
    except NotFinite as error:
        if error.precision == "fp32":
            raise Diverged(
                "student.training-diverged",
                f"{config.model}: {error.what}, in fp32: the training has diverged; set student.learning_rate lower "
                f"(here {config.learning_rate or 'chosen by the size of the model'}), or take another student",
            ) from error
        in_fp32, afresh = replace(config, precision="fp32"), replace(worker, load_checkpoint=lambda read: None)
        why = f"{error.what}, in {error.precision}"
        return _fit(learner, in_fp32, train, held_out, save_to, afresh, report, why)


def _fit(
    learner: Learner,
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker,
    report: Report,
    fell_back: str | None = None,
) -> dict[str, Any]:
    """One training in one precision. :raises NotFinite: when it comes to numbers that are not finite."""
    loop = Loop(learner, config, train, held_out, worker)
    loop.fell_back = loop.fell_back or fell_back
    head = loop.measure_head() if config.start == "head" else None
    loop.worker.load_checkpoint(loop.load)
    _train(loop, report)
    averaged = loop.average() if config.average and config.epochs else None
    right = _save(loop, save_to) if loop.worker.rank == 0 else []
    return _result(loop, averaged, head, right)


def _save(loop: Loop, save_to: Path) -> list[float]:
    """Save the student that is kept; how far each held-out row gets the teacher's value, from 0 to 1."""
    if loop.config.epochs:
        loop.bare.load_state_dict(loop.best)
    logits = loop.held_out_alone()
    loop.learner.settle(loop.bare, logits, loop.held_out)
    with loop.whole_vocabulary():
        save_student(loop.bare, loop.tokenizer, save_to, loop.config.max_length)
    right: list[float] = loop.learner.is_right(logits, loop.held_out).float().tolist()
    return right


def _train(loop: Loop, report: Report) -> None:
    """All epochs that are left."""
    epochs, total = loop.config.epochs, loop.config.epochs * len(loop.ids)
    state = loop.state
    while len(state.history) < epochs:
        loop.begin_epoch()
        for batch in loop.batches(len(state.history))[state.steps :]:
            loop.learn(batch)
            if state.steps % PACE == 1:
                loop.check()  # before a checkpoint is written of it
                report(state.seen, total, state)
                loop.save_if_due()
        loop.check(over=len(state.history) + 1 == epochs)
        loop.finish_epoch()
        report(state.seen, total, state)
        if len(state.history) < epochs:
            loop.save_if_due()


def _result(
    loop: Loop, averaged: dict[str, Any] | None, head: dict[str, Any] | None, right: list[float]
) -> dict[str, Any]:
    """What :func:`fit` returns."""
    state = loop.state
    return {
        "history": [asdict(epoch) for epoch in state.history],
        "best_epoch": chosen_epoch(state.history, loop.effective_rows).epoch if state.history else 0,
        "averaged": averaged,
        "head": head,
        "right": right,
        "learning_rate": loop.learning_rate,
        "precision": loop.precision,
        "fell_back": loop.fell_back,
        "device": str(loop.device),
        "workers": loop.worker.size,
        "steps": loop.steps,
        "skipped_steps": state.skipped,
        "resumes": state.resumes,
        "parameters": loop.parameters,
        "truncated_rows": loop.truncated,
        "unknown_tokens": asdict(count_unknown(loop.tokenizer, loop.ids)),
    }
