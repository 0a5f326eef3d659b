"""Training on a tiny encoder: it learns, it repeats itself, and it keeps the best epoch."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import pipeline

from runner.student import fit, model_in_training, recipes
from runner.student.fit_config import Fit, Worker
from runner.student.held_out import FEWEST_ROWS, split_rows
from runner.student.loop import Loop
from runner.student.predict import Student
from runner.student.rows import Rows
from runner.student.schedule import default_learning_rate, depth, epoch_batches, layer_rate
from runner.student.training_state import Epoch, chosen_epoch
from runner.student.works_in import works_in
from runner.system.errors import ModelError, UserError
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = ("negative", "positive")
GOOD, BAD = ("profit rose", "sales grew", "orders doubled", "record year"), ("loss widened", "sales fell")


def easy(count: int, start: int = 0) -> Rows:
    """Rows that two words decide, with probabilities that lean as far as a good teacher's."""
    texts, targets = [], []
    for i in range(start, start + count):
        good = i % 2 == 0
        words = GOOD[i // 2 % len(GOOD)] if good else BAD[i // 2 % len(BAD)]
        texts.append(f"{words} in {['may', 'june', 'july'][i % 3]} {'again ' * (i % 5)}")
        targets.append([0.1, 0.9] if good else [0.9, 0.1])
    return Rows(texts, np.array(targets, dtype=np.float32))


def config(model: Path, **changes: Any) -> Fit:
    wanted: dict[str, Any] = {"epochs": 5, "learning_rate": 1.5e-2, "batch_size": 8, "max_length": 32}
    wanted |= {"precision": "fp32", "seed": 0}
    return Fit(model=model, outputs=LABELS, **{**wanted, **changes})


def epochs(loop: Any, count: int) -> Iterator[int]:
    """The number of each epoch, when it is over."""
    for epoch in range(count):
        loop.begin_epoch()
        for batch in loop.batches(epoch):
            loop.learn(batch)
        loop.finish_epoch()
        yield epoch


def accuracy(folder: Path, rows: Rows) -> float:
    found = Student.load(learner, folder, 32, "fp32").predict(rows.texts)
    return float((found.argmax(axis=1) == rows.targets.argmax(axis=1)).mean())


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[Any]]:
    torch.set_num_threads(1)
    folder, seen = tmp_path_factory.mktemp("trained"), []
    report = lambda done, total, course: seen.append((done, total, len(course.history)))  # noqa: E731
    result = fit.fit(learner, config(tiny_model), easy(40), easy(10, 40), folder, report=report)
    return folder, result, seen


def test_it_learns(trained: Any, tmp_path: Path) -> None:
    folder, result, _ = trained
    assert accuracy(folder, easy(60, 100)) > 0.9
    losses = [epoch["train_loss"] for epoch in result["history"]]
    assert losses[-1] < losses[0]
    assert result["history"][-1]["val_accuracy"] > 0.9
    assert (result["learning_rate"], result["precision"], result["workers"]) == (1.5e-2, "fp32", 1)
    assert result["truncated_rows"] == 0


def test_a_model_that_cannot_compute_in_half_precision_learns_in_fp32(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = works_in
    monkeypatch.setattr(
        model_in_training,
        "works_in",
        lambda model, precision, *more: "no" if precision != "fp32" else real(model, precision, *more),
    )
    result = fit.fit(learner, config(tiny_model, precision="bf16", epochs=1), easy(8), easy(4, 8), tmp_path)
    assert result["precision"] == "fp32"


def test_a_text_longer_than_the_model_reads_is_said_before_anything_is_learned(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = Rows(["word " * 900, "short"], easy(2).targets)
    with pytest.raises(ModelError, match=r"tiny-model.*: this student cannot read a text of 600 tokens"):
        fit.fit(learner, config(tiny_model, max_length=600), rows, easy(2), tmp_path)


def test_progress_is_told_up_to_the_end(trained: Any) -> None:
    _, _, seen = trained
    done = [row[0] for row in seen]
    assert done == sorted(done)
    assert seen[-1] == (200, 200, 5)


def test_the_same_seed_gives_the_same_weights(trained: Any, tiny_model: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    fit.fit(learner, config(tiny_model), easy(40), easy(10, 40), same)
    fit.fit(learner, config(tiny_model, seed=1), easy(40), easy(10, 40), other)
    first, again, seeded = (load_file(folder / "model.safetensors") for folder in (trained[0], same, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], seeded[name]) for name in first)


def test_a_plain_pipeline_reads_the_result(trained: Any) -> None:
    texts = easy(20, 200).texts
    found = Student.load(learner, trained[0], 32, "fp32").predict(texts)
    plain = pipeline("text-classification", model=str(trained[0]), device="cpu")
    assert [said["label"] for said in plain(texts)] == [LABELS[int(row.argmax())] for row in found]
    assert plain.tokenizer.model_max_length == 32


def test_the_weights_of_the_chosen_epoch_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    """Held-out rows that say the opposite of train: the last epochs are worse than the first."""
    train, held_out = easy(40), easy(10, 40)
    turned = Rows(held_out.texts, held_out.targets[:, ::-1].copy())
    result = fit.fit(learner, config(tiny_model, average=False), train, turned, tmp_path)
    history = [Epoch(**epoch) for epoch in result["history"]]
    chosen = chosen_epoch(history, 10)
    assert result["best_epoch"] == chosen.epoch < len(history)
    assert result["averaged"] is None
    assert loss(tmp_path, turned) == pytest.approx(chosen.val_loss, abs=1e-4)


def loss(folder: Path, rows: Rows) -> float:
    logits = np.log(Student.load(learner, folder, 32, "fp32").predict(rows.texts))
    return float(learner.loss(torch.tensor(logits), torch.tensor(rows.targets)))


def test_the_mean_of_the_later_epochs_is_kept_where_it_is_no_worse(tiny_model: Path, tmp_path: Path) -> None:
    train, held_out = easy(40), easy(10, 40)
    loop = Loop(learner, config(tiny_model), train, held_out, Worker())
    ends = []
    for _ in epochs(loop, 5):
        with loop.whole_vocabulary():
            ends.append({name: value.clone() for name, value in loop.bare.state_dict().items()})
    averaged = fit.fit(learner, config(tiny_model), train, held_out, tmp_path)["averaged"]
    assert averaged["taken"] and averaged["epochs"] == 3
    kept = load_file(tmp_path / "model.safetensors")
    for name, value in kept.items():
        assert torch.allclose(value, sum(end[name] for end in ends[2:]) / 3, atol=1e-6)
    assert loss(tmp_path, held_out) == pytest.approx(averaged["val_loss"], abs=1e-4)


def test_averaged_weights_that_held_out_rows_speak_against_are_not_kept(tiny_model: Path, tmp_path: Path) -> None:
    """The first epoch agrees with none of train, and so with all of these rows; the later ones learn train."""
    train, held_out = easy(40), easy(40, 40)
    turned = Rows(held_out.texts, held_out.targets[:, ::-1].copy())
    result = fit.fit(learner, config(tiny_model, epochs=8), train, turned, tmp_path)
    best = max(epoch["val_accuracy"] for epoch in result["history"])
    assert result["averaged"]["val_accuracy"] < best - math.sqrt(best * (1 - best) / 40)
    assert not result["averaged"]["taken"]
    chosen = result["history"][result["best_epoch"] - 1]
    assert loss(tmp_path, turned) == pytest.approx(chosen["val_loss"], abs=1e-4)


def test_held_out_rows_that_the_teacher_guessed_count_little(tiny_model: Path) -> None:
    sure, guessed = easy(20), easy(20, 20)
    wrong = Rows(guessed.texts, np.where(guessed.targets > 0.5, 0.49, 0.51).astype(np.float32))
    both = Rows([*sure.texts, *wrong.texts], np.concatenate([sure.targets, wrong.targets]))
    loop = Loop(learner, config(tiny_model), easy(40), both, Worker())
    assert list(epochs(loop, 5)) == [0, 1, 2, 3, 4]
    assert loop.state.history[-1].val_accuracy > 0.95  # half of the rows, by count, say otherwise


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 500))
def test_the_last_epoch_within_a_standard_error_is_chosen(accuracies: list[float], rows: int) -> None:
    history = [Epoch(i, 0, 0, accuracy, 0, 0) for i, accuracy in enumerate(accuracies)]
    chosen = chosen_epoch(history, rows)
    best = max(accuracies)
    error = math.sqrt(best * (1 - best) / rows)
    assert chosen.val_accuracy >= best - error
    assert all(epoch.val_accuracy < best - error for epoch in history[chosen.epoch + 1 :])
    # One more epoch never brings back one that was passed over: only the chosen one's weights are kept.
    before = chosen_epoch(history[:-1], rows) if len(history) > 1 else chosen
    assert chosen in (before, history[-1])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("bert.embeddings.word_embeddings.weight", 0),
        ("bert.encoder.layer.0.attention.self.query.weight", 1),
        ("bert.encoder.layer.5.output.dense.bias", 6),
        ("bert.encoder.relative_attention_bias.weight", 0),
        ("bert.pooler.dense.weight", None),
        ("classifier.weight", None),
    ],
)
def test_a_parameter_learns_at_the_rate_of_its_layer(name: str, layer: int | None) -> None:
    assert depth(name, "bert") == layer
    rates = [layer_rate(n, 6) for n in [0, 1, 6, None]]
    assert rates == sorted(rates) and rates[0] == recipes.LOWEST_RATE and rates[-1] == 1


lengths = st.lists(st.integers(1, 200), min_size=1, max_size=150)


@given(lengths, st.integers(1, 16), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_sees_every_row_once(sizes: list[int], size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(sizes, size, seed, epoch)
    assert sorted(itertools.chain(*batches)) == list(range(len(sizes)))
    assert all(0 < len(batch) <= size for batch in batches)
    assert batches == epoch_batches(sizes, size, seed, epoch)


def test_epochs_and_seeds_differ_in_order_and_rows_of_a_batch_in_length_little() -> None:
    sizes = [int(n) for n in np.random.default_rng(0).integers(5, 100, 400)]
    batches = epoch_batches(sizes, 8, 0, 0)
    assert batches != epoch_batches(sizes, 8, 0, 1)
    assert batches != epoch_batches(sizes, 8, 1, 0)
    padded = sum(len(batch) * max(sizes[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(sizes)


@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
def test_soft_cross_entropy_is_torchs_own(rows: int, labels: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(rows, labels, generator=random)
    hard = torch.randint(labels, (rows,), generator=random)
    soft = torch.softmax(torch.randn(rows, labels, generator=random), dim=-1)
    one_hot = torch.nn.functional.one_hot(hard, labels).float()
    torch.testing.assert_close(learner.loss(logits, one_hot), torch.nn.functional.cross_entropy(logits, hard))
    torch.testing.assert_close(learner.loss(logits, soft), torch.nn.functional.cross_entropy(logits, soft))


def test_small_models_take_larger_steps(trained: Any, tiny_model: Path) -> None:
    minilm, mpnet = map(default_learning_rate, (22_700_000, 109_000_000))
    assert 1e-3 > minilm > mpnet > 1e-6
    loop = Loop(learner, config(tiny_model, learning_rate=None), easy(4), easy(2), Worker())
    assert loop.learning_rate == default_learning_rate(trained[1]["parameters"]) == minilm


@given(st.integers(1, 500), st.integers(1, 50), st.floats(0.01, 0.5), st.integers(0, 9))
def test_held_out_and_kept_rows_are_all_rows(count: int, kinds: int, share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, kinds, count).tolist()
    held_out, kept = split_rows(labels, share, seed)
    assert sorted(held_out + kept) == list(range(count))
    assert len(held_out) <= max(1, count * share + 0.5)
    assert (held_out, kept) == split_rows(labels, share, seed)
    before, left = (Counter(labels[row] for row in rows) for rows in (range(count), kept))
    assert all(2 * left[label] >= before[label] for label in before)
    if count < FEWEST_ROWS or max(before.values()) < 2:
        assert not held_out
    elif kinds == 1:  # labels with many rows lose exactly their share
        assert abs(len(held_out) - count * share) <= 1


def plain(model: Path, folder: Path) -> Path:
    """The tiny model without dropout, whose random choices depend on how a batch is divided."""
    shutil.copytree(model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def gradients(loop: Loop, batch: list[int]) -> tuple[float, list[torch.Tensor]]:
    loop.model.eval()
    total = float(loop.gradients(batch)[0])
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in loop.bare.parameters()]
    loop.optimizer.zero_grad()
    return total, found


@pytest.mark.parametrize("size", [0.01, 100.0], ids=["short", "long"])
def test_a_step_is_that_of_clipped_gradients(tiny_model: Path, size: float) -> None:
    """As clip_grad_norm_ and torch.optim.AdamW make it, whether or not the gradients are longer than 1."""
    one, other = (Loop(learner, config(tiny_model), easy(9), easy(2), Worker()) for _ in range(2))
    for _ in range(3):
        generator = torch.Generator().manual_seed(7)
        for mine, theirs in zip(one.bare.parameters(), other.bare.parameters(), strict=True):
            drawn = torch.randn(mine.shape, generator=generator)
            mine.grad, theirs.grad = drawn * size / 200, drawn * size / 200
        norm = one._clip()
        expected = torch.nn.utils.clip_grad_norm_(other.bare.parameters(), 1.0)
        torch.testing.assert_close(norm, expected)
        assert (float(expected) > 1) is (size > 1)
        for loop in (one, other):
            loop.optimizer.step()
            loop.schedule.step()
    for mine, theirs in zip(one.bare.parameters(), other.bare.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [2, 3, 7, 20])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tiny_model: Path, accumulate: int) -> None:
    rows, batch = easy(9), [0, 8, 3, 5, 1, 7, 2]
    whole, parts = (
        Loop(learner, config(tiny_model, accumulate=count), rows, easy(2), Worker()) for count in (1, accumulate)
    )
    (loss, expected), (again, found) = gradients(whole, batch), gradients(parts, batch)
    assert again == pytest.approx(loss, rel=1e-5)
    assert max(float(one.abs().max()) for one in expected) > 1e-3
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("workers", "size"), [(2, 7), (3, 8), (4, 3)])
def test_the_mean_of_the_workers_gradients_is_that_of_the_whole(tiny_model: Path, workers: int, size: int) -> None:
    rows, batch = easy(9), list(range(size))
    alone = Loop(learner, config(tiny_model), rows, easy(2), Worker())
    loops = [Loop(learner, config(tiny_model), rows, easy(2), Worker(n, workers)) for n in range(workers)]
    loss, expected = gradients(alone, batch)
    losses, found = zip(*(gradients(loop, batch) for loop in loops), strict=True)
    assert sum(losses) == pytest.approx(loss, rel=1e-5)
    for one, parts in zip(expected, zip(*found, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(dim=0), one, rtol=1e-4, atol=1e-6)


def test_workers_take_the_same_steps_and_drop_out_other_units(tiny_model: Path) -> None:
    loops = [Loop(learner, config(tiny_model), easy(50), easy(4, 50), Worker(n, 2)) for n in (0, 1)]
    assert (
        loops[0].batches(3)
        == loops[1].batches(3)
        == Loop(learner, config(tiny_model), easy(50), easy(4, 50), Worker()).batches(3)
    )
    torch.manual_seed(0)
    drawn = []
    for loop in loops:
        again = Loop(learner, loop.config, easy(4), easy(2), loop.worker)
        drawn.append((torch.rand(3), [p.detach().clone() for p in again.bare.parameters()]))
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert all(torch.equal(one, other) for one, other in zip(drawn[0][1], drawn[1][1], strict=True))


class Stopped(Exception):
    """The process ends here."""


class Shelf:
    """Keeps checkpoints as Ray does, the newest only; ends the process after ``last`` of them."""

    def __init__(self, root: Path, last: int = 10**9) -> None:
        self.root, self.last, self.count = root, last, 0

    def keep(self, write: Any) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        write(self.root)
        self.count += 1
        course = torch.load(self.root / "all.pt", weights_only=True)["course"]
        assert (course["seconds"] > 0) == (course["steps"] > 0), "an epoch that has not begun took no time"
        if self.count == self.last:
            raise Stopped

    def restore(self, read: Any) -> None:
        if self.root.exists():
            read(self.root)

    def worker(self) -> Worker:
        return Worker(save_checkpoint=self.keep, load_checkpoint=self.restore)


@pytest.mark.parametrize("last", [1, 2, 3, 4, 9])
def test_a_stopped_training_ends_as_an_undisturbed_one(
    trained: Any, tiny_model: Path, tmp_path: Path, last: int
) -> None:
    """Five steps an epoch: checkpoints come after its first and its last, so that both are stopped at."""
    wanted = config(tiny_model, checkpoint_seconds=0.0)
    with pytest.raises(Stopped):
        fit.fit(learner, wanted, easy(40), easy(10, 40), tmp_path / "lost", Shelf(tmp_path / "kept", last).worker())
    torch.manual_seed(last)
    seen: list[int] = []
    result = fit.fit(
        learner,
        wanted,
        easy(40),
        easy(10, 40),
        tmp_path / "whole",
        Shelf(tmp_path / "kept").worker(),
        lambda done, total, course: seen.append(done),
    )
    assert result["resumes"] == 1
    assert seen[-1] == 200 and seen[0] > (last // 2) * 40
    first, again = (load_file(folder / "model.safetensors") for folder in (trained[0], tmp_path / "whole"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    timeless = [{k: v for k, v in epoch.items() if "second" not in k} for epoch in result["history"]]
    assert timeless == [{k: v for k, v in epoch.items() if "second" not in k} for epoch in trained[1]["history"]]


def test_a_short_training_keeps_no_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "kept")
    fit.fit(learner, config(tiny_model, checkpoint_seconds=3600.0), easy(40), easy(4, 40), tmp_path, shelf.worker())
    assert shelf.count == 0


def test_a_training_that_fell_back_goes_on_in_fp32(tiny_model: Path, tmp_path: Path) -> None:
    one = Loop(learner, config(tiny_model, precision="fp32"), easy(8), easy(2), Worker())
    one.fell_back = "its numbers are not finite, in bf16"
    one.save(tmp_path)
    other = Loop(learner, config(tiny_model, precision="bf16"), easy(8), easy(2), Worker())
    assert other.precision == "bf16"
    other.load(tmp_path)
    assert (other.precision, other.fell_back) == ("fp32", "its numbers are not finite, in bf16")
    assert not other.scaler.is_enabled()


class Bomb:
    """What a pickle can do: run whatever it likes when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_a_checkpoint_that_is_broken_or_no_checkpoint_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loop = Loop(learner, config(tiny_model), easy(8), easy(2), Worker())
    loop.save(tmp_path)
    whole = (tmp_path / "all.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", pickle.dumps(Bomb(), protocol=2)):
        (tmp_path / "all.pt").write_bytes(content)
        with pytest.raises(UserError, match="this checkpoint of the training cannot be read"):
            loop.load(tmp_path)
    torch.save(Bomb(), tmp_path / "all.pt")
    with pytest.raises(UserError, match="cannot be read"):
        loop.load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def one_of_two(rank: int, model: Path, root: Path, size: int, accumulate: int) -> None:
    """What each of two processes does: real ones, with PyTorch's own way to train in step."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{root}/meet", rank=rank, world_size=2)
    wrap = functools.partial(torch.nn.parallel.DistributedDataParallel, find_unused_parameters=True)
    wanted = config(model, batch_size=size, accumulate=accumulate, epochs=3)
    result = fit.fit(learner, wanted, easy(41), easy(10, 41), root / "two", Worker(rank, 2, wrap))
    (root / f"{rank}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


@pytest.mark.slow("long")
@pytest.mark.parametrize(("size", "accumulate"), [(8, 1), (5, 2)])
def test_two_workers_learn_what_one_learns(tiny_model: Path, tmp_path: Path, size: int, accumulate: int) -> None:
    """Without dropout, which is random for each worker; 41 rows leave a last batch of one, for two workers."""
    model = plain(tiny_model, tmp_path / "model")
    torch.multiprocessing.spawn(one_of_two, (model, tmp_path, size, accumulate), nprocs=2)
    one = fit.fit(learner, config(model, batch_size=size, epochs=3), easy(41), easy(10, 41), tmp_path / "one")
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [result["workers"] for result in both] == [2, 2]
    for name in ("train_loss", "val_loss", "val_accuracy"):
        alone = [epoch[name] for epoch in one["history"]]
        assert [epoch[name] for epoch in both[0]["history"]] == [epoch[name] for epoch in both[1]["history"]]
        assert [epoch[name] for epoch in both[0]["history"]] == pytest.approx(alone, rel=1e-4)
    first, again = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    start = load_file(model / "model.safetensors")
    moved = max(float((first[f"bert.{name}"] - start[name]).abs().max()) for name in start)
    apart = max(float((first[name] - again[name]).abs().max()) for name in first)
    assert apart < 0.01 * moved
