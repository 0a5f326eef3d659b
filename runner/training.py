"""Fine-tune the student on label probabilities, on one worker or on several.

Knows torch and transformers; does not know Ray (the caller hands in how a model is made distributed),
the spec or the run folder.
"""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import get_linear_schedule_with_warmup, set_seed

from runner import student

LOWEST_RATE = 0.2

_LAYER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")

BUCKET = 50
"""Batches per length bucket: rows are shuffled first, so that padding is short and order still random."""


@dataclass(frozen=True)
class Fit:
    """What to train and how. ``learning_rate`` None means: chosen from the model's size."""

    model: Path
    labels: tuple[str, ...]
    epochs: int
    learning_rate: float | None
    batch_size: int
    max_length: int
    precision: str
    seed: int


@dataclass(frozen=True)
class Rows:
    """Texts with a probability per label: ``targets`` has shape ``(len(texts), labels)``."""

    texts: Sequence[str]
    targets: NDArray[np.float32]


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures; ``val_*`` are measured on the held-out part of train."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    seconds: float
    texts_per_second: float


@dataclass(frozen=True)
class Worker:
    """This process's place among the workers, and how a model is made to train in step with theirs."""

    rank: int = 0
    size: int = 1
    wrap: Callable[[Any], Any] = lambda model: model


def default_learning_rate(parameters: int) -> float:
    """Small encoders want larger steps: 2e-4 up to 50 M parameters, 5e-5 above. It is that of the top layers."""
    return 2e-4 if parameters < 50_000_000 else 5e-5


def depth(name: str, base: str) -> int | None:
    """The layer that a parameter belongs to, from its name: 0 for embeddings, None for what stands above all layers."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    return 0 if name.startswith(f"{base}.") and "pooler" not in name else None


def layer_rate(layer: int | None, layers: int) -> float:
    """The share of the learning rate for a layer: all of it above the layers, :data:`LOWEST_RATE` for embeddings.

    Layer-wise decay (Howard and Ruder 2018, arXiv:1801.06146): the lower a layer, the more of what it knows should
    stay.
    """
    return 1.0 if layer is None else LOWEST_RATE ** (1 - layer / (layers + 1))


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


def fit(
    config: Fit,
    train: Rows,
    held_out: Rows,
    save_to: Path,
    worker: Worker | None = None,
    report: Callable[[int, int, list[Epoch]], None] = lambda done, total, history: None,
) -> dict[str, Any]:
    """Train, keep the weights of the chosen epoch, save them to ``save_to``.

    Chosen is the last epoch whose agreement with the teacher's labels on held-out rows is within one standard
    error of the best. A few hundred rows cannot tell such epochs apart, and the later one's weights moved in smaller
    steps. The held-out loss would favour early epochs: a student that is surer than its teacher pays for it even
    where both are right.

    ``report(texts_done, texts_total, history)`` is called every few batches. Only rank 0 saves.
    Returns the history and the settings that were used, ready for JSON.
    """
    loop = _Loop(config, train, held_out, worker or Worker())
    history: list[Epoch] = []
    best: dict[str, torch.Tensor] = {}
    total = config.epochs * len(train.texts)
    for epoch in range(config.epochs):
        start = time.perf_counter()
        loss = 0.0
        for step, (rows, batch_loss) in enumerate(loop.train_epoch(epoch)):
            loss += batch_loss * rows
            loop.seen += rows * loop.worker.size
            if step % 8 == 0:
                report(min(loop.seen, total), total, history)
        seconds = time.perf_counter() - start
        val_loss, val_accuracy = loop.evaluate()
        history.append(
            Epoch(
                epoch + 1,
                loss / loop.rows_per_worker,
                val_loss,
                val_accuracy,
                seconds,
                len(train.texts) / seconds,
            )
        )
        if chosen_epoch(history, len(held_out.texts)) is history[-1]:
            best = copy.deepcopy(loop.bare.state_dict())
        report(min(loop.seen, total), total, history)
    loop.bare.load_state_dict(best)
    if loop.worker.rank == 0:
        student.save_student(loop.bare, loop.tokenizer, save_to, config.max_length)
    return {
        "history": [asdict(epoch) for epoch in history],
        "best_epoch": chosen_epoch(history, len(held_out.texts)).epoch,
        "learning_rate": loop.learning_rate,
        "precision": loop.precision,
        "device": str(loop.device),
        "workers": loop.worker.size,
        "parameters": loop.parameters,
        "truncated_rows": loop.truncated,
    }


def chosen_epoch(history: Sequence[Epoch], held_out: int) -> Epoch:
    """The last epoch within one standard error of the best agreement on ``held_out`` rows.

    It is the newest one or the one that was chosen before it, so that no other weights need be kept.
    """
    best = max(epoch.val_accuracy for epoch in history)
    error = math.sqrt(best * (1 - best) / max(1, held_out))
    return [epoch for epoch in history if epoch.val_accuracy >= best - error][-1]


class _Loop:
    """The state of one training run: model, optimizer, schedule, tokenised rows."""

    def __init__(self, config: Fit, train: Rows, held_out: Rows, worker: Worker) -> None:
        set_seed(config.seed)
        self.config, self.worker = config, worker
        self.device = student.device()
        self.precision = student.pick_precision(config.precision, self.device)
        self.tokenizer = student.load_tokenizer(config.model)
        self.bare = student.load_classifier(config.model, config.labels).to(self.device)
        self.parameters = sum(p.numel() for p in self.bare.parameters())
        self.model = worker.wrap(self.bare)
        self.ids = student.tokenize(self.tokenizer, train.texts, config.max_length)
        self.truncated = sum(len(row) >= config.max_length for row in self.ids)
        self.targets = torch.from_numpy(train.targets).to(self.device)
        self.held_out_ids = student.tokenize(self.tokenizer, held_out.texts, config.max_length)
        self.held_out = torch.from_numpy(held_out.targets)
        self.learning_rate = config.learning_rate or default_learning_rate(self.parameters)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.learning_rate, fused=True)
        batches = len(epoch_batches([len(r) for r in self.ids], config.batch_size, config.seed, 0))
        steps = config.epochs * -(-batches // worker.size)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, max(1, steps // 10), steps)
        self.scaler = torch.amp.GradScaler(enabled=self.precision == "fp16" and self.device.type == "cuda")
        self.seen = 0
        self.rows_per_worker = max(1, len(self.ids) // worker.size)

    def _groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only, as usual for encoders; a learning rate for each layer."""
        depths = {name: depth(name, self.bare.base_model_prefix) for name, _ in self.bare.named_parameters()}
        layers = max((layer or 0 for layer in depths.values()), default=0)
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.bare.named_parameters():
            rate = self.learning_rate * layer_rate(depths[name], layers)
            groups.setdefault((rate, 0.01 if parameter.ndim > 1 else 0.0), []).append(parameter)
        return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=student.DTYPES[self.precision])

    def train_epoch(self, epoch: int) -> Iterator[tuple[int, float]]:
        """This worker's share of the batches; yields rows and loss of each."""
        self.model.train()
        batches = epoch_batches([len(r) for r in self.ids], self.config.batch_size, self.config.seed, epoch)
        # Every worker must take the same number of steps, or the others wait for ever.
        while len(batches) % self.worker.size:
            batches.append(batches[len(batches) % self.worker.size])
        pad_id = self.tokenizer.pad_token_id or 0
        for batch in batches[self.worker.rank :: self.worker.size]:
            inputs = student.pad([self.ids[i] for i in batch], pad_id, self.device)
            with self._autocast():
                logits = self.model(**inputs).logits
            loss = soft_cross_entropy(logits, self.targets[batch])
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.bare.parameters(), 1.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield len(batch), float(loss.detach())

    def evaluate(self) -> tuple[float, float]:
        """Loss against the teacher's probabilities, and agreement with its labels, on held-out rows."""
        self.bare.eval()
        pad_id = self.tokenizer.pad_token_id or 0
        logits = torch.empty(self.held_out.shape)
        with torch.inference_mode(), self._autocast():
            lengths = [len(row) for row in self.held_out_ids]
            for batch in student.length_batches(lengths, student.TOKENS_PER_BATCH):
                inputs = student.pad([self.held_out_ids[i] for i in batch], pad_id, self.device)
                logits[batch] = self.bare(**inputs).logits.float().cpu()
        right = logits.argmax(dim=-1) == self.held_out.argmax(dim=-1)
        return float(soft_cross_entropy(logits, self.held_out)), float(right.float().mean())
