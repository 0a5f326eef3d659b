"""A head on the encoder as it is: what it reads, how it is fitted, and what is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, BertConfig, BertModel, MPNetConfig, MPNetModel, RobertaConfig, RobertaModel
from transformers import pipeline as transformers_pipeline

from runner import models
from runner.report import training
from runner.student import fit, pooling, recipes, train_worker
from runner.student.fit_config import Fit
from runner.student.predict import Student
from runner.student.rows import Rows
from runner.student.training_plan import TrainingPlan
from runner.system.errors import ModelError
from runner.tasks.shared import linear_head
from runner.tasks.single_label import learner

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = ("bad", "good")
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = (("broken", "late", "poor"), ("fine", "quick", "solid"))
KINDS = {"bert": (BertModel, BertConfig), "mpnet": (MPNetModel, MPNetConfig), "roberta": (RobertaModel, RobertaConfig)}


def rows(count: int, flipped: int = 0) -> Rows:
    """Texts that one word decides; the first ``flipped`` have the wrong label."""
    texts = [f"the {['box', 'lamp', 'desk', 'cup'][i % 4]} was {WORDS[i % 2][i // 2 % 3]} in {i}" for i in range(count)]
    right = np.array([i % 2 for i in range(count)])
    right[:flipped] = 1 - right[:flipped]
    return Rows(texts, np.where(np.eye(2)[right] > 0, 0.9, 0.1).astype(np.float32))


def config(model: Path, **changes: Any) -> Fit:
    wanted: dict[str, Any] = {"epochs": 0, "learning_rate": 5e-3, "batch_size": 8, "max_length": 32, "start": "head"}
    wanted |= {"precision": "fp32", "seed": 0}
    return Fit(model=model, outputs=LABELS, **{**wanted, **changes})


def accuracy(folder: Path, given: Rows) -> float:
    found = Student.load(learner, folder, 32, "fp32").predict(given.texts)
    return float((found.argmax(axis=1) == given.targets.argmax(axis=1)).mean())


@pytest.fixture(params=KINDS)
def encoder(request: Any, tmp_path: Path) -> Path:
    """A random encoder of each kind."""
    torch.manual_seed(0)
    model, settings = KINDS[request.param]
    model(settings(vocab_size=100, pad_token_id=1, **SIZES)).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_pooled_classifier_reads_the_mean_of_the_tokens(encoder: Path) -> None:
    plain = AutoModel.from_pretrained(encoder).eval()
    pooled = learner.fresh(encoder, LABELS, pooled=True).eval()
    ids, mask = torch.randint(4, 100, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    ids[1, 5:], mask[1, 5:] = 1, 0
    given: list[torch.Tensor] = []
    pooling.last_linear(pooled).register_forward_pre_hook(lambda _, values: given.append(values[0]))
    with torch.inference_mode():
        pooled(input_ids=ids, attention_mask=mask)
        hidden = plain(input_ids=ids, attention_mask=mask).last_hidden_state
        shares = (mask / mask.sum(dim=1, keepdim=True))[:, None, :].expand(-1, 2, -1)
        if plain.config.model_type == "mpnet":  # its bias for positions is that of every layer
            bias = plain.encoder.compute_position_bias(hidden)[:, :, 0] + (1 - mask)[:, None, :] * -1e9
            shares = bias.softmax(dim=-1)
        mean = torch.einsum("rht,rthw->rhw", shares, hidden.view(3, 9, 2, 16)).flatten(1)
        expected = torch.tanh(pooling.FEATURE_SCALE * torch.nn.functional.layer_norm(mean, mean.shape[-1:]))
    # What is left of the first token's own vector is a thirty-second part.
    assert torch.allclose(given[0], expected, atol=0.1)
    assert torch.nn.functional.cosine_similarity(given[0], expected).min() > 0.98


def test_a_head_alone_learns_and_plain_transformers_says_the_same(tiny_model: Path, tmp_path: Path) -> None:
    result = fit.fit(learner, config(tiny_model), rows(60), rows(20), tmp_path / "student")
    assert (result["history"], result["best_epoch"]) == ([], 0)
    assert result["head"]["val_accuracy"] > 0.9 and accuracy(tmp_path / "student", rows(200)) > 0.9
    plain = transformers_pipeline("text-classification", model=str(tmp_path / "student"), top_k=None)
    ours = Student.load(learner, tmp_path / "student", 32, "fp32").predict(rows(6).texts)
    for text, probabilities in zip(rows(6).texts, ours, strict=True):
        said = {entry["label"]: entry["score"] for entry in plain([text])[0]}
        assert [said[label] for label in LABELS] == pytest.approx(probabilities.tolist(), abs=1e-4)


def test_a_head_is_fitted_as_scikit_learn_fits_it() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 8)).astype(np.float32)
    labels = (features @ generator.normal(size=(8, 3))).argmax(axis=1)
    targets = np.eye(3, dtype=np.float32)[labels]
    penalty = 1e-3
    tensors = (torch.from_numpy(features), torch.from_numpy(targets))
    weight, bias = linear_head._path(*tensors, (penalty,), learner.losses)[-1]
    oracle = LogisticRegression(C=1 / (2 * penalty * len(features)), max_iter=5000).fit(features, labels)
    ours = torch.softmax(torch.from_numpy(features) @ weight.T + bias, dim=-1).numpy()
    assert np.abs(ours - oracle.predict_proba(features)).max() < 0.01


@pytest.mark.slow("long")
def test_noisy_labels_want_a_stronger_penalty() -> None:
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.normal(size=(120, 60)).astype(np.float32))
    clean = (features[:, 0] > 0).long()
    noisy = torch.where(torch.from_numpy(generator.random(120) < 0.35), 1 - clean, clean)
    how = (0, learner.losses, learner.is_right, learner._by_label)
    chosen = [linear_head.choose_penalty(features, torch.eye(2)[labels], *how) for labels in (clean, noisy)]
    assert chosen[1][0] > chosen[0][0] and chosen[0][1] > chosen[1][1]


@pytest.mark.slow("long")
def test_fine_tuning_starts_from_the_head_and_repeats_itself(tiny_model: Path, tmp_path: Path) -> None:
    results = [fit.fit(learner, config(tiny_model, epochs=2), rows(60), rows(20), tmp_path / name) for name in "ab"]
    assert len(results[0]["history"]) == 2
    assert results[0]["head"]["val_loss"] == results[1]["head"]["val_loss"]
    first, again = (Student.load(learner, tmp_path / name, 32, "fp32").predict(rows(9).texts) for name in "ab")
    assert (first == again).all()


@pytest.fixture
def loop_config(tiny_model: Path, monkeypatch: Any) -> Any:
    """What a worker is given to train with recipe auto, at a learning rate."""
    monkeypatch.setattr(models, "ensure", lambda *_, **__: tiny_model)

    def made(rate: float, **changes: Any) -> dict[str, Any]:
        names = {"epochs": 6, "learning_rate": rate, "batch_size": 8, "max_length": 32, "precision": "fp32", "seed": 0}
        given = {part: {"texts": found.texts, "targets": found.targets} for part, found in parts.items()}
        return {"student": names | {"accumulate": 1, "recipe": "auto"}, "settings": {}, "model": "tiny", **given} | {
            "kind": "single-label",
            "revision": None,
            "outputs": LABELS,
            "checkpoint_seconds": 60.0,
            "trainings": ["head", "fast"],
            **changes,
        }

    parts = {"train": rows(90, flipped=12), "held_out": rows(40)}
    return made


@pytest.mark.slow("long")
def test_the_head_is_kept_where_fine_tuning_spoils_the_encoder(loop_config: Any, tmp_path: Path) -> None:
    """A learning rate that destroys the encoder stands for labels that are not worth learning by heart."""
    result = train_worker.run_trainings(loop_config(5.0, save_to=str(tmp_path)), lambda _: None)
    assert (result["kept"], result["history"]) == ("head", [])
    assert [tried["recipe"] for tried in result["tried"]] == ["head", "fast"]
    assert accuracy(tmp_path / "student", rows(200)) > 0.9


def test_a_head_that_is_enough_is_not_fine_tuned(loop_config: Any, tmp_path: Path) -> None:
    given = rows(90)
    clean = {"train": {"texts": given.texts, "targets": given.targets}}
    result = train_worker.run_trainings(loop_config(5e-3, save_to=str(tmp_path), **clean), lambda _: None)
    assert result["kept"] == "head" and result["head"]["cross_validated"] >= recipes.HEAD_IS_ENOUGH
    assert [tried["recipe"] for tried in result["tried"]] == ["head"]


@pytest.mark.slow("long")
def test_the_fine_tuned_student_is_kept_where_it_is_no_worse(loop_config: Any, tmp_path: Path) -> None:
    result = train_worker.run_trainings(loop_config(5e-3, save_to=str(tmp_path)), lambda _: None)
    assert result["kept"] == "fast" and len(result["history"]) == 6
    assert [tried["val_accuracy"] > 0.9 for tried in result["tried"]] == [True, True]


def test_a_head_must_be_better_by_more_than_chance() -> None:
    even = np.ones(40, dtype=np.float32)
    assert recipes.standard_errors_ahead([True] * 40, [True] * 40, even) == 0
    assert recipes.standard_errors_ahead([True] * 40, [True] * 30 + [False] * 10, even) > 2
    assert 1 < recipes.standard_errors_ahead([True] * 40, [True] * 38 + [False] * 2, even) < 2
    assert recipes.standard_errors_ahead([True] * 20 + [False] * 20, [False] * 19 + [True] * 21, even) < 1
    assert recipes.standard_errors_ahead([True] * 30 + [False] * 10, [True] * 40, even) < 0
    assert recipes.standard_errors_ahead([True] * 40, [False] * 40, even) == math.inf


def test_auto_fine_tunes_where_there_are_rows_enough(job: Any) -> None:
    auto = job.spec().student
    assert auto.recipe == "auto"
    few, enough = TrainingPlan(auto, 59, 2, 23_000_000), TrainingPlan(auto, 60, 2, 23_000_000)
    assert (few.trainings, enough.trainings) == (("head", "lp-ft"), ("head", "fast"))
    assert few.texts_learned == 59 * few.epochs and enough.texts_learned == 60 * enough.epochs
    assert "few (under 30)" in str(few.advice()) and "RoBERTa-base size" in str(enough.advice())
    assert TrainingPlan(auto, 60, 2, 110_000_000).advice() is None
    fixed = TrainingPlan(job.spec("student.recipe=fast").student, 59, 2, 110_000_000)
    assert fixed.trainings == ("fast",) and "auto is the safer choice" in str(fixed.advice())


@pytest.mark.parametrize(
    ("rows", "parameters", "epochs"),
    [
        (300, 23_000_000, 20),
        (1_600, 23_000_000, 8),
        (10_000, 23_000_000, 5),
        (300, 110_000_000, 8),
        (1_600, 110_000_000, 4),
        (100_000, None, 4),
    ],
)
def test_a_large_encoder_needs_fewer_epochs(job: Any, rows: int, parameters: int | None, epochs: int) -> None:
    assert TrainingPlan(job.spec().student, rows, 3, parameters).epochs == epochs


def test_an_encoder_of_another_kind_is_fine_tuned_from_the_start(
    tmp_path: Path, loop_config: Any, monkeypatch: Any
) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    folder = tmp_path / "distilbert"
    DistilBertModel(DistilBertConfig(vocab_size=50, dim=32, hidden_dim=64, n_layers=1, n_heads=2)).save_pretrained(
        folder
    )
    asked = loop_config(5e-3, model="some/distilbert")
    monkeypatch.setattr(models, "ensure", lambda *_, **__: folder)
    assert list(train_worker.fits_of(asked)) == ["fast"]
    with pytest.raises(ModelError, match=r"some/distilbert: student\.recipe head fits .* set it to auto or fast"):
        train_worker.fits_of(asked | {"trainings": ["head"]})


def test_the_report_says_what_auto_tried() -> None:
    figures = {"val_loss": 0.4, "val_accuracy": 0.9, "seconds": 3.0}
    head, fast = ({"recipe": name, **figures} for name in ("head", "fast"))

    def said(kept: str, *tried: dict[str, Any]) -> str:
        return training.training({"recipe": "auto", "kept": kept, "tried": list(tried)})

    assert "Kept: head, which was enough: nothing was fine-tuned." in said("head", head)
    assert said("fast", fast).endswith("Kept: fast."), "an encoder of a kind that no head is known for"
    assert "(head) agreed" in said("head", head, fast) and said("head", head, fast).endswith("Kept: head.")
