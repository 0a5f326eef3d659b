"""The student at work: it batches texts by length and predicts.

Knows torch; does not know Ray, the spec or the run folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from runner.student.batches import TOKENS_PER_BATCH, TOKENS_PER_LANE, Budget, length_batches, padded
from runner.student.device import DTYPES, device, pick_precision
from runner.student.finite import NOT_FINITE
from runner.student.inflight import InFlight, PinnedTransfers, Transfers, budget_of, peak_memory_mb, transfers_of
from runner.student.lanes import Lanes
from runner.student.load import load_config, load_tokenizer, longest_for
from runner.student.runtimes.exported import Form, Logits, open_session
from runner.student.tokens import tokenize
from runner.student.works_in import works_in
from runner.system import machine
from runner.system.errors import ModelError
from runner.tasks.protocol import Learner

WINDOW = 4096
"""Texts that are tokenised together, and sorted by length among themselves."""

FIRST_WINDOW = 256
"""For each core, at first: fewer, for nothing can be predicted meanwhile."""

RUNS_IN = {"onnx": "fp32", "onnx-int8": "int8"}
"""The precision of runtimes that have one of their own."""

PROBES = (
    "A text.",
    "In 2024, sales of 1,250 units (up 12.5 %) didn't reach EUR 3.4 million; see https://example.org/a_b?c=d#e!",
    "La société a publié ses résultats. Das Ergebnis übertraf die Erwartungen. 公司公布了业绩。 Выручка выросла.",
    " ".join(str(number) for number in range(100)),
)
"""Texts that a student must be able to answer in the precision that it is loaded in."""


class TorchLogits:
    """A torch classifier as every runtime is called: ids and mask ``(rows, longest)``, int64, to float32 logits."""

    def __init__(self, model: Any, on: torch.device) -> None:
        self.model, self._on = model, on

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            logits = self.model(**{name: value.to(self._on) for name, value in inputs.items()}).logits
            found: NDArray[np.float32] = logits.float().cpu().numpy()
        return found


@dataclass
class Student:
    """A classifier ready to predict: its runtime, tokenizer and label names, in one precision on one device."""

    learner: Learner
    logits: Logits
    tokenizer: Any
    outputs: list[str]
    max_length: int
    device: torch.device
    precision: str
    runtime: str = "torch"
    lanes: int = 1
    decision: Any = None  # what the learner's ``decision_of`` says of its configuration
    fell_back: str | None = None
    """Why it computes in fp32, where another precision was wanted."""
    reload: Callable[[], Any] | None = None
    """Loads the classifier in fp32, for texts that have no finite answer in less; None where it is in fp32 already."""
    recomputed: int = 0
    """Texts whose answers were computed again, so far."""
    in_flight: InFlight | None = None
    """What computes logits on an accelerator; None where ``logits`` does, one batch in each lane."""
    _ran: list[tuple[int, int]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def load(
        cls,
        learner: Learner,
        folder: Path,
        max_length: int | None = None,
        precision: str = "auto",
        runtime: str = "torch",
        exports: Path | None = None,
    ) -> Student:
        """``max_length`` None means: as it was trained, which stands in the folder; ``exports``: what others than
        torch run.

        :raises ModelError: when the folder holds no trained classifier.
        :raises UserError: when the runtime is not installed.
        """
        machine.keep_freed_memory()
        on = device()
        chosen, lanes = pick_precision(precision, on), 1 if on.type == "cuda" else torch.get_num_threads()
        tokenizer, config = load_tokenizer(folder), load_config(folder)
        longest = max_length or longest_for(tokenizer, config)
        if runtime == "torch":
            return cls._on_torch(learner, folder, tokenizer, longest, on, chosen, lanes)
        assert exports is not None
        session = open_session(cast("Form", runtime), exports, chosen, lanes)
        chosen, on = RUNS_IN.get(runtime, chosen), torch.device("cpu")
        student = cls(learner, session, tokenizer, learner.outputs_of(config), longest, on, chosen, runtime, lanes)
        student.decision, student.reload = learner.decision_of(config), lambda: learner.trained(folder)
        return student

    @classmethod
    def _on_torch(
        cls,
        learner: Learner,
        folder: Path,
        tokenizer: Any,
        max_length: int,
        on: torch.device,
        precision: str,
        lanes: int,
    ) -> Student:
        model, fell_back = learner.trained(folder).to(on, DTYPES[precision]).eval(), None
        probes = tokenize(tokenizer, PROBES, max_length)
        if precision != "fp32" and (reason := works_in(model, "fp32", probes, on)):
            fell_back, precision = f"{reason}, in {precision}", "fp32"
            model = learner.trained(folder).to(on).eval()
        if precision == "fp32" and all(works_in(model, "fp32", [ids], on) == NOT_FINITE for ids in probes):
            raise ModelError(
                "model.weights-not-finite",
                f"{folder}: this student answers no text with finite numbers, in fp32 either: its weights are damaged; "
                "train it again, or take another",
            )
        logits, outputs = TorchLogits(model, on), learner.outputs_of(model.config)
        student = cls(learner, logits, tokenizer, outputs, max_length, on, precision, "torch", lanes)
        student.decision, student.fell_back = learner.decision_of(model.config), fell_back
        if isinstance(transfers := transfers_of(on), PinnedTransfers):
            student.compute_in_flight(model, transfers, budget_of(on))
        student.reload = None if precision == "fp32" else lambda: learner.trained(folder)
        return student

    def compute_in_flight(self, model: Any, transfers: Transfers, budget: Budget) -> None:
        """From here on compute as on an accelerator: the next batch while the last one's answer is fetched."""
        self.in_flight = self._flight(model, transfers, budget)

    def _flight(self, model: Any, transfers: Transfers, budget: Budget) -> InFlight:
        def logits(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
            return found

        return InFlight(logits, transfers, budget, self._pad_id, self._note)

    @contextmanager
    def recorded(self) -> Iterator[list[tuple[int, int]]]:
        """Meanwhile, the rows and the padded length of each batch that is computed."""
        ran: list[tuple[int, int]] = []
        self._ran = ran
        try:
            yield ran
        finally:
            self._ran = None

    def _note(self, rows: int, longest: int) -> None:
        if (ran := self._ran) is not None:
            ran.append((rows, longest))

    @property
    def halved(self) -> int:
        """How often the batches were halved so far because the accelerator's memory ran out."""
        return self.in_flight.budget.halved if self.in_flight else 0

    @property
    def tokens_per_batch(self) -> int:
        """Padded tokens that a batch has at most."""
        if self.in_flight is not None:
            return self.in_flight.budget.tokens
        return TOKENS_PER_BATCH if self.lanes == 1 else TOKENS_PER_LANE[self.runtime]

    def rows_per_batch(self, texts: Sequence[str]) -> int:
        """How many of such texts, of a mean length, a batch has tokens for."""
        tokens = sum(map(len, tokenize(self.tokenizer, texts, self.max_length)))
        return max(1, self.tokens_per_batch * len(texts) // max(1, tokens))

    def predict(
        self,
        texts: Sequence[str],
        batch_rows: int | None = None,
        done: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Probabilities ``(len(texts), len(outputs))``, float32, in the order of ``texts``.

        A row is NaN where the student's answer is not finite numbers, in fp32 either: it is no label.
        """
        result = np.empty((len(texts), len(self.outputs)), dtype=np.float32)
        for rows, found in self.batches(texts, batch_rows):
            result[rows] = found
            if done:
                done(len(rows))
        return result

    def batches(
        self, texts: Sequence[str], batch_rows: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Row numbers and their probabilities, batch by batch, as many at once as there are lanes."""
        with closing(self._batched(texts, batch_rows)) as batches:
            if self.in_flight is None:
                yield from self._side_by_side.map(self.lanes, self._probabilities, batches)
                return
            for rows, ids, logits in self.in_flight.answers(batches):
                yield rows, self._to_probabilities(ids, logits)

    @cached_property
    def _side_by_side(self) -> Lanes:
        return Lanes()

    @cached_property
    def _tokeniser(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _batched(
        self, texts: Sequence[str], batch_rows: int | None
    ) -> Generator[tuple[list[int], list[list[int]]], None, None]:
        """Row numbers and token ids of texts of like length; the next window is tokenised meanwhile."""
        first = min(FIRST_WINDOW * self.lanes, WINDOW)
        windows = list(pairwise([0, *range(first, len(texts), WINDOW), len(texts)]))

        def tokenised(start: int, end: int) -> Future[list[list[int]]]:
            return self._tokeniser.submit(tokenize, self.tokenizer, texts[start:end], self.max_length)

        ahead = tokenised(*windows[0])
        for number, (start, _) in enumerate(windows, 1):
            ids, last = ahead.result(), number == len(windows)
            if not last:
                ahead = tokenised(*windows[number])
            tokens, lanes = self.tokens_per_batch, self.lanes if last else 1
            for batch in length_batches([len(row) for row in ids], tokens, batch_rows, lanes):
                yield [start + index for index in batch], [ids[index] for index in batch]

    def inputs(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """What an int8 student would be called with: token ids and attention masks of texts, batch by batch."""
        ids = tokenize(self.tokenizer, texts, self.max_length)
        batches = length_batches([len(row) for row in ids], TOKENS_PER_LANE["onnx-int8"])
        return [self._padded([ids[index] for index in batch]) for batch in batches]

    def gpu_memory_mb(self) -> float | None:
        """The most memory that this process took of its GPU, in MB; None on a processor."""
        return peak_memory_mb(self.device)

    def _probabilities(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        tokens, mask = self._padded(ids)
        self._note(*tokens.shape)
        return self._to_probabilities(ids, self.logits(tokens, mask))

    def _to_probabilities(self, ids: Sequence[Sequence[int]], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(rows):
            logits = logits.copy()
            logits[rows] = self._recomputed([ids[row] for row in rows])
        return self.learner.probabilities(logits)

    def _recomputed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits in fp32 of texts that had no finite ones; NaN throughout where fp32 has none either."""
        nothing = np.full((len(ids), len(self.outputs)), np.nan, dtype=np.float32)
        with self._lock:  # several lanes may come here at once, and one copy of the weights is enough
            if (in_fp32 := self._in_fp32) is None:
                return nothing
            logits = in_fp32(ids)
            finite = np.isfinite(logits).all(axis=1, keepdims=True)
            self.recomputed += int(finite.sum())
        return np.where(finite, logits, nothing)

    @cached_property
    def _in_fp32(self) -> Callable[[Sequence[Sequence[int]]], NDArray[np.float32]] | None:
        if self.reload is None:
            return None
        model = self.reload().to(self.device).eval()
        if self.in_flight is not None:
            # In fp32 the same batch takes twice the memory: it has a budget of its own.
            budget = Budget(max(1, self.in_flight.budget.tokens // 2))
            flight = self._flight(model, self.in_flight.transfers, budget)
            return lambda ids: flight.launch(ids)()
        logits = TorchLogits(model, self.device)
        return lambda ids: logits(*self._padded(ids))

    @property
    def _pad_id(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return padded(ids, self._pad_id)
