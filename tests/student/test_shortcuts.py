"""Shortcuts: the same answers and gradients for less arithmetic, and none taken where they would change anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaPreLayerNormConfig,
    RobertaPreLayerNormForSequenceClassification,
)

from runner.student import dropout, shortcuts
from runner.student import fit as training
from runner.student.fit_config import Fit
from runner.student.loop import Loop
from runner.student.rows import Rows
from runner.student.shortcuts import SeenEmbedding
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

Build = Callable[[], Any]


def built(config: Any, classifier: Any, **more: Any) -> Build:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return lambda: classifier(config(**{"vocab_size": 60, "num_labels": 3, **sizes, **dropout, **more}))


TAKEN = {
    "bert": built(BertConfig, BertForSequenceClassification),
    "camembert": built(CamembertConfig, CamembertForSequenceClassification),
    "electra": built(ElectraConfig, ElectraForSequenceClassification, embedding_size=32),
    "mpnet": built(MPNetConfig, MPNetForSequenceClassification),
    "roberta": built(RobertaConfig, RobertaForSequenceClassification),
    "twelve tokens": built(BertConfig, BertForSequenceClassification, vocab_size=12),
}
LEFT = {
    "distilbert": lambda: DistilBertForSequenceClassification(DistilBertConfig(vocab_size=60, dim=32, n_heads=4)),
    "norm first": built(RobertaPreLayerNormConfig, RobertaPreLayerNormForSequenceClassification),
}


def twins(build: Build) -> tuple[Any, Any]:
    """A classifier with weights large enough to tell texts apart, and another that is equal to it."""
    torch.manual_seed(1)
    one, other = build(), build()
    for weight in (weight for weight in one.parameters() if weight.ndim > 1):
        torch.nn.init.normal_(weight, std=0.3)
    other.load_state_dict(one.state_dict())
    return one, other


def batch(model: Any, rows: int = 5, length: int = 9) -> dict[str, torch.Tensor]:
    """Rows of all lengths, the first without padding."""
    ids = torch.randint(3, model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(length) < torch.arange(length, length - rows, -1)[:, None]).long()
    ids[mask == 0] = model.config.pad_token_id
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("build", TAKEN.values(), ids=TAKEN)
def test_answers_and_gradients_are_the_same(build: Build) -> None:
    one, other = twins(build)
    assert shortcuts.apply_shortcuts(one)
    assert list(one.state_dict()) == list(other.state_dict())
    answers = []
    for model in (one, other):
        model.train()
        answers.append(model(**batch(model)).logits)
        answers[-1][:, 0].sum().backward()
    assert torch.allclose(*answers, atol=1e-5)
    for (name, ours), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None, name
        else:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-4), name


@pytest.mark.parametrize("build", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("ours", [True, False])
def test_what_is_learned_from_is_what_answers(build: Build, ours: bool) -> None:
    """With dropout so small that nothing falls out, a model says the same as it learns: padding counts for nothing."""
    one, other = twins(build)
    for module in one.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 1e-7
    assert shortcuts.apply_shortcuts(one)
    if ours:
        dropout.put_in(one)
    assert torch.allclose(one.train()(**batch(one)).logits, other.eval()(**batch(other)).logits, atol=1e-4)


@pytest.mark.parametrize("build", LEFT.values(), ids=LEFT)
def test_a_model_of_another_build_is_left_as_it_is(build: Build) -> None:
    one, other = twins(build)
    assert not shortcuts.apply_shortcuts(one)
    assert torch.equal(one.eval()(**batch(one)).logits, other.eval()(**batch(other)).logits)


def test_what_looks_like_it_but_is_not_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer with the same parts that does something else with them."""
    one, other = twins(TAKEN["bert"])
    for model in (one, other):
        last = model.bert.encoder.layer[-1]
        monkeypatch.setattr(
            type(last), "forward", lambda self, hidden, *_, **__: self.output(self.intermediate(hidden.sin()), hidden)
        )
    assert not shortcuts.apply_shortcuts(one)
    assert torch.equal(one.eval()(**batch(one)).logits, other.eval()(**batch(other)).logits)


def test_a_model_that_wants_more_than_a_text_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As X-MOD does: it refuses a text without its language."""
    one, other = twins(TAKEN["bert"])
    forward = one.bert.embeddings.forward

    def refuses(*_: Any, **__: Any) -> Any:
        raise ValueError("Input language unknown")

    one.bert.embeddings.forward = refuses
    assert not shortcuts.apply_shortcuts(one)
    one.bert.embeddings.forward = forward
    assert torch.equal(one.eval()(**batch(one)).logits, other.eval()(**batch(other)).logits)


@pytest.mark.parametrize("name", ["bert", "mpnet"])
def test_the_last_layer_works_for_one_token(name: str) -> None:
    one, other = twins(TAKEN[name])
    shortcuts.apply_shortcuts(one)
    inputs = batch(one, 4, 32)
    work = []
    for model in (one, other):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model.eval()(**inputs)
        work.append(counter.get_total_flops())
    assert work[0] < 0.8 * work[1]  # most of one layer of three


def test_an_embedding_of_what_is_seen_gives_the_same_and_is_written_back() -> None:
    whole = torch.nn.Embedding(50, 4, padding_idx=1)
    before = whole.weight.detach().clone()
    seen = SeenEmbedding(whole, [1, 7, 9, 30])
    ids = torch.tensor([[7, 30, 1], [9, 9, 7]])
    assert torch.equal(seen(ids), whole(ids))
    seen(ids).sum().backward()
    assert seen.weight.grad is not None
    assert seen.weight.grad.sum(dim=1).tolist() == [0, 8, 8, 4]  # padding learns nothing
    with torch.no_grad():
        seen.weight += 1
    now = seen.whole().weight
    assert now is whole.weight
    changed = (now != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == [1, 7, 9, 30] and torch.equal(now[7], before[7] + 1)


@pytest.mark.slow("long")
def test_training_is_that_of_the_whole_vocabulary(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"profit {'rose' if i % 2 else 'fell'} in {month}" for i, month in enumerate(["may", "june", "july"] * 6)]
    rows = Rows(texts, np.eye(2, dtype=np.float32)[[i % 2 for i in range(len(texts))]])
    fit = Fit(
        model=tiny_model,
        outputs=("down", "up"),
        epochs=2,
        learning_rate=1e-3,
        batch_size=4,
        max_length=16,
        precision="fp32",
        seed=0,
    )
    training.fit(learner, fit, rows, rows, tmp_path / "seen")
    monkeypatch.setattr(Loop, "_leave_out_unseen", lambda self: None)
    training.fit(learner, fit, rows, rows, tmp_path / "whole")
    from safetensors.torch import load_file

    seen, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("seen", "whole"))
    assert seen.keys() == whole.keys()
    for name, value in seen.items():  # tokens that no text has lose a trace to weight decay in the one case
        assert torch.allclose(value, whole[name], atol=1e-5), name
    words, base = "bert.embeddings.word_embeddings.weight", load_file(tiny_model / "model.safetensors")
    untouched = (seen[words] == base["embeddings.word_embeddings.weight"]).all(dim=1)
    assert 30_000 < int(untouched.sum()) < len(untouched)
