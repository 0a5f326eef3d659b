"""Fine-tune the student on label probabilities, on one worker or on several.

Knows torch and transformers; does not know Ray (the caller hands in how a model is made distributed),
the spec or the run folder.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import get_linear_schedule_with_warmup, set_seed

from runner.student import dropout, gradient_sync, head_start, linear_head, recipes
from runner.student.batches import padded, shared_batches
from runner.student.device import DTYPES, device, pick_precision
from runner.student.finite import Diverged, NotFinite
from runner.student.inflight import Ids, budget_of, out_of_memory, transfers_of, within_memory
from runner.student.load import load_classifier, load_tokenizer
from runner.student.save import save_student
from runner.student.shortcuts import SeenEmbedding
from runner.student.tokens import count_cut, count_unknown, tokenize
from runner.student.works_in import check_weights, works_in
from runner.system import machine
from runner.system.errors import ModelError, UserError, first_line

_LAYER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")

PACE = 8
"""Steps from one look at the clock, and at what the device has summed up, to the next."""

TRIED_TEXTS = 4
"""Texts that are read in half precision before anything is learned, besides the longest: short and long ones."""

BUCKET = 50
"""Batches per length bucket: rows are shuffled first, so that padding is short and order still random."""


@dataclass(frozen=True)
class Fit:
    """What to train and how. ``learning_rate`` None means: chosen from the model's size; the factor is applied to both.

    ``lowest_rate`` is the share of it that the lowest layer gets.

    With ``average`` the mean of the weights at the ends of the later half of the epochs is a student as well (tail
    averaging; Izmailov et al. 2018, arXiv:1803.05407).

    ``batch_size`` rows make a step, whatever the number of workers; each computes its share of them in
    ``accumulate`` parts, one after the other. A checkpoint is due ``checkpoint_seconds`` after the last, later where
    it takes long.

    ``start`` is what the classifier begins as: ``fresh`` has a new head on the first token, ``head`` one that was
    fitted to the encoder as it is (:mod:`runner.student.head_start`), and is what is kept where ``epochs`` is 0.
    """

    model: Path
    labels: tuple[str, ...]
    epochs: int
    learning_rate: float | None
    batch_size: int
    max_length: int
    precision: str
    seed: int
    accumulate: int = 1
    average: bool = True
    learning_rate_factor: float = 1.0
    lowest_rate: float = recipes.LOWEST_RATE
    checkpoint_seconds: float = math.inf
    start: Literal["fresh", "head"] = "fresh"


@dataclass(frozen=True)
class Rows:
    """Texts with a probability per label: ``targets`` has shape ``(len(texts), labels)``."""

    texts: Sequence[str]
    targets: NDArray[np.float32]


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures; ``val_*`` are measured on the held-out part of train.

    ``val_accuracy`` is the agreement with the teacher's labels, each row counted by the teacher's confidence in it:
    whether a student agrees with a guess says little of the student.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float
    texts_per_second: float


@dataclass(frozen=True)
class Worker:
    """This process's place among the workers, and what is done for it by those who started it.

    ``wrap(model, **options)`` makes a model train in step with theirs, by torch's DistributedDataParallel with these
    options. ``keep(write)`` has a folder written and keeps it as the newest checkpoint, on all workers at once;
    ``restore(read)`` has it read, where there is one.
    """

    rank: int = 0
    size: int = 1
    wrap: Callable[..., Any] = lambda model, **options: model
    keep: Callable[[Callable[[Path], None]], None] = lambda write: None
    restore: Callable[[Callable[[Path], None]], None] = lambda read: None


@dataclass
class Course:
    """How far training has come. ``steps`` and ``seconds`` are those of the epoch that is not finished yet.

    ``skipped`` counts the steps of all epochs whose gradients a loss scale left out, as they were not finite numbers.
    """

    history: list[Epoch] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    seen: int = 0
    resumes: int = 0
    skipped: int = 0


def default_learning_rate(parameters: int) -> float:
    """Small encoders want larger steps: 2e-4 up to 50 M parameters, 5e-5 above. It is that of the top layers."""
    return 2e-4 if parameters < 50_000_000 else 5e-5


def depth(name: str, base: str) -> int | None:
    """The layer that a parameter belongs to, from its name: 0 for embeddings, None for what stands above all layers."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    return 0 if name.startswith(f"{base}.") and "pooler" not in name else None


def layer_rate(layer: int | None, layers: int, lowest: float = recipes.LOWEST_RATE) -> float:
    """The share of the learning rate for a layer: all of it above the layers, ``lowest`` for embeddings.

    Layer-wise decay (Howard and Ruder 2018, arXiv:1801.06146): the lower a layer, the more of what it knows should
    stay.
    """
    return 1.0 if layer is None else lowest ** (1 - layer / (layers + 1))


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers in length-grouped batches, in an order that ``(seed, epoch)`` alone decides."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(order), size * BUCKET):
        bucket = sorted(order[start : start + size * BUCKET], key=lambda i: lengths[i])
        batches += [[int(i) for i in bucket[b : b + size]] for b in range(0, len(bucket), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of ``logits`` against probabilities, both ``(rows, labels)``."""
    return -(targets * torch.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()


def loss_scale(precision: str, on: torch.device) -> torch.amp.GradScaler:
    """What keeps small gradients in fp16's range, on GPUs; disabled in other precisions and on processors."""
    return torch.amp.GradScaler(on.type, enabled=precision == "fp16" and on.type == "cuda")


def fit(
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker | None = None,
    report: Callable[[int, int, Course], None] = lambda done, total, course: None,
) -> dict[str, Any]:
    """Train, keep the weights of the chosen epoch, save them to ``save_to``.

    Chosen is the last epoch whose agreement with the teacher's labels on held-out rows, counted by the teacher's
    confidence, is within one standard error of the best. A few hundred rows cannot tell such epochs apart, and the
    later one's weights moved in smaller steps. The held-out loss would favour early epochs: a student that is surer
    than its teacher pays for it even where both are right. The averaged weights are kept instead of that epoch's
    unless the held-out rows tell them to be worse.

    Goes on from the worker's checkpoint, if it has one. ``report(texts_done, texts_total, course)`` is called
    every few batches. Only rank 0 saves.
    Returns the history and the settings that were used, ready for JSON, and which held-out rows are ``right``. Where
    the numbers of a training in half precision are not finite it is done again in fp32, from the beginning;
    ``fell_back`` says why.

    :raises UserError: when the checkpoint cannot be read.
    :raises ModelError: when weights, loss or answers are not finite numbers in fp32, or the GPU's memory runs out.
    """
    machine.keep_freed_memory()
    try:
        return _fit_in_some_precision(config, train, held_out, save_to, worker or Worker(), report)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{config.model}: the GPU's memory does not hold a part of a training step: {first_line(error)}; set "
            f"student.accumulate higher than {config.accumulate}, which computes a step in parts, or "
            "student.max_length lower"
        ) from error


def _fit_in_some_precision(
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker,
    report: Callable[[int, int, Course], None],
) -> dict[str, Any]:
    """One training, done again in fp32 where it comes to numbers that are not finite in less."""
    try:
        return _fit(config, train, held_out, save_to, worker, report)
    except NotFinite as error:
        if error.precision == "fp32":
            raise Diverged(
                f"{config.model}: {error.what}, in fp32: the training has diverged; set student.learning_rate lower "
                f"(here {config.learning_rate or 'chosen by the size of the model'}), or take another student"
            ) from error
        again, found = replace(config, precision="fp32"), replace(worker, restore=lambda read: None)
        return _fit(again, train, held_out, save_to, found, report, f"{error.what}, in {error.precision}")


def _fit(
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker,
    report: Callable[[int, int, Course], None],
    fell_back: str | None = None,
) -> dict[str, Any]:
    """One training in one precision. :raises NotFinite: when it comes to numbers that are not finite."""
    loop = _Loop(config, train, held_out, worker)
    loop.fell_back = loop.fell_back or fell_back
    head = loop.measure_head() if config.start == "head" else None
    loop.worker.restore(loop.load)
    course, total = loop.course, config.epochs * len(train.texts)
    while len(course.history) < config.epochs:
        loop.begin_epoch()
        for batch in loop.batches(len(course.history))[course.steps :]:
            loop.learn(batch)
            if course.steps % PACE == 1:
                loop.check()  # before a checkpoint is written of it
                report(course.seen, total, course)
                loop.keep_if_due()
        loop.check(over=len(course.history) + 1 == config.epochs)
        loop.finish_epoch()
        report(course.seen, total, course)
        if len(course.history) < config.epochs:
            loop.keep_if_due()
    averaged = loop.average() if config.average and config.epochs else None
    if loop.worker.rank == 0:
        if config.epochs:
            loop.bare.load_state_dict(loop.best)
        with loop.whole_vocabulary():
            save_student(loop.bare, loop.tokenizer, save_to, config.max_length)
    return {
        "history": [asdict(epoch) for epoch in course.history],
        "best_epoch": chosen_epoch(course.history, loop.worth).epoch if course.history else 0,
        "averaged": averaged,
        "head": head,
        "right": loop.right_alone() if loop.worker.rank == 0 else [],
        "learning_rate": loop.learning_rate,
        "precision": loop.precision,
        "fell_back": loop.fell_back,
        "device": str(loop.device),
        "workers": loop.worker.size,
        "steps": loop.steps,
        "skipped_steps": course.skipped,
        "resumes": course.resumes,
        "parameters": loop.parameters,
        "truncated_rows": loop.truncated,
        "unknown_tokens": asdict(count_unknown(loop.tokenizer, loop.ids)),
    }


def chosen_epoch(history: Sequence[Epoch], held_out: float) -> Epoch:
    """The last epoch within one standard error of the best agreement, which ``held_out`` rows' worth has shown.

    It is the newest one or the one that was chosen before it, so that no other weights need be kept.
    """
    best = max(epoch.val_accuracy for epoch in history)
    error = recipes.standard_error(best, held_out)
    return [epoch for epoch in history if epoch.val_accuracy >= best - error][-1]


class _Loop:
    """The state of one training run: model, optimizer, schedule, tokenised rows."""

    def __init__(self, config: Fit, train: Rows, held_out: Rows, worker: Worker) -> None:
        set_seed(config.seed)
        self.config, self.worker = config, worker
        self.device = device()
        self.transfers, self.budget = transfers_of(self.device), budget_of(self.device)
        self.precision = pick_precision(config.precision, self.device)
        self.fell_back: str | None = None  # why it is fp32, where another precision was wanted
        self.tokenizer = load_tokenizer(config.model)
        self.ids = tokenize(self.tokenizer, train.texts, config.max_length)
        self.truncated = count_cut(self.tokenizer, train.texts, self.ids, config.max_length)
        self.targets = torch.from_numpy(train.targets).to(self.device)
        self.held_out_ids = tokenize(self.tokenizer, held_out.texts, config.max_length)
        self.bare = load_classifier(config.model, config.labels, pooled=config.start == "head")
        self.parameters = sum(p.numel() for p in self.bare.parameters())
        self.words: SeenEmbedding | None = None
        self._try()
        self._leave_out_unseen()
        self.began = self.kept = time.perf_counter()
        self.head = self._fit_head() if config.start == "head" else None
        self.model = self._shared(self.bare.to(self.device))
        self.held_out = torch.from_numpy(held_out.targets)
        self.confidence = torch.from_numpy(recipes.confidence(held_out.targets))
        self.worth = recipes.worth(held_out.targets)
        self.learning_rate = config.learning_rate or default_learning_rate(self.parameters)
        self.learning_rate *= config.learning_rate_factor
        if self.device.type == "cpu":
            dropout.put_in(self.bare)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.learning_rate, fused=True)
        self.steps = config.epochs * len(self.batches(0))
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, max(1, self.steps // 10), self.steps)
        self.scaler = loss_scale(self.precision, self.device)
        self.course = Course()
        self.best: dict[str, torch.Tensor] = {}
        self.tail: dict[str, torch.Tensor] = {}  # the sum of the weights at the ends of later epochs
        # Of this worker's rows in this epoch, summed, and the rows whose loss is not a finite number. Both stay on the
        # device, which the host would wait for at every part of a step.
        self.loss, self.lost = self._sums()
        self.tried = 0  # steps in this process, and how many of them had gradients that are not finite
        self.unusable = torch.zeros((), dtype=torch.int64, device=self.device)
        self.skipped = 0  # steps in the processes before this one
        self.cost = 0.0  # of the last checkpoint, in seconds
        if worker.rank:
            set_seed(config.seed + worker.rank)  # each worker drops out other units

    def _try(self) -> None:
        """Read the longest text before anything is learned: in fp32 where the model cannot in less.

        :raises ModelError: when it cannot read it at all.
        """
        texts = sorted([*self.ids, *self.held_out_ids], key=len)
        longest = texts[-1]
        check_weights(self.bare, self.config.model)
        # On the processor first: what is out of range there breaks a whole GPU.
        if reason := works_in(self.bare.eval(), "fp32", [longest], torch.device("cpu")):
            raise ModelError(f"{self.config.model}: this student cannot read a text of {len(longest)} tokens: {reason}")
        tried = [longest, *texts[:: max(1, len(texts) // TRIED_TEXTS)][:TRIED_TEXTS]]
        if self.precision == "fp32":
            self.bare.to(self.device)
        elif reason := works_in(self.bare.to(self.device), self.precision, tried, self.device):
            self.fell_back, self.precision = f"{reason}, in {self.precision}", "fp32"

    def _shared(self, model: Any) -> Any:
        """The model as the workers train it together."""
        if self.worker.size == 1:
            return self.worker.wrap(model)

        def loss() -> torch.Tensor:  # of the same text on all workers, which must all come to the same
            return soft_cross_entropy(model(**self._inputs(self.ids[:1])).logits, self.targets[:1])

        wrapped = self.worker.wrap(model, **gradient_sync.ddp_options(model, loss, self.device))
        gradient_sync.compress(wrapped, self.precision, self.device)
        return wrapped

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        nothing = torch.zeros((), dtype=torch.float64, device=self.device)
        return nothing, nothing.clone()

    def _inputs(self, ids: Ids) -> dict[str, torch.Tensor]:
        """Padded token ids and mask on the device, as a model takes them."""
        tokens = self.transfers.to_device(*padded(ids, self.tokenizer.pad_token_id or 0))
        return dict(zip(("input_ids", "attention_mask"), tokens, strict=True))

    def _leave_out_unseen(self) -> None:
        """Train only the word vectors of tokens that the texts have."""
        try:
            words = self.bare.get_input_embeddings()
        except NotImplementedError:  # characters instead of words, as CANINE has them
            return
        if type(words) is torch.nn.Embedding:
            seen = {token for row in (*self.ids, *self.held_out_ids) for token in row}
            tokens = sorted(seen | {self.tokenizer.pad_token_id or 0})
            self.words = SeenEmbedding(words, tokens)
            self.bare.set_input_embeddings(self.words)

    def _fit_head(self) -> linear_head.Head:
        """Fit the head to the encoder as it is."""
        answered = (batch for batch, _ in self._answers(self.ids, 0, 1))
        head = head_start.fit(self.bare.to(self.device), answered, self.targets, self.config.seed)
        if head is None:
            raise NotFinite("what the head reads of the training texts is not finite numbers", self.precision)
        return head

    @contextmanager
    def whole_vocabulary(self) -> Iterator[None]:
        """Meanwhile the model reads any text, also tokens that its training did not have."""
        words = self.words
        if words is not None:
            self.bare.set_input_embeddings(words.whole().to(self.device))
        yield
        if words is not None:
            self.bare.set_input_embeddings(words)

    def _groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only, as usual for encoders; a learning rate for each layer."""
        depths = {name: depth(name, self.bare.base_model_prefix) for name, _ in self.bare.named_parameters()}
        layers = max((layer or 0 for layer in depths.values()), default=0)
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.bare.named_parameters():
            if not parameter.requires_grad:
                continue
            rate = self.learning_rate * layer_rate(depths[name], layers, self.config.lowest_rate)
            groups.setdefault((rate, 0.01 if parameter.ndim > 1 else 0.0), []).append(parameter)
        return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]

    def _clip(self) -> torch.Tensor:
        """The norm of all gradients; in the step that follows it is 1 at most."""
        if self.device.type != "cpu" or self.scaler.is_enabled():
            return torch.nn.utils.clip_grad_norm_(self.bare.parameters(), 1.0)
        gradients = [one.grad.flatten() for one in self.bare.parameters() if one.grad is not None]
        norm = torch.stack([torch.dot(one, one) for one in gradients]).sum().sqrt()
        # The optimizer divides by it as it goes, in the way it does for a GradScaler: one pass over memory less.
        self.optimizer.grad_scale = (norm + 1e-6).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
        return norm

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def batches(self, epoch: int) -> list[list[int]]:
        """The row numbers of each step of an epoch: the same for all workers, however many there are."""
        return epoch_batches([len(r) for r in self.ids], self.config.batch_size, self.config.seed, epoch)

    def measure_head(self) -> dict[str, Any]:
        """What the held-out rows say of the classifier before anything is fine-tuned."""
        assert self.head is not None
        loss, agreement = self.evaluate()
        # The mean over all workers, so that each comes to the same: what is trained next depends on it.
        agreed = self._sum(torch.tensor(self.head.agreement, dtype=torch.float64, device=self.device))
        figures = {"penalty": self.head.penalty, "cross_validated": float(agreed) / self.worker.size}
        return figures | {"val_loss": loss, "val_accuracy": agreement, "seconds": time.perf_counter() - self.began}

    def begin_epoch(self) -> None:
        """Before the first step of an epoch, or the first after a checkpoint."""
        self.model.train()
        self.began = time.perf_counter() - self.course.seconds

    def learn(self, batch: list[int]) -> None:
        """One step on ``batch``, which the workers share."""
        loss, lost = self.gradients(batch)
        self.loss, self.lost = self.loss + loss, self.lost + lost
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.unusable += ~torch.isfinite(norm)
        self.tried += 1
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.course.seen += len(batch)
        self.course.steps += 1

    def gradients(self, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Add up the gradient of the mean loss over ``batch``, on all workers.

        Returns the sum of this worker's losses, and of how many rows they are not finite numbers and not in the sum;
        both float64, and on the device.
        """
        size, pieces = self.worker.size, self.worker.size * self.config.accumulate
        shares = [batch[piece::pieces] for piece in range(self.worker.rank, pieces, size)]
        # With fewer rows than workers, one that has none computes a row that does not count: the others wait for it.
        mine = [(rows, len(rows)) for rows in shares if rows] or [(batch[:1], 0)]
        total, lost = self._sums()
        for number, (rows, count) in enumerate(mine, 1):
            inputs = self._inputs([self.ids[i] for i in rows])
            [places] = self.transfers.to_device(np.array(rows))
            # Gradients travel once a step, with the last part.
            with self.model.no_sync() if number < len(mine) and size > 1 else nullcontext():
                with self._autocast():
                    logits = self.model(**inputs).logits
                loss = soft_cross_entropy(logits, self.targets[places])
                # Workers' gradients are averaged, parts' are added up: each counts by its rows.
                self.scaler.scale(loss * (count * size / len(batch))).backward()  # type: ignore[no-untyped-call]
            found = loss.detach().double()
            finite = torch.isfinite(found)
            total = total + torch.where(finite, found, 0.0) * count
            lost = lost + torch.where(finite, 0.0, 1.0) * count
        return total, lost

    def check(self, over: bool = False) -> None:
        """Whether the gradients so far were finite numbers; the same on all workers, whose gradients are.

        A loss scale leaves out steps until it is low enough, some 16 in all. Below 1, or with most steps left out when
        the training is ``over``, it will not be.

        :raises NotFinite: when they were not.
        """
        unusable, scaled = int(self.unusable), self.scaler.is_enabled()
        self.course.skipped = self.skipped + unusable
        if unusable and (not scaled or self.scaler.get_scale() < 1 or (over and 2 * unusable > self.tried)):
            steps = f"the gradients of {unusable} of {self.tried} steps are not finite numbers"
            raise NotFinite(f"{steps}, in epoch {len(self.course.history) + 1}", self.precision)

    def finish_epoch(self) -> None:
        """Evaluate, write down the epoch's figures, and keep the weights if they are the best so far.

        :raises NotFinite: when losses are not finite numbers that no loss scale left out, or no loss is.
        """
        course, rows = self.course, len(self.ids)
        loss, lost = self._sum(torch.stack([self.loss, self.lost])).tolist()
        seconds = time.perf_counter() - self.began
        number = len(course.history) + 1
        if lost and (not self.scaler.is_enabled() or lost >= rows):
            what = f"the loss of {lost:.0f} of {rows} texts is not a finite number"
            raise NotFinite(f"{what}, in epoch {number}", self.precision)
        course.history.append(Epoch(number, loss / (rows - lost), *self.evaluate(), seconds, rows / seconds))
        if self.worker.rank == 0 and chosen_epoch(course.history, self.worth) is course.history[-1]:
            self.best = copy.deepcopy(self.bare.state_dict())
        if self.config.average and number > self.before_tail:
            for name, value in self.bare.state_dict().items():
                self.tail[name] = self.tail[name] + value if name in self.tail else value.clone()
        course.steps, course.seconds = 0, 0.0
        self.loss, self.lost = self._sums()

    @property
    def before_tail(self) -> int:
        """The epochs that do not go into the mean."""
        return self.config.epochs // 2

    def average(self) -> dict[str, Any]:
        """Take the mean of the later epochs' weights as the best, if held-out rows allow it; its figures."""
        count = self.config.epochs - self.before_tail
        mean = {name: (value / count).to(value.dtype) for name, value in self.tail.items()}
        self.bare.load_state_dict(mean)
        loss, agreement = self.evaluate()
        best = max(epoch.val_accuracy for epoch in self.course.history)
        taken = agreement >= best - recipes.standard_error(best, self.worth)
        if taken:
            self.best = mean
        return {"epochs": count, "val_loss": loss, "val_accuracy": agreement, "taken": taken}

    def evaluate(self) -> tuple[float, float]:
        """Loss against the teacher's probabilities of held-out rows, and agreement with its labels."""
        logits = self.logits(self.held_out_ids).cpu()
        if not torch.isfinite(logits).all():
            raise NotFinite("answers to held-out texts are not finite numbers", self.precision)
        right = (logits.argmax(dim=-1) == self.held_out.argmax(dim=-1)).float()
        agreement = (self.confidence * right).sum() / self.confidence.sum()
        return float(soft_cross_entropy(logits, self.held_out)), float(agreement)

    def right_alone(self) -> list[bool]:
        """Which held-out rows get the teacher's label now, computed by this worker without the others."""
        right = torch.zeros(len(self.held_out_ids), dtype=torch.bool)
        for batch, found in self._answers(self.held_out_ids, 0, 1):
            right[batch] = found.cpu().argmax(dim=-1) == self.held_out[batch].argmax(dim=-1)
        answer: list[bool] = right.tolist()
        return answer

    def logits(self, ids: Sequence[list[int]]) -> torch.Tensor:
        """What the model says now, shape ``(rows, labels)``: each worker computes a part, and all come to the same."""
        logits = torch.zeros(len(ids), len(self.config.labels), device=self.device)
        for batch, found in self._answers(ids, self.worker.rank, self.worker.size):
            logits[batch] = found
        return self._sum(logits)

    def _answers(self, ids: Sequence[list[int]], first: int, every: int) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Row numbers and their logits, of every so many batches; they stay on the device."""
        self.bare.eval()

        def logits(piece: Ids) -> torch.Tensor:
            with torch.inference_mode(), self._autocast():
                found: torch.Tensor = self.bare(**self._inputs(piece)).logits.float()
            return found

        for batch in shared_batches([len(row) for row in ids], self.budget.tokens, first, every):
            pieces = within_memory(self.budget, [ids[i] for i in batch], logits, self.transfers.make_room)
            yield batch, pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all workers, in place."""
        if self.worker.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def keep_if_due(self) -> None:
        """Keep a checkpoint if the last is old enough: rank 0's clock decides for all workers.

        The longer the last one took to write, the older: so that writing takes little of the time, whatever the model.
        """
        age = time.perf_counter() - self.kept
        late = age >= self.config.checkpoint_seconds * (1 + self.cost)
        if not self._sum(torch.tensor(float(late and self.worker.rank == 0), device=self.device)):
            return
        start = time.perf_counter()
        self.course.seconds = start - self.began if self.course.steps else 0.0
        self.worker.keep(self.save)
        self.kept = time.perf_counter()
        self.cost = self.kept - start

    def save(self, folder: Path) -> None:
        """Write this worker's part of a checkpoint: what all share is rank 0's to write."""
        if self.worker.rank == 0:
            parts = {name: part.state_dict() for name, part in self._parts().items()}
            how = {"precision": self.precision, "fell_back": self.fell_back}
            torch.save(
                {**parts, **how, "best": self.best, "tail": self.tail, "course": asdict(self.course)}, folder / "all.pt"
            )
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        own = {"loss": float(self.loss), "lost": float(self.lost), "cpu": torch.get_rng_state(), "cuda": cuda}
        torch.save(own, folder / f"worker-{self.worker.rank}.pt")

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint. :raises UserError: when it cannot be read."""
        try:
            state, own = (
                torch.load(folder / name, map_location="cpu", weights_only=True)  # no code is run from it
                for name in ("all.pt", f"worker-{self.worker.rank}.pt")
            )
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise UserError(
                f"{folder}: this checkpoint of the training cannot be read ({first_line(error)}); remove checkpoints/ "
                "from the run folder, and the training begins anew"
            ) from error
        if state["precision"] == "fp32" != self.precision:
            self._fall_back(state["fell_back"])
        for name, part in self._parts().items():
            if state[name]:  # what a loss scaler of another precision left is empty
                part.load_state_dict(state[name])
        self.best, self.tail = (
            {name: value.to(self.device) for name, value in state[part].items()} for part in ("best", "tail")
        )
        for total, name in ((self.loss, "loss"), (self.lost, "lost")):
            total.fill_(own.get(name, 0.0))  # earlier versions did not count the lost ones
        history = [Epoch(**epoch) for epoch in state["course"].pop("history")]
        self.course = Course(**state["course"] | {"history": history, "resumes": state["course"]["resumes"] + 1})
        self.skipped = self.course.skipped
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.device)

    def _fall_back(self, why: str | None) -> None:
        """Compute in fp32 from here on, as the training that is gone on with did."""
        self.precision, self.fell_back = "fp32", why
        self.scaler = loss_scale("fp32", self.device)

    def _parts(self) -> dict[str, Any]:
        """What training changes, by its name in a checkpoint."""
        return {"model": self.bare, "optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler}
