"""The model of a training on its device: shared with the other workers, and asked about texts as it stands.

Knows torch; what is to be learned of a text is the learner's to say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from transformers import set_seed

from runner.student import gradient_sync, head_start, recipes
from runner.student.batches import padded, shared_batches
from runner.student.device import DTYPES, device, pick_precision
from runner.student.finite import NotFinite
from runner.student.fit_config import Fit, Worker
from runner.student.inflight import Ids, budget_of, transfers_of, within_memory
from runner.student.load import load_tokenizer
from runner.student.rows import Rows
from runner.student.shortcuts import SeenEmbedding
from runner.student.tokens import count_cut, tokenize
from runner.student.works_in import check_weights, works_in
from runner.system.errors import ModelError
from runner.tasks.protocol import Learner

TRIED_TEXTS = 4
"""Texts that are read in half precision before anything is learned, besides the longest: short and long ones."""


class ModelInTraining:
    """``model`` learns; ``bare`` is the same without what shares it between workers.

    Held-out rows are token ids and targets: they are asked about, and learned by no step.

    :raises ModelError: when the model cannot be had, or cannot read the texts.
    :raises NotFinite: when a head is to be fitted, and what it reads is not finite numbers.
    """

    def __init__(self, learner: Learner, config: Fit, train: Rows, held_out: Rows, worker: Worker) -> None:
        set_seed(config.seed)
        self.learner, self.config, self.worker = learner, config, worker
        self.device = device()
        self.transfers, self.budget = transfers_of(self.device), budget_of(self.device)
        self.precision = pick_precision(config.precision, self.device)
        self.fell_back: str | None = None  # why it is fp32, where another precision was wanted
        self.tokenizer = load_tokenizer(config.model)
        self.ids = tokenize(self.tokenizer, train.texts, config.max_length)
        self.truncated = count_cut(self.tokenizer, train.texts, self.ids, config.max_length)
        self.targets = torch.from_numpy(train.targets).to(self.device)
        self.held_out_ids = tokenize(self.tokenizer, held_out.texts, config.max_length)
        self.bare = learner.fresh(config.model, config.outputs, config.start == "head")
        self.parameters = sum(weight.numel() for weight in self.bare.parameters())
        self.words: SeenEmbedding | None = None
        self._try()
        self._leave_out_unseen()
        self.began = time.perf_counter()
        self.head = self._fit_head() if config.start == "head" else None
        self.model = self._shared(self.bare.to(self.device))
        self.held_out = torch.from_numpy(held_out.targets)
        confidence = learner.confidence(held_out.targets)
        self.confidence = torch.from_numpy(confidence)
        self.effective_rows = recipes.effective_sample_size(confidence)

    def _try(self) -> None:
        """Read the longest text before anything is learned: in fp32 where the model cannot in less.

        :raises ModelError: when it cannot read it at all.
        """
        texts = sorted([*self.ids, *self.held_out_ids], key=len)
        longest = texts[-1]
        check_weights(self.bare, self.config.model)
        # On the processor first: what is out of range there breaks a whole GPU.
        if reason := works_in(self.bare.eval(), "fp32", [longest], torch.device("cpu")):
            raise ModelError(
                "student.max-length",
                f"{self.config.model}: this student cannot read a text of {len(longest)} tokens: {reason}",
            )
        tried = [longest, *texts[:: max(1, len(texts) // TRIED_TEXTS)][:TRIED_TEXTS]]
        if self.precision == "fp32":
            self.bare.to(self.device)
        elif reason := works_in(self.bare.to(self.device), self.precision, tried, self.device):
            self.fell_back, self.precision = f"{reason}, in {self.precision}", "fp32"

    def _shared(self, model: Any) -> Any:
        """The model as the workers train it together."""
        if self.worker.size == 1:
            return self.worker.wrap(model)
        learner = self.learner

        def loss() -> torch.Tensor:  # of the same text on all workers, which must all come to the same
            logits = model(**self._inputs(self.ids[:1])).logits
            total: torch.Tensor = learner.loss(logits, self.targets[:1])
            return total

        wrapped = self.worker.wrap(model, **gradient_sync.ddp_options(model, loss, self.device))
        gradient_sync.compress(wrapped, self.precision, self.device)
        return wrapped

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

    def _fit_head(self) -> head_start.Head:
        """Fit the head to the encoder as it is."""
        answered = (batch for batch, _ in self._answers(self.ids, 0, 1))
        head = head_start.fit(
            self.bare.to(self.device),
            answered,
            lambda features: self.learner.fit_head(features, self.targets.cpu(), self.config.seed),
        )
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

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def evaluate(self) -> tuple[float, float]:
        """The loss on held-out rows, and how often the student gives the teacher's value, counted by its confidence."""
        logits = self.logits(self.held_out_ids).cpu()
        if not torch.isfinite(logits).all():
            raise NotFinite("answers to held-out texts are not finite numbers", self.precision)
        right = self.learner.is_right(logits, self.held_out).float()
        agreement = (self.confidence * right).sum() / self.confidence.sum()
        return float(self.learner.loss(logits, self.held_out)), float(agreement)

    def held_out_alone(self) -> torch.Tensor:
        """The logits of held-out rows as the model stands, ``(rows, outputs)``, by this worker without the others."""
        found = torch.zeros(len(self.held_out_ids), len(self.config.outputs))
        for batch, logits in self._answers(self.held_out_ids, 0, 1):
            found[batch] = logits.cpu()
        return found

    def logits(self, ids: Sequence[list[int]]) -> torch.Tensor:
        """What the model says now, shape ``(rows, outputs)``: each worker computes a part, and all come to the same."""
        logits = torch.zeros(len(ids), len(self.config.outputs), device=self.device)
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
