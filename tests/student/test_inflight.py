"""A student's batches on an accelerator, driven on the processor: what stands in for the GPU keeps a log of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from runner.student import corpus_worker, dropout, inflight, model_in_training, predict, timing
from runner.student import fit as training
from runner.student.batches import (
    TOKENS_PER_BATCH,
    Budget,
    batch_figures,
    device_tokens,
    length_batches,
    shared_batches,
)
from runner.student.corpus import Tally
from runner.student.embed import Encoder
from runner.student.fit_config import Fit, Worker
from runner.student.inflight import InFlight, PinnedTransfers, within_memory
from runner.student.load import load_tokenizer
from runner.student.loop import Loop
from runner.student.predict import Student
from runner.student.rows import Rows
from runner.student.save import save_student
from runner.student.tokens import tokenize
from runner.student.trained import StudentRef
from runner.system.errors import ModelError
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

GIB = 2**30
CPU = torch.device("cpu")
TEXTS = [f"Company {n} sold {'very ' * (n % 23)}little in May." for n in range(90)]


class StandIn(PinnedTransfers):
    """Where a GPU would be asked, the processor is, and the log says what was asked for."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.log: list[str] = []
        self.pinned = self.rooms = 0

    def _pinned(self, values: torch.Tensor) -> torch.Tensor:
        self.pinned += 1
        return values.clone()

    def _host(self, shape: torch.Size) -> torch.Tensor:
        return torch.empty(shape)

    def _mark(self) -> Any:
        self.log.append(f"asked {(number := sum(line.startswith('asked') for line in self.log))}")
        log = self.log

        class Event:
            def synchronize(self) -> None:
                log.append(f"waited {number}")

        return Event()

    def make_room(self) -> None:
        self.rooms += 1


def total(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What does not depend on the batch in any bit: the sum and the number of a row's tokens."""
    return torch.stack([(ids * mask).sum(1), mask.sum(1)], dim=1)


def limited(most: int, compute: Callable[..., torch.Tensor] = total) -> Callable[..., torch.Tensor]:
    """``compute`` on a device that has memory for so many padded tokens."""

    def computed(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if ids.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation.")
        return compute(ids, mask)

    return computed


@pytest.mark.parametrize(
    ("name", "capability", "gib", "tokens"),
    [
        ("T4", (7, 5), 14.56, 8_192),
        ("L4", (8, 9), 21.95, 16_384),
        ("A10G", (8, 6), 21.99, 16_384),
        ("A100, 40 GB", (8, 0), 39.39, 32_768),
        ("A100, 80 GB", (8, 0), 79.14, 32_768),
        ("L40S", (8, 9), 44.4, 32_768),
        ("H100", (9, 0), 79.1, 32_768),
        ("H200", (9, 0), 139.7, 32_768),
        ("B200", (10, 0), 178.4, 32_768),
        ("a seventh of an A100", (8, 0), 4.75, 2_048),
        ("three sevenths of an A100, 40 GB", (8, 0), 19.5, 8_192),
        ("RTX 2080", (7, 5), 7.79, 4_096),
        ("Quadro RTX 8000", (7, 5), 47.5, 16_384),
        ("P40, which has no tensor cores", (6, 1), 22.38, 8_192),
    ],
)
def test_a_gpu_gets_batches_by_its_memory(name: str, capability: tuple[int, int], gib: float, tokens: int) -> None:
    assert device_tokens("cuda", capability, int(gib * GIB)) == tokens


def test_a_processor_gets_what_it_always_got() -> None:
    assert device_tokens("cpu") == device_tokens("cpu", (9, 0), 80 * GIB) == TOKENS_PER_BATCH == 2048
    assert inflight.budget_of(CPU) == Budget(2048)
    assert type(inflight.transfers_of(CPU)) is inflight.Transfers


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_the_same_rows_whatever_their_gpus(workers: int) -> None:
    lengths = [int(n) for n in np.random.default_rng(1).integers(3, 400, 500)]
    plain = [[*length_batches(lengths, TOKENS_PER_BATCH)][rank::workers] for rank in range(workers)]
    assert [shared_batches(lengths, 2048, rank, workers) for rank in range(workers)] == plain
    for tokens in (8_192, 32_768):
        for rank in range(workers):
            found = shared_batches(lengths, tokens, rank, workers)
            assert sorted(chain(*found)) == sorted(chain(*plain[rank]))
            assert all(len(batch) * max(lengths[row] for row in batch) <= tokens for batch in found)
            assert len(found) < len(plain[rank])


def batches_of(count: int, rows: int = 3) -> list[tuple[list[int], list[list[int]]]]:
    """Batches of rows of some lengths, longest first."""
    return [
        (list(range(rows * n, rows * n + rows)), [[n + 1] * (10 + rows - row) for row in range(rows)])
        for n in range(count)
    ]


def test_the_next_batch_is_on_its_way_before_the_last_is_waited_for() -> None:
    device = StandIn()
    flight = InFlight(total, device, Budget(1000), 0)
    found = [(rows, answer.tolist()) for rows, _, answer in flight.answers(iter(batches_of(3)))]
    assert device.log == ["asked 0", "asked 1", "waited 0", "asked 2", "waited 1", "waited 2"]
    assert device.pinned == 6  # ids and mask of three batches: none travels from pageable memory
    assert found == [(rows, [[sum(row), len(row)] for row in ids]) for rows, ids in batches_of(3)]


def test_answers_are_not_read_before_they_are_there() -> None:
    """The buffer that a copy ends in is read after its event, not when the copy is asked for."""
    late: list[Callable[[], None]] = []

    class Late(StandIn):
        def _host(self, shape: torch.Size) -> torch.Tensor:
            class Buffer:
                values = np.full(shape, np.nan, dtype=np.float32)

                def copy_(self, given: torch.Tensor, non_blocking: bool) -> None:
                    assert non_blocking
                    late.append(lambda: np.copyto(self.values, given.numpy()))

                def numpy(self) -> NDArray[np.float32]:
                    return self.values.copy()

            return Buffer()  # type: ignore[return-value]

        def _mark(self) -> Any:
            arrive = late[-1]

            class Event:
                def synchronize(self) -> None:
                    arrive()

            return Event()

    found = [answer for _, _, answer in InFlight(total, Late(), Budget(1000), 0).answers(batches_of(3))]
    assert np.isfinite(np.concatenate(found)).all()


@pytest.mark.parametrize("most", [13, 26, 40, 100, 299, 1000])
def test_where_memory_runs_out_the_batch_is_done_again_in_halves(most: int) -> None:
    ids = [[row + 1] * (13 - row % 3) for row in range(23)]
    ran: list[tuple[int, int]] = []
    device = StandIn()
    flight = InFlight(limited(most), device, Budget(1000), 0, lambda *shape: ran.append(shape))
    expected = InFlight(total, StandIn(), Budget(1000), 0).launch(ids)()
    assert np.array_equal(flight.launch(ids)(), expected)  # complete, in order, and the same to the bit
    assert all(rows * longest <= most for rows, longest in ran) and sum(rows for rows, _ in ran) == 23
    assert flight.budget.halved == device.rooms and (flight.budget.halved > 0) == (most < 299)
    before, ran[:] = flight.budget.halved, []
    assert np.array_equal(flight.launch(ids)(), expected)
    assert flight.budget.halved == before  # what was learned of the device's memory holds for what comes later


def test_no_memory_for_a_single_text_is_said_in_one_line() -> None:
    with pytest.raises(ModelError) as caught:
        InFlight(limited(12), StandIn(), Budget(1000), 0).launch([[1] * 13, [1] * 5])
    said = str(caught.value)
    assert said.startswith("the GPU's memory does not hold the student and one text of 13 tokens: CUDA out of memory.")
    assert "set student.max_length lower" in said and "\n" not in said


def test_what_the_failed_forward_held_is_free_before_it_is_tried_again() -> None:
    """An error holds on to its traceback, and that to every value of the layers that were computed."""
    held: list[weakref.ref[Any]] = []

    def compute(piece: Any) -> list[int]:
        assert not any(value() is not None for value in held)
        activations = torch.zeros(10)
        held.append(weakref.ref(activations))
        if len(piece) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [len(row) for row in piece]

    budget = Budget(100)
    assert within_memory(budget, [[1] * 4] * 7, compute, lambda: None) == [[4]] * 7
    assert (budget.tokens, budget.halved, len(held)) == (6, 2, 9)  # 7 rows, then 3, then one after the other


def test_other_errors_are_not_taken_for_a_want_of_memory() -> None:
    def broken(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        InFlight(broken, StandIn(), Budget(100), 0).launch([[1], [2]])
    assert inflight.out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))


class Fetched(TorchDispatchMode):
    """Counts how often the host asks for a number that a device has, and so waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_but_the_landing() -> None:
    device = StandIn()
    with Fetched() as fetched:
        for _ in InFlight(total, device, Budget(1000), 0).answers(batches_of(5)):
            pass
    assert fetched.count == 0 and sum(line.startswith("waited") for line in device.log) == 5


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Iterator[Student]:
    torch.manual_seed(3)
    classifier = learner.fresh(tiny_model, ["bad", "good", "neither"])
    for weight in (weight for weight in classifier.parameters() if weight.ndim > 1):
        torch.nn.init.normal_(weight, std=0.5)
    save_student(classifier, load_tokenizer(tiny_model), tmp_path / "student", 64)
    yield Student.load(learner, tmp_path / "student", 64, "fp32")


def test_a_gpus_facts_are_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SimpleNamespace(major=7, minor=5, total_memory=int(14.56 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda on: facts)
    assert inflight.budget_of(torch.device("cuda")) == Budget(8192)
    assert type(inflight.transfers_of(torch.device("cuda"))) is PinnedTransfers
    figures = {"memory_reserved": 2e9, "max_memory_reserved": 3e9, "mem_get_info": (13.5e9, 16e9)}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda on, figure=figure: figure)
    assert inflight.peak_memory_mb(torch.device("cuda")) == pytest.approx(3500)


def test_a_student_that_is_loaded_onto_an_accelerator_computes_in_flight(
    model: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, expected = StandIn(), model.predict(TEXTS)
    monkeypatch.setattr(predict, "transfers_of", lambda on: device)
    monkeypatch.setattr(predict, "budget_of", lambda on: Budget(500))
    found = Student.load(learner, tmp_path / "student", 64, "fp32")
    assert found.predict(TEXTS) == pytest.approx(expected, abs=1e-4) and found.tokens_per_batch == 500
    assert sum(line.startswith("waited") for line in device.log) > 3
    assert model.in_flight is None  # on a processor each lane has a batch


def test_an_encoder_whose_gpu_is_small_gives_the_same_vectors(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(tiny_model)
    expected, whole = encoder.embed(TEXTS), encoder.model.forward

    def small(**inputs: torch.Tensor) -> Any:
        if inputs["input_ids"].numel() > 150:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(**inputs)

    encoder.model.forward = small
    monkeypatch.setattr(predict, "transfers_of", lambda on: StandIn())
    monkeypatch.setattr(predict, "budget_of", lambda on: Budget(8192))
    assert encoder.embed(TEXTS) == pytest.approx(expected, abs=1e-4)


def test_a_student_in_flight_says_the_same(model: Student) -> None:
    expected = model.predict(TEXTS)
    device = StandIn()
    model.compute_in_flight(model.logits.model, device, Budget(400))  # type: ignore[attr-defined]
    with model.recorded() as ran:
        assert model.predict(TEXTS) == pytest.approx(expected, abs=1e-4)
    assert sum(rows for rows, _ in ran) == len(TEXTS) and len(ran) > 3
    assert all(rows * longest <= 400 for rows, longest in ran)
    assert device.log.index("waited 0") > device.log.index("asked 1")
    with model.recorded() as ran:
        model.predict(TEXTS, batch_rows=2)
    assert {rows for rows, _ in ran} == {2} and model.tokens_per_batch == 400
    assert model.predict([]).shape == (0, 3)


def test_a_student_whose_gpu_is_small_says_the_same(model: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "WINDOW", 30)
    expected, classifier = model.predict(TEXTS), model.logits.model  # type: ignore[attr-defined]

    class Small(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            if input_ids.numel() > 150:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return classifier(input_ids=input_ids, attention_mask=attention_mask)

    model.compute_in_flight(Small(), StandIn(), Budget(8192))
    assert model.predict(TEXTS) == pytest.approx(expected, abs=1e-4)
    assert model.halved > 0 and model.tokens_per_batch <= 150
    before = model.halved
    with model.recorded() as ran:
        model.predict(TEXTS)
    assert model.halved == before and max(rows * longest for rows, longest in ran) <= 150


def test_a_text_without_a_finite_answer_in_flight_is_computed_again_in_fp32(model: Student) -> None:
    expected, classifier = model.predict(TEXTS), model.logits.model  # type: ignore[attr-defined]
    bad = tokenize(model.tokenizer, [TEXTS[7]], 64)[0]

    class Overflows(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            found = classifier(input_ids=input_ids, attention_mask=attention_mask)
            for row, tokens in enumerate(input_ids.tolist()):
                if tokens[: len(bad)] == bad:
                    found.logits[row, 1] = float("inf")
            return found

    model.compute_in_flight(Overflows(), StandIn(), Budget(400))
    assert np.isnan(model.predict(TEXTS)[7]).all()  # fp32 has nothing better where it is fp32 already
    model.__dict__.pop("_in_fp32", None)
    model.reload = lambda: classifier
    assert model.predict(TEXTS) == pytest.approx(expected, abs=1e-4) and model.recomputed == 1


def test_what_the_batches_held_is_counted_with_and_without_lanes(model: Student) -> None:
    for lanes in (1, 2):
        model.lanes = lanes
        with model.recorded() as ran:
            model.predict(TEXTS, batch_rows=4)
        assert sorted(rows for rows, _ in ran) == [2] + [4] * 22
        figures = batch_figures(ran)
        assert figures is not None and figures["batches"] == 23 and figures["rows"] == pytest.approx(90 / 23)
        assert figures["tokens"] == pytest.approx(sum(rows * longest for rows, longest in ran) / 23)
    model.predict(TEXTS)
    assert model._ran is None and batch_figures([]) is None


def test_memory_of_a_gpu_counts_what_is_reserved_and_the_context() -> None:
    """A GPU of 16 GB: torch reserves 2.0 GB now and 3.0 at most; 2.5 are taken of it, so that 0.5 are the context's."""
    assert inflight.peak_mb(13_500_000_000, 16_000_000_000, 2_000_000_000, 3_000_000_000) == pytest.approx(3500)
    assert inflight.peak_mb(15_000_000_000, 16_000_000_000, 2_000_000_000, 2_000_000_000) == pytest.approx(2000)
    assert inflight.peak_memory_mb(CPU) is None


def test_a_benchmark_on_an_accelerator_says_what_was_in_its_batches(
    model: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = TEXTS[:30]
    model.compute_in_flight(model.logits.model, StandIn(), Budget(400))  # type: ignore[attr-defined]
    trained = type("Opens", (), {"open": lambda self: model})()
    found = timing.measure(trained, texts, [1, 4, 256])
    assert [row["batch_size"] for row in found["throughput"]] == [1, 4, 256, None]
    one, four, many, full = (row["batch"] for row in found["throughput"])
    assert one["rows"] == 1 and one["batches"] == 30 and 3 < four["rows"] <= 4
    assert 4 < many["rows"] < 256 and many["tokens"] <= 400  # a budget of tokens, not 256 rows
    assert full["rows"] == pytest.approx(many["rows"]) and full["batches"] >= 6  # the texts are taken again
    assert found["texts_per_second"] == max(row["texts_per_second"] for row in found["throughput"])
    assert found["batch"] in (one, four, many, full) and found["tokens_per_batch"] == 400
    assert found["memory_ran_out"] == 0


def test_a_benchmark_on_a_processor_times_the_texts_once(model: Student) -> None:
    model.lanes = 1
    found = timing._throughput(model, TEXTS, [8, 256])
    assert [row["batch_size"] for row in found] == [8, 256]
    assert found[0]["batch"]["batches"] == 12 and found[1]["batch"]["tokens"] <= TOKENS_PER_BATCH
    assert sum(row["batch"]["rows"] * row["batch"]["batches"] for row in found) == pytest.approx(2 * len(TEXTS))


def test_a_corpus_says_what_was_in_its_batches_and_that_they_were_halved(model: Student, tmp_path: Path) -> None:
    classifier = model.logits.model  # type: ignore[attr-defined]

    class Small(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            if input_ids.numel() > 150:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return classifier(input_ids=input_ids, attention_mask=attention_mask)

    model.compute_in_flight(Small(), StandIn(), Budget(512))
    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    data = corpus_worker._as_bytes(table)
    part = {"file": 0, "number": 0, "name": "a.parquet", "rows": 90, "table": data, "counts": None}
    ref, tally = StudentRef(str(tmp_path), "student", 64, "fp32"), Tally()
    worker = corpus_worker.Predictor(ref, 0.0, str(tmp_path))
    worker.__dict__["_student"] = model
    for done in worker(pa.Table.from_pylist([part], schema=corpus_worker.PART)):
        for line in done.to_pylist():
            tally.add(line)
    summary = tally.summary()
    assert summary["rows"] == sum(summary["labels"].values()) == 90
    assert summary["batch"]["batches"] * summary["batch"]["rows"] == pytest.approx(90)
    assert summary["batch"]["tokens"] <= 150
    [warning] = summary["warnings"]
    assert warning.startswith(f"the GPU's memory ran out {model.halved} time") and "no result is missing" in warning
    assert f"halved to {model.tokens_per_batch} tokens" in warning


def rows_of(count: int) -> Rows:
    return Rows(TEXTS[:count], np.array([[0.9, 0.1], [0.1, 0.9]] * (count // 2), dtype=np.float32))


def loop_of(model: Path, **changes: Any) -> Loop:
    fit = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "max_length": 32, "precision": "fp32", "seed": 0}
    wanted = Fit(**{"model": model, "outputs": ("bad", "good"), **fit, **changes})
    return Loop(learner, wanted, rows_of(40), rows_of(40), Worker())


def test_held_out_rows_are_answered_also_where_memory_runs_out(tiny_model: Path) -> None:
    loop = loop_of(tiny_model)
    expected = loop.logits(loop.held_out_ids)
    whole, loop.transfers, loop.budget = loop.bare.forward, StandIn(), Budget(8192)

    def small(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        if input_ids.numel() > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(input_ids=input_ids, attention_mask=attention_mask)

    loop.bare.forward = small
    torch.testing.assert_close(loop.logits(loop.held_out_ids), expected, rtol=1e-4, atol=1e-5)
    assert loop.budget.halved > 0


def test_a_training_over_an_accelerators_transfers_ends_at_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Fit(tiny_model, ("bad", "good"), 2, 1e-3, 8, 32, "fp32", 0, accumulate=2)
    expected = training.fit(learner, fit, rows_of(40), rows_of(40), tmp_path / "plain")
    device = StandIn()
    monkeypatch.setattr(model_in_training, "transfers_of", lambda on: device)
    found = training.fit(learner, fit, rows_of(40), rows_of(40), tmp_path / "sent")
    assert device.pinned > 2 * 10 * 3  # ids, mask and row numbers of each part of ten steps
    plain, sent = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "sent"))
    assert all(torch.equal(plain[name], sent[name]) for name in plain)
    assert [epoch["train_loss"] for epoch in found["history"]] == [e["train_loss"] for e in expected["history"]]


def test_a_step_fetches_nothing_from_the_device(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But what transformers asks of a mask, once a forward; the loss is fetched when the epoch is over."""
    monkeypatch.setattr(dropout, "put_in", lambda model: None)  # the processors' own, which draws on the host
    loop = loop_of(tiny_model, accumulate=4)
    loop.transfers = StandIn()
    loop.begin_epoch()
    [batch, *_] = loop.batches(0)
    with Fetched() as fetched:
        loop.learn(batch)
    assert fetched.count == 4
    assert float(loop.loss) / len(batch) == pytest.approx(0.69, abs=0.1) and float(loop.lost) == 0


def test_a_training_that_the_gpu_has_no_memory_for_is_said_in_one_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore")

    monkeypatch.setattr(Loop, "learn", no_memory)
    fit = Fit(tiny_model, ("bad", "good"), 1, 1e-3, 8, 32, "fp32", 0, accumulate=2)
    with pytest.raises(
        ModelError, match=r"^[^\n]*does not hold a part of a training step: CUDA out of memory[^\n]*$"
    ) as e:
        training.fit(learner, fit, rows_of(16), rows_of(8), tmp_path / "out")
    assert "set student.accumulate higher than 2" in str(e.value)
