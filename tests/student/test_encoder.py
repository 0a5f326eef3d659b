"""The student at work: batches, tokens, prediction, and a folder that plain transformers reads the same."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    FlaubertConfig,
    FlaubertWithLMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    pipeline,
)

from runner import models
from runner.student import predict
from runner.student.batches import FEWEST_TOKENS, length_batches, padded
from runner.student.device import pick_precision
from runner.student.load import load_tokenizer
from runner.student.predict import Student
from runner.student.save import save_student
from runner.student.tokens import clean, count_cut, tokenize
from runner.system import machine
from runner.system.errors import ModelError
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = ["bad", "good, or so", "\u00e9"]
TEXTS = [
    *["Profit fell.", "x", "", "caf\u00e9 \u4f60\u597d \U0001f600", "a " * 60, "UPPER lower", "1 2 3", "?!"],
    *[f"Company {i} sold {'very ' * i}little in May." for i in range(12)],
]
HOSTILE = "a [SEP] b [MASK] [CLS]"


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with a head for ``LABELS``, saved as a trained student is."""
    torch.manual_seed(3)
    model = learner.fresh(tiny_model, LABELS)
    for weight in (weight for weight in model.parameters() if weight.ndim > 1):
        torch.nn.init.normal_(weight, std=0.5)  # the usual start is so small that all texts would look alike
    saved = tmp_path_factory.mktemp("student")
    save_student(model, load_tokenizer(tiny_model), saved, 64)
    return saved


@given(
    st.lists(st.integers(0, 300), max_size=60),
    st.integers(1, 2000),
    st.none() | st.integers(1, 9),
    st.integers(1, 4),
)
def test_batches_hold_every_row_once_and_no_more_tokens_than_allowed(
    lengths: list[int], tokens: int, rows: int | None, lanes: int
) -> None:
    batches = list(length_batches(lengths, tokens, rows, lanes))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    padded = [len(batch) * max(lengths[i] for i in batch) for batch in batches]
    assert all(size <= tokens or len(batch) == 1 for size, batch in zip(padded, batches, strict=True))
    assert all(len(batch) <= (rows or len(batch)) for batch in batches)
    assert [lengths[i] for batch in batches for i in batch] == sorted(lengths, reverse=True)


def test_short_texts_share_a_batch() -> None:
    assert list(length_batches([4, 100, 4, 4], 100)) == [[1], [0, 2, 3]]
    assert list(length_batches([5] * 5, 1000, rows=2)) == [[0, 1], [2, 3], [4]]


def test_lanes_end_together_for_their_batches_become_smaller() -> None:
    sizes = [10 * len(batch) for batch in length_batches([10] * 1000, 1024, lanes=2)]
    assert sizes[0] == 1020
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= FEWEST_TOKENS
    assert {10 * len(batch) for batch in length_batches([10] * 1000, 1024)} == {1020, 820}


def test_what_cannot_be_encoded_becomes_a_blank() -> None:
    assert clean("a\x00b \ud800 \udfffc \U0001f600\u0001") == "a b    c \U0001f600\u0001"


def test_texts_are_cut_and_hold_no_control_token(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    ids = tokenize(tokenizer, ["nul \x00 and \ud800", "word " * 5000, HOSTILE, ""], 32)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all((row[0], row[-1]) == (first, last) and len(row) <= 32 for row in ids)
    assert all(not set(row[1:-1]) & set(tokenizer.all_special_ids) for row in ids)
    assert len(ids[1]) == 32
    assert tokenizer.decode(ids[0][1:-1]) == "nul and"
    assert tokenizer.decode(ids[2][1:-1]).replace(" ", "") == HOSTILE.lower().replace(" ", "")
    assert tokenize(tokenizer, [], 32) == []


def test_padding_is_masked() -> None:
    ids, mask = padded([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.slow("long")
def test_predictions_do_not_depend_on_the_batch(folder: Path) -> None:
    model = Student.load(learner, folder, 64, "fp32")
    counted: list[int] = []
    together = model.predict(TEXTS, done=counted.append)
    assert together.shape == (20, 3)
    assert together.dtype == np.float32
    assert together.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert sum(counted) == 20
    assert np.concatenate([model.predict([text]) for text in TEXTS]) == pytest.approx(together, abs=1e-4)
    assert model.predict(TEXTS, batch_rows=3) == pytest.approx(together, abs=1e-4)
    assert model.predict([]).shape == (0, 3)
    assert len(set(together.argmax(axis=1))) > 1, "a model that always says the same tests nothing"


@pytest.mark.slow("long")
@pytest.mark.parametrize("lanes", [1, 3, 30])
def test_many_texts_are_predicted_in_windows_by_several_lanes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    model = Student.load(learner, folder, 64, "fp32")
    expected = model.predict(TEXTS)
    monkeypatch.setattr(predict, "FIRST_WINDOW", 3)
    monkeypatch.setattr(predict, "WINDOW", 7)
    model.lanes = lanes
    assert sorted(row for rows, _ in model.batches(TEXTS, 2) for row in rows) == list(range(len(TEXTS)))
    assert model.predict(TEXTS, batch_rows=2) == pytest.approx(expected, abs=1e-4)


def test_a_plain_pipeline_says_the_same(folder: Path) -> None:
    model = Student.load(learner, folder, 64, "fp32")
    assert model.outputs == LABELS
    found = model.predict(TEXTS)
    plain = pipeline("text-classification", model=str(folder), device="cpu")
    for row, said in zip(found, plain(TEXTS, top_k=None, truncation=True), strict=True):
        assert said[0]["label"] == LABELS[int(row.argmax())]
        assert {s["label"]: s["score"] for s in said} == pytest.approx(
            dict(zip(LABELS, map(float, row), strict=True)), abs=1e-4
        )


def test_lower_precision_gives_nearly_the_same(folder: Path) -> None:
    exact = Student.load(learner, folder, 64, "fp32").predict(TEXTS)
    assert Student.load(learner, folder, 64, "bf16").predict(TEXTS) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_a_precision_that_was_asked_for_is_taken(wanted: str) -> None:
    assert pick_precision(wanted, torch.device("cpu")) == wanted


@pytest.mark.parametrize(
    ("flags", "expected"), [({"avx512_bf16"}, "bf16"), ({"amx_bf16", "fma"}, "bf16"), ({"avx2"}, "fp32")]
)
def test_auto_looks_at_the_processor(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: str) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert pick_precision("auto", torch.device("cpu")) == expected


def test_weights_as_pickle_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = learner.fresh(tiny_model, LABELS)
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_model, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"cannot be loaded as a sequence classifier.*safetensors weights"):
        learner.fresh(pickled, LABELS)
    with pytest.raises(ModelError):
        models.ensure(str(pickled))


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as a sequence classifier"):
        learner.fresh(tmp_path, LABELS)
    with pytest.raises(ModelError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("padding", [{}, {"pad_token_id": 0}])
def test_a_generative_model_is_refused(tiny_model: Path, tmp_path: Path, padding: dict[str, int]) -> None:
    tokenizer: Any = load_tokenizer(tiny_model)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **padding)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="must be an encoder"):
        learner.fresh(tmp_path, LABELS)


def test_a_generative_model_that_was_trained_to_classify_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer: Any = load_tokenizer(tiny_model)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, num_labels=3, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="must be an encoder"):
        Student.load(learner, tmp_path)


def test_an_encoder_whose_class_speaks_of_a_language_model_is_none(tiny_model: Path, tmp_path: Path) -> None:
    FlaubertWithLMHeadModel(FlaubertConfig(vocab_size=50, emb_dim=16, n_layers=1, n_heads=2)).save_pretrained(tmp_path)
    assert learner.fresh(tmp_path, LABELS).config.num_labels == len(LABELS)


@pytest.mark.parametrize("change", [{"num_labels": 1}, {"problem_type": "multi_label_classification"}])
def test_a_model_that_does_not_choose_a_label_is_refused(tiny_model: Path, tmp_path: Path, change: Any) -> None:
    model = BertForSequenceClassification.from_pretrained(tiny_model, **change)
    save_student(model, load_tokenizer(tiny_model), tmp_path, 8)
    with pytest.raises(ModelError, match="does not choose one of several labels"):
        Student.load(learner, tmp_path)


@pytest.mark.parametrize(("said", "positions", "expected"), [(1024, 2048, 1024), (10**30, 2048, 512), (10**30, 40, 40)])
def test_a_student_reads_as_much_as_it_was_trained_on(
    tiny_model: Path, tmp_path: Path, said: int, positions: int, expected: int
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=len(tokenizer), max_position_embeddings=positions, **sizes)
    )
    save_student(model, tokenizer, tmp_path, said)
    found = Student.load(learner, tmp_path, precision="fp32")
    assert found.max_length == expected
    assert found.predict(["word " * 3000]).shape == (1, 2)


def test_a_student_that_cannot_compute_in_half_precision_predicts_in_fp32(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Student.load(learner, folder, 64, "fp32").predict(TEXTS)
    monkeypatch.setattr(predict, "works_in", lambda *_: "not implemented for 'BFloat16'")
    found = Student.load(learner, folder, 64, "bf16")
    assert found.precision == "fp32"
    assert found.predict(TEXTS) == pytest.approx(exact, abs=1e-6)


def test_only_what_lost_its_end_is_counted_as_cut(tiny_model: Path) -> None:
    tokenizer, texts = load_tokenizer(tiny_model), ["one two three", "one two", "one two three four", ""]
    ids = tokenize(tokenizer, texts, 5)  # three words, and a token at each end
    assert [len(row) for row in ids] == [5, 4, 5, 2]
    assert count_cut(tokenizer, texts, ids, 5) == 1


def test_an_encoder_without_a_trained_head_is_no_student(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="an encoder that was not trained to classify"):
        Student.load(learner, tiny_model)


def test_a_folder_of_an_unknown_kind_is_no_student(tiny_model: Path, tmp_path: Path) -> None:
    save_student(learner.fresh(tiny_model, LABELS), load_tokenizer(tiny_model), tmp_path, 8)
    (tmp_path / "config.json").write_text('{"id2label": {"0": "bad"}}')
    with pytest.raises(ModelError):
        Student.load(learner, tmp_path)


@pytest.mark.slow("long")
def test_a_student_keeps_its_threads_also_where_a_prediction_fails_or_is_given_up(
    tiny_model: Path, tmp_path: Path
) -> None:
    save_student(learner.fresh(tiny_model, LABELS), load_tokenizer(tiny_model), tmp_path, 8)
    model = Student.load(learner, tmp_path, precision="fp32")
    model.lanes, cores = 2, torch.get_num_threads()
    texts, others = [f"text {n}" for n in range(5000)], set(threading.enumerate())
    model.predict(texts)
    kept = set(threading.enumerate()) - others
    assert len(kept) == 3  # one a lane, and one that tokenises

    def broken(ids: Any, mask: Any) -> Any:
        raise RuntimeError("no memory")

    whole, model.logits = model.logits, broken
    with pytest.raises(RuntimeError, match="no memory"):
        model.predict(texts)
    working: list[int] = []

    def counted(ids: Any, mask: Any) -> Any:
        working.append(1)
        time.sleep(0.05)
        found = whole(ids, mask)
        working.pop()
        return found

    model.logits = counted
    batches = cast("Generator[Any, None, None]", model.batches(texts))
    next(batches)
    batches.close()
    assert not working  # nothing goes on behind the caller's back
    model.logits = whole
    assert model.predict(texts).shape == (5000, len(LABELS))
    assert set(threading.enumerate()) - others == kept
    assert torch.get_num_threads() == cores
    del model, batches
    gc.collect()
    for thread in kept:
        thread.join(10)
    assert not any(thread.is_alive() for thread in kept)
