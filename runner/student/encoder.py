"""Encoders at work: the student loads, batches texts by length and predicts; texts become vectors.

Knows torch and transformers; does not know Ray, the spec or the run folder.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from runner.cluster import worker
from runner.models.folder import positions, writes_text
from runner.student import pooling, shortcuts, vocabulary
from runner.student.batches import TOKENS_PER_BATCH, TOKENS_PER_LANE, Budget, length_batches, padded
from runner.student.finite import NOT_FINITE
from runner.student.inflight import InFlight, PinnedTransfers, Transfers, budget_of, peak_memory_mb, transfers_of
from runner.student.runtimes.exported import Form, Logits, open_session
from runner.system import machine
from runner.system.errors import ModelError, first_line

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

WINDOW = 4096
"""Texts that are tokenised together, and sorted by length among themselves."""

FIRST_WINDOW = 256
"""For each core, at first: fewer, for nothing can be predicted meanwhile."""

RUNS_IN = {"onnx": "fp32", "onnx-int8": "int8"}
"""The precision of runtimes that have one of their own."""

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

LONGEST = 512
"""Tokens of a text that are read where a model folder does not say how many it was trained with."""

PROBES = (
    "A text.",
    "In 2024, sales of 1,250 units (up 12.5 %) didn't reach EUR 3.4 million; see https://example.org/a_b?c=d#e!",
    "La société a publié ses résultats. Das Ergebnis übertraf die Erwartungen. 公司公布了业绩。 Выручка выросла.",
    " ".join(str(number) for number in range(100)),
)
"""Texts that a student must be able to answer in the precision that it is loaded in."""

_NOT_SAID = 10**9
"""A limit as high as this is how tokenizers say that they have none."""

CHARACTERS_PER_TOKEN = 100
"""What lies beyond this many characters for each token that is kept is cut off before tokenising."""

# Left open, transformers asks on the terminal whether to run a model's own code.
_AS_DATA: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

# NULs and lone surrogates cannot be encoded; tokenizers refuse or mangle them.
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")


def device() -> torch.device:
    """The accelerator that this process was given, or the CPU.

    :raises ModelError: when Ray gave this process a GPU that torch cannot use: the processor would take its place, and
        the GPU's price.
    """
    given = worker.given_gpu()
    if torch.cuda.is_available() and given is not False:
        return torch.device("cuda")
    if given:
        raise ModelError(f"Ray gave this worker a GPU, and torch cannot use it: {_why_no_cuda()}")
    return torch.device("cpu")


def _why_no_cuda() -> str:
    """Torch's reason, and what to do about it."""
    built, driver = torch.version.cuda, machine.nvidia_driver()
    if built is None:
        return f"torch {torch.__version__} is built without CUDA: install the CUDA build (the extra tutelage[gpu])"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = "it sees no device"
    except (AssertionError, RuntimeError) as error:
        reason = first_line(error)
    advice = (
        "is too old for it: bring a newer one"
        if machine.driver_is_old(driver, built)
        else "may tell more by `nvidia-smi`"
    )
    known = f"driver {driver} {advice}" if driver else "no NVIDIA driver is loaded on that node"
    return f"{reason} (torch is built for CUDA {built}); {known}, or set student.resources.gpus: 0"


def pick_precision(wanted: str, on: torch.device) -> str:
    """``auto`` means bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32."""
    if wanted != "auto":
        return wanted
    if on.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(on)[0] >= 8 else "fp16"
    return "bf16" if machine.has_bf16() else "fp32"


def load_tokenizer(folder: Path) -> Any:
    """The folder's own tokenizer. :raises ModelError: when there is none."""
    try:
        return AutoTokenizer.from_pretrained(folder, **_AS_DATA)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no tokenizer could be loaded: {_reason(error)}") from error


def load_config(folder: Path) -> Any:
    """The folder's own configuration. :raises ModelError: when there is none, or of an unknown kind."""
    try:
        return AutoConfig.from_pretrained(folder, **_AS_DATA)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its configuration cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which is never run; name a model that transformers knows without it"
    return first_line(error)


def load_classifier(folder: Path, labels: Sequence[str] | None = None, pooled: bool = False) -> Any:
    """A sequence classifier from safetensors; with ``labels``, a fresh head of that size.

    With ``pooled`` as well, the head reads the mean of all tokens (:mod:`runner.student.pooling`).

    :raises ModelError: when the folder holds no encoder that can classify, or only pickled weights; without
        ``labels`` also where there is no trained head.
    """
    head: dict[str, Any] = {}
    if labels is not None:
        head = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": "single_label_classification",
            "ignore_mismatched_sizes": True,
        }
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **_AS_DATA, **head
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: cannot be loaded as a sequence classifier: {_reason(error)}; "
            "the student must be an encoder with safetensors weights"
        ) from error
    config = model.config
    if _generates(config):
        raise ModelError(f"{folder}: {config.model_type} is a generative model; the student must be an encoder")
    if labels is None and any(not name.startswith(f"{model.base_model_prefix}.") for name in found["missing_keys"]):
        raise ModelError(f"{folder}: an encoder that was not trained to classify; train it first (`tutelage run`)")
    if config.num_labels < 2 or (labels is None and config.problem_type == "multi_label_classification"):
        raise ModelError(
            f"{folder}: does not choose one of several labels (num_labels: {config.num_labels}, problem_type: "
            f"{config.problem_type}), so that its answers are no probabilities of labels"
        )
    if pooled:
        pooling.add_mean_pooling(model)
    shortcuts.take(model)
    return model


def can_pool(folder: Path) -> bool:
    """Whether :func:`load_classifier` can have this encoder's head read the mean of its tokens."""
    return load_config(folder).model_type in pooling.KINDS


def _generates(config: Any) -> bool:
    """Whether a model writes text: by its class, or by being of a kind that only ever looks back."""
    kind = config.model_type
    decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decoder |= config.pad_token_id is None or bool(getattr(config, "is_decoder", False))
    return decoder or writes_text({"architectures": getattr(config, "architectures", None)})


def label_names(config: Any) -> list[str]:
    """The labels of a classifier's configuration, in the order of its logits."""
    return [config.id2label[index] for index in range(config.num_labels)]


def clean(text: str) -> str:
    """The text without what cannot be encoded; everything else stays as it is."""
    return _UNENCODABLE.sub(" ", text)


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids per text, cut to ``max_length``, unpadded. Control tokens in a text stay text."""
    if not texts:
        return []
    encoded = tokenizer(
        [clean(text[: max_length * CHARACTERS_PER_TOKEN]) for text in texts],
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
        split_special_tokens=True,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def count_cut(tokenizer: Any, texts: Sequence[str], ids: Sequence[Sequence[int]], max_length: int) -> int:
    """How many of the texts that :func:`tokenize` made ``ids`` of lost their end."""
    full = [text for text, row in zip(texts, ids, strict=True) if len(row) >= max_length]
    return sum(len(row) > max_length for row in tokenize(tokenizer, full, max_length + 1))


def count_unknown(tokenizer: Any, ids: Sequence[Sequence[int]]) -> vocabulary.Unknown:
    """What of texts, given as token ids, the tokenizer has no token for."""
    return vocabulary.count(ids, tokenizer.unk_token_id, tokenizer.all_special_ids)


def works_in(model: Any, precision: str, texts: Sequence[Sequence[int]], on: torch.device) -> str | None:
    """Why the model cannot read all ``texts``, given as token ids, with products in ``precision``; None where it can.

    Some encoders cannot in half precision, and the values of others leave its range. ``fp32`` leaves the numbers of the
    model's own weights as they are.
    """
    cast = precision != "fp32"
    half = cast or next(model.parameters()).dtype != torch.float32
    for ids in texts:
        tokens = torch.tensor([list(ids)], device=on)
        try:
            with (
                torch.inference_mode(),
                torch.autocast(on.type, dtype=DTYPES[precision] if cast else None, enabled=cast),
                _watched(model, torch.isfinite if half else _is_number) as broken,
            ):
                logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            return first_line(error)
        if broken or not torch.isfinite(logits).all():
            return NOT_FINITE
    return None


@contextmanager
def _watched(model: Any, sound: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[list[str]]:
    """Collects the parts of a model whose output is not ``sound`` meanwhile.

    The logits do not show it all: torch's attention on processors takes scores that are NaN for nothing, and answers
    with finite numbers that mean nothing.
    """
    broken: list[str] = []

    def look(part: Any, given: Any, output: Any) -> None:
        for value in output if isinstance(output, tuple) else (output,):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not sound(value).all():
                broken.append(type(part).__name__)

    handles = [part.register_forward_hook(look) for part in model.modules()]
    try:
        yield broken
    finally:
        for handle in handles:
            handle.remove()


def _is_number(values: torch.Tensor) -> torch.Tensor:
    """Where ``values`` are not NaN: in fp32 a mask may well be infinite."""
    return ~torch.isnan(values)


def check_weights(model: Any, folder: Path) -> None:
    """:raises ModelError: when a weight is not a finite number: what is learned from there would be NaN as well."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ModelError(
                f"{folder}: its weights are damaged: {name} holds values that are not finite numbers; fetch the model "
                "again, or take another student"
            )


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


def longest_for(tokenizer: Any, config: Any) -> int:
    """How many tokens of a text a model reads: what its tokenizer says, and no more than it has positions for."""
    said = tokenizer.model_max_length
    limits = [said if said < _NOT_SAID else LONGEST, positions(config.to_dict())]
    return min(limit for limit in limits if limit is not None)


@dataclass
class Student:
    """A classifier ready to predict: its runtime, tokenizer and label names, in one precision on one device."""

    logits: Logits
    tokenizer: Any
    labels: list[str]
    max_length: int
    device: torch.device
    precision: str
    runtime: str = "torch"
    lanes: int = 1
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
        tokenizer = load_tokenizer(folder)
        config = load_config(folder)
        longest = max_length or longest_for(tokenizer, config)
        if runtime != "torch":
            assert exports is not None
            session = open_session(cast("Form", runtime), exports, chosen, lanes)
            chosen = RUNS_IN.get(runtime, chosen)
            on = torch.device("cpu")
            found = cls(session, tokenizer, label_names(config), longest, on, chosen, runtime, lanes)
            found.reload = lambda: load_classifier(folder)
            return found
        model, fell_back = load_classifier(folder).to(on, DTYPES[chosen]).eval(), None
        probes = tokenize(tokenizer, PROBES, longest)
        if chosen != "fp32" and (reason := works_in(model, "fp32", probes, on)):
            fell_back, chosen = f"{reason}, in {chosen}", "fp32"
            model = load_classifier(folder).to(on).eval()
        if chosen == "fp32" and all(works_in(model, "fp32", [ids], on) == NOT_FINITE for ids in probes):
            raise ModelError(
                f"{folder}: this student answers no text with finite numbers, in fp32 either: its weights are damaged; "
                "train it again, or take another"
            )
        found = cls(TorchLogits(model, on), tokenizer, label_names(model.config), longest, on, chosen, "torch", lanes)
        found.fell_back = fell_back
        if isinstance(transfers := transfers_of(on), PinnedTransfers):
            found.compute_in_flight(model, transfers, budget_of(on))
        found.reload = None if chosen == "fp32" else lambda: load_classifier(folder)
        return found

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
        """Probabilities ``(len(texts), len(labels))``, float32, in the order of ``texts``.

        A row is NaN where the student's answer is not finite numbers, in fp32 either: it is no label.
        """
        result = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for rows, found in self.batches(texts, batch_rows):
            result[rows] = found
            if done:
                done(len(rows))
        return result

    def batches(
        self, texts: Sequence[str], batch_rows: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Row numbers and their probabilities, batch by batch, as many at once as there are lanes."""
        if self.in_flight is not None:
            with closing(self._batched(texts, batch_rows)) as batches:
                for rows, ids, logits in self.in_flight.answers(batches):
                    yield rows, self._to_probabilities(ids, logits)
            return
        waiting: deque[tuple[list[int], Future[NDArray[np.float32]]]] = deque()
        threads = torch.get_num_threads()
        with closing(self._batched(texts, batch_rows)) as batches:
            first = list(islice(batches, self.lanes))
            lanes = max(1, len(first))
            submit = self._submit(lanes)
            try:
                for rows, ids in chain(first, batches):
                    waiting.append((rows, submit(self._probabilities, ids)))
                    if len(waiting) > 2 * lanes:
                        done, found = waiting.popleft()
                        yield done, found.result()
                for done, found in waiting:
                    yield done, found.result()
            finally:
                for _, found in waiting:
                    found.cancel()
                wait([found for _, found in waiting])
                torch.set_num_threads(threads)  # part of the setting is the whole process's

    def _submit(self, lanes: int) -> Callable[..., Future[Any]]:
        """A ``submit`` that works on as many calls at once as there are lanes.

        Several batches get a core each, so that none waits for another: on two cores that is 1.2 to 1.4 times as fast
        as one batch after the other on both, which meet after every layer. Fewer than there are cores share them.
        """
        if lanes == 1:
            return _at_once
        cores = max(1, self.lanes // lanes)
        return lambda function, *arguments: self._workers.submit(_with_cores, cores, function, *arguments)

    # Threads are kept: glibc gives a new one any of the memory that others left, and in time each piece of it grows to
    # the most that one took. New threads for each call cost a process that applied 80,000 texts 200 MB more.
    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.lanes)

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
        found: NDArray[np.float32] = softmax(logits, axis=-1)
        return found

    def _recomputed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits in fp32 of texts that had no finite ones; NaN throughout where fp32 has none either."""
        nothing = np.full((len(ids), len(self.labels)), np.nan, dtype=np.float32)
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


def _with_cores(cores: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function`` called in a thread that has so many cores."""
    torch.set_num_threads(cores)
    return function(*arguments)


def _at_once(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """``function`` called here and now."""
    done: Future[Any] = Future()
    done.set_result(function(*arguments))
    return done


@dataclass
class Encoder:
    """A text encoder that says what is near what, on one device, in fp32."""

    model: Any
    tokenizer: Any
    device: torch.device

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """:raises ModelError: when the folder holds no encoder with safetensors weights."""
        try:
            model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **_AS_DATA)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: cannot be loaded as an encoder: {_reason(error)}") from error
        on = device()
        return cls(model.to(on).eval(), load_tokenizer(folder), on)

    def embed(self, texts: Sequence[str], max_length: int = 256) -> NDArray[np.float32]:
        """Vectors of length 1, ``(len(texts), width)``, float32: the mean of the last hidden states over tokens."""
        ids = tokenize(self.tokenizer, texts, max_length)
        found = np.empty((len(ids), self.model.config.hidden_size), dtype=np.float32)
        flight = InFlight(
            self._vectors, transfers_of(self.device), budget_of(self.device), self.tokenizer.pad_token_id or 0
        )
        batches = length_batches([len(row) for row in ids], flight.budget.tokens)
        for batch, _, vectors in flight.answers((batch, [ids[index] for index in batch]) for batch in batches):
            found[batch] = vectors
        if not np.isfinite(found).all():
            raise ModelError("the encoder's vectors are not finite numbers: its weights are damaged; take another")
        return found

    def _vectors(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states, shown = self.model(input_ids=ids, attention_mask=mask).last_hidden_state, mask.unsqueeze(-1)
        return torch.nn.functional.normalize((states * shown).sum(1) / shown.sum(1), dim=-1)


def save_student(model: Any, tokenizer: Any, folder: Path, max_length: int) -> None:
    """Safetensors, tokenizer and label names, so that a plain ``transformers.pipeline`` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8"))
    config["model_max_length"] = max_length
    config["split_special_tokens"] = True  # text from the world is text, whoever loads the folder
    settings.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
