"""The steps and epochs of a training, with its optimizer, its loss scale and its checkpoints."""

from __future__ import annotations

import copy
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import get_linear_schedule_with_warmup, set_seed

from runner.student import checkpoint, dropout, recipes
from runner.student.finite import NotFinite
from runner.student.fit_config import Fit, Worker
from runner.student.model_in_training import ModelInTraining
from runner.student.rows import Rows
from runner.student.schedule import default_learning_rate, depth, epoch_batches, layer_rate
from runner.student.training_state import Epoch, TrainingState, chosen_epoch
from runner.tasks.protocol import Learner


def loss_scale(precision: str, on: torch.device) -> torch.amp.GradScaler:
    """What keeps small gradients in fp16's range, on GPUs; disabled in other precisions and on processors."""
    return torch.amp.GradScaler(on.type, enabled=precision == "fp16" and on.type == "cuda")


class Loop(ModelInTraining):
    """One training: how far it has come, and what its next step needs."""

    def __init__(self, learner: Learner, config: Fit, train: Rows, held_out: Rows, worker: Worker) -> None:
        super().__init__(learner, config, train, held_out, worker)
        self.saved = self.began  # when the last checkpoint was
        self.learning_rate = config.learning_rate or default_learning_rate(self.parameters)
        self.learning_rate *= config.learning_rate_factor
        if self.device.type == "cpu":
            dropout.put_in(self.bare)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.learning_rate, fused=True)
        self.steps = config.epochs * len(self.batches(0))
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, max(1, self.steps // 10), self.steps)
        self.scaler = loss_scale(self.precision, self.device)
        self.state = TrainingState()
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

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        nothing = torch.zeros((), dtype=torch.float64, device=self.device)
        return nothing, nothing.clone()

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
        self.began = time.perf_counter() - self.state.seconds

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
        self.state.seen += len(batch)
        self.state.steps += 1

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
                loss = self.learner.loss(logits, self.targets[places])
                # Workers' gradients are averaged, parts' are added up: each counts by its rows.
                self.scaler.scale(loss * (count * size / len(batch))).backward()
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
        self.state.skipped = self.skipped + unusable
        if unusable and (not scaled or self.scaler.get_scale() < 1 or (over and 2 * unusable > self.tried)):
            steps = f"the gradients of {unusable} of {self.tried} steps are not finite numbers"
            raise NotFinite(f"{steps}, in epoch {len(self.state.history) + 1}", self.precision)

    def finish_epoch(self) -> None:
        """Evaluate, write down the epoch's figures, and keep the weights if they are the best so far.

        :raises NotFinite: when losses are not finite numbers that no loss scale left out, or no loss is.
        """
        state, rows = self.state, len(self.ids)
        loss, lost = self._sum(torch.stack([self.loss, self.lost])).tolist()
        seconds = time.perf_counter() - self.began
        number = len(state.history) + 1
        if lost and (not self.scaler.is_enabled() or lost >= rows):
            what = f"the loss of {lost:.0f} of {rows} texts is not a finite number"
            raise NotFinite(f"{what}, in epoch {number}", self.precision)
        state.history.append(Epoch(number, loss / (rows - lost), *self.evaluate(), seconds, rows / seconds))
        if self.worker.rank == 0 and chosen_epoch(state.history, self.effective_rows) is state.history[-1]:
            self.best = copy.deepcopy(self.bare.state_dict())
        if self.config.average and number > self.before_tail:
            for name, value in self.bare.state_dict().items():
                self.tail[name] = self.tail[name] + value if name in self.tail else value.clone()
        state.steps, state.seconds = 0, 0.0
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
        best = max(epoch.val_accuracy for epoch in self.state.history)
        taken = agreement >= best - recipes.standard_error(best, self.effective_rows)
        if taken:
            self.best = mean
        return {"epochs": count, "val_loss": loss, "val_accuracy": agreement, "taken": taken}

    def save_if_due(self) -> None:
        """Save a checkpoint if the last is old enough: rank 0's clock decides for all workers.

        The longer the last one took to write, the older: so that writing takes little of the time, whatever the model.
        """
        age = time.perf_counter() - self.saved
        late = age >= self.config.checkpoint_seconds * (1 + self.cost)
        if not self._sum(torch.tensor(float(late and self.worker.rank == 0), device=self.device)):
            return
        start = time.perf_counter()
        self.state.seconds = start - self.began if self.state.steps else 0.0
        self.worker.save_checkpoint(self.save)
        self.saved = time.perf_counter()
        self.cost = self.saved - start

    def save(self, folder: Path) -> None:
        """Write this worker's part of a checkpoint: what all share is rank 0's to write."""
        shared = None
        if self.worker.rank == 0:
            parts = {name: part.state_dict() for name, part in self._parts().items()}
            how = {"precision": self.precision, "fell_back": self.fell_back}
            # "course" is what the checkpoints of earlier versions have it under.
            shared = {**parts, **how, "best": self.best, "tail": self.tail, "course": asdict(self.state)}
        own = {"loss": float(self.loss), "lost": float(self.lost)} | checkpoint.random_state(self.device)
        checkpoint.write(folder, self.worker.rank, shared, own)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint. :raises UserError: when it cannot be read."""
        shared, own = checkpoint.read(folder, self.worker.rank)
        if shared["precision"] == "fp32" != self.precision:
            self._fall_back(shared["fell_back"])
        for name, part in self._parts().items():
            if shared[name]:  # what a loss scaler of another precision left is empty
                part.load_state_dict(shared[name])
        self.best, self.tail = (
            {name: value.to(self.device) for name, value in shared[part].items()} for part in ("best", "tail")
        )
        for total, name in ((self.loss, "loss"), (self.lost, "lost")):
            total.fill_(own.get(name, 0.0))  # earlier versions did not count the lost ones
        state = shared["course"]
        history = [Epoch(**epoch) for epoch in state.pop("history")]
        self.state = TrainingState(**state | {"history": history, "resumes": state["resumes"] + 1})
        self.skipped = self.state.skipped
        checkpoint.set_random_state(own, self.device)

    def _fall_back(self, why: str | None) -> None:
        """Compute in fp32 from here on, as the training that is gone on with did."""
        self.precision, self.fell_back = "fp32", why
        self.scaler = loss_scale("fp32", self.device)

    def _parts(self) -> dict[str, Any]:
        """What training changes, by its name in a checkpoint."""
        return {"model": self.bare, "optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler}
