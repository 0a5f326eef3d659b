"""What is not a finite number, not in the vocabulary, not as good as it was, or too few rows."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.cluster.cluster import Cluster
from runner.planning.plan import make_plan
from runner.report.limits import _runtime_limits, _teacher_limits
from runner.rundir.folder import Folder
from runner.stages import evaluate, export, train
from runner.student import corpus, corpus_worker, finite, held_out, loop, recipes, vocabulary
from runner.student import fit as training
from runner.student.fit_config import Fit, Worker
from runner.student.held_out import split_rows
from runner.student.load import load_tokenizer
from runner.student.loop import Loop
from runner.student.predict import Student
from runner.student.rows import Rows
from runner.student.runtimes import exported
from runner.student.save import save_student
from runner.student.trained import StudentRef
from runner.system.errors import ModelError, UserError
from runner.tasks.single_label import learner

pytestmark = pytest.mark.slow("long")  # all of it together: seconds


def test_15_no_label_loses_both_of_its_two_rows() -> None:
    labels = [f"label {number // 2}" for number in range(100)]
    for seed in range(20):
        held_out, kept = split_rows(labels, 0.5, seed)
        assert set(Counter(labels[row] for row in kept)) == set(labels)
        assert len(held_out) == 50


def test_15_the_only_row_of_a_label_is_learned_from() -> None:
    labels = ["common"] * 30 + ["rare"]
    assert all(30 in split_rows(labels, 0.5, seed)[1] for seed in range(50))
    assert split_rows([str(number) for number in range(40)], 0.1, 0) == ([], list(range(40)))


def test_15_of_a_handful_of_rows_none_is_held_out() -> None:
    assert split_rows(["good", "bad"], 0.1, 0) == ([], [0, 1])
    assert split_rows(["good"] * 5 + ["bad"] * 4, 0.5, 0)[0] == []


class Here(Cluster):
    """Runs what Ray would be handed in this process."""

    def train(self, loop: Any, config: dict[str, Any], *where: Any) -> dict[str, Any]:
        found: dict[str, Any] = loop(config, lambda said: None)
        return found

    def call(self, function: Any, wanted: Any, *, fresh: bool = False, **arguments: Any) -> Any:
        return function(**arguments)


LABELS = ["negative", "neutral", "positive"]


def damaged_student(base: Path, folder: Path, fault: str) -> Path:
    """A classifier that is not finite: in ``fp16``, in ``fp16 bf16``, of a text with a zebra in it, or always."""
    import torch

    torch.manual_seed(1)
    model, tokenizer = learner.fresh(base, LABELS), load_tokenizer(base)
    bert, zebra = model.base_model, tokenizer.convert_tokens_to_ids("zebra")
    with torch.no_grad():
        if fault in ("fp16", "fp16 bf16"):  # the weight is infinite there, and what it is multiplied with is nothing
            bert.embeddings.LayerNorm.weight[0] = bert.embeddings.LayerNorm.bias[0] = 0
            bert.encoder.layer[0].attention.self.query.weight[:, 0] = 7e4 if fault == "fp16" else 3.4e38
        elif fault == "zebra in fp16":
            bert.embeddings.word_embeddings.weight[zebra, 0] = 1e5
        elif fault == "zebra in training":  # which keeps embeddings in fp32: the product after them overflows
            bert.embeddings.word_embeddings.weight[zebra, 0] = 1e5
            bert.encoder.layer[0].attention.self.value.weight[0, 0] = 1.5e4
        elif fault == "zebra":
            bert.embeddings.word_embeddings.weight[zebra, :2] = 3e38  # their sum is infinite in fp32
        elif fault == "attention":
            bert.encoder.layer[0].attention.self.query.weight[0, 0] = float("nan")
        elif fault == "always":
            model.classifier.bias[1] = float("nan")
    save_student(model, tokenizer, folder, 32)
    return folder


def run_train(job: Any, *overrides: str) -> tuple[Any, dict[str, Any]]:
    job.do("vote", *overrides)
    context = replace(job.context("train", job.spec(*overrides)), cluster=Here())
    return context, train.run(context)


@pytest.mark.slow("long")
def test_15_four_rows_are_all_learned_from_and_it_is_said(job: Any, tiny_model: Path) -> None:
    context, summary = run_train(job, f"student.model={tiny_model}", "student.epochs=2")
    assert summary["rows"] == 4 and summary["held_out"] == 0
    [warning] = summary["warnings"]
    assert warning.startswith("none of the 4 labelled train rows is held out") and warning in job.said.getvalue()
    rows = context.here.read_table("rows.parquet").to_pylist()
    assert len(rows) == 4 and not any(row["held_out"] for row in rows)
    json.dumps(summary, allow_nan=False)


TEXTS = ["Profit fell.", "A zebra stayed in Turku.", "Orders grew again, by much.", "  "]


@pytest.mark.slow("long")
@pytest.mark.parametrize(("fault", "precision"), [("fp16", "fp16"), ("fp16 bf16", "bf16"), ("fp16 bf16", "fp16")])
def test_09_a_student_that_overflows_in_half_precision_computes_in_fp32(
    tiny_model: Path, tmp_path: Path, fault: str, precision: str
) -> None:
    folder = damaged_student(tiny_model, tmp_path / "s", fault)
    exact = Student.load(learner, folder, precision="fp32").predict(TEXTS)
    found = Student.load(learner, folder, precision=precision)
    assert found.precision == "fp32" and found.fell_back == f"{finite.NOT_FINITE}, in {precision}"
    assert np.isfinite(exact).all() and np.array_equal(found.predict(TEXTS), exact)


@pytest.mark.slow("long")
def test_09_a_text_that_overflows_in_half_precision_is_computed_again_in_fp32(tiny_model: Path, tmp_path: Path) -> None:
    damaged_student(tiny_model, tmp_path / "student", "zebra in fp16")
    exact = Student.load(learner, tmp_path / "student", precision="fp32").predict(TEXTS)
    found = StudentRef(str(tmp_path), "student", None, "fp16").open()
    assert found.predict(TEXTS) == pytest.approx(exact, abs=0.02)
    assert found.precision == "fp16" and found.recomputed == 1


@pytest.mark.slow("long")
@pytest.mark.parametrize("fault", ["always", "attention"])
def test_09_a_student_whose_answers_are_never_finite_is_refused(tiny_model: Path, tmp_path: Path, fault: str) -> None:
    """Attention on processors takes scores that are NaN for nothing: the logits are finite, and mean nothing."""
    with pytest.raises(
        ModelError, match="answers no text with finite numbers, in fp32 either: its weights are damaged"
    ):
        Student.load(learner, damaged_student(tiny_model, tmp_path / "s", fault))


def applied(folder: Path, out: Path, precision: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the apply stage's worker writes of :data:`TEXTS`, and the summary."""
    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    part = {
        "file": 0,
        "number": 0,
        "name": "part.parquet",
        "rows": 4,
        "table": corpus_worker._as_bytes(table),
        "counts": None,
    }
    worker = corpus_worker.Predictor(StudentRef(str(folder.parent), folder.name, None, precision), 0.0, str(out))
    tally = corpus.Tally()
    for done in worker(pa.Table.from_pylist([part], schema=corpus_worker.PART)):
        for line in done.to_pylist():
            tally.add(line)
    return Folder(str(out)).read_table("part.parquet").to_pylist(), tally.summary()


@pytest.mark.slow("long")
def test_09_what_is_not_finite_in_fp32_either_abstains_with_a_reason(tiny_model: Path, tmp_path: Path) -> None:
    folder = damaged_student(tiny_model, tmp_path / "s", "zebra")
    rows, summary = applied(folder, tmp_path / "out", "fp32")
    assert [row["label"] is None for row in rows] == [False, True, False, True]
    assert [row["abstain"] for row in rows] == [False, True, False, True]
    assert rows[1]["probability"] is None and all(rows[1][f"probability_{label}"] is None for label in LABELS)
    assert summary["abstained"] == 2 and sum(summary["labels"].values()) == 2
    assert summary["abstained_by_reason"] == {corpus_worker.BLANK: 1, finite.NOT_FINITE: 1}
    [warning] = summary["warnings"]
    assert warning.startswith("1 of 4 texts got no label: the student's answers to them are not finite numbers")


@pytest.mark.slow("long")
def test_09_what_was_computed_again_is_said(tiny_model: Path, tmp_path: Path) -> None:
    folder = damaged_student(tiny_model, tmp_path / "s", "zebra in fp16")
    rows, summary = applied(folder, tmp_path / "out", "fp16")
    assert rows[1]["label"] in LABELS and not rows[1]["abstain"] and summary["recomputed"] == 1
    [warning] = summary["warnings"]
    assert "to 1 of 4 texts are not finite numbers in fp16" in warning and "student.precision to fp32" in warning


def test_09_a_test_row_without_a_finite_answer_is_no_label_and_wrong(job: Any, tiny_model: Path) -> None:
    job.csv("test.csv", [("A zebra was sold.", *["negative"] * 4), ("It makes paper.", *["neutral"] * 4)])
    job.do("vote", f"student.model={tiny_model}", "student.precision=fp32")
    spec = job.spec(f"student.model={tiny_model}", "student.precision=fp32")
    context = replace(job.context("evaluate", spec), cluster=Here())
    damaged_student(tiny_model, Path(context.inputs["train"].url) / "student", "zebra")
    summary = evaluate.run(context)
    by_text = {row["text"]: row for row in context.here.read_table("predictions.parquet").to_pylist()}
    assert by_text["A zebra was sold."]["student_label"] is None
    assert by_text["A zebra was sold."]["student_probabilities"] is None
    assert by_text["It makes paper."]["student_label"] in LABELS
    result = context.here.read_json("evaluate.json")
    assert result["student"]["abstained"] == 1 and result["student"]["accuracy"] <= 0.5
    assert summary["warnings"][0].startswith("1 of 2 texts got no label")


def test_09_a_teacher_and_a_student_that_both_say_nothing_do_not_agree(job: Any) -> None:
    row = {"label": "neutral", "teacher_label": None, "student_label": None}
    row |= {"teacher_probabilities": None, "student_probabilities": None}
    assert evaluate.compare(job.spec(), [row, row | {"student_label": "neutral"}])["student_agrees_with_teacher"] == 0


def rows_to_learn(count: int = 16) -> Rows:
    texts = [("profit rose" if n % 2 else "loss widened") + f" in {1900 + n}" for n in range(count)]
    return Rows(texts, np.array([[0.9, 0.1], [0.1, 0.9]] * (count // 2), dtype=np.float32))


def fit(model: Path, out: Path, rows: Rows, **more: Any) -> dict[str, Any]:
    settings = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "max_length": 32, "precision": "fp32", "seed": 0}
    labels = ("negative", "positive")
    return training.fit(learner, Fit(**{"model": model, "outputs": labels, **settings, **more}), rows, rows, out)


def test_09_a_student_that_overflows_in_half_precision_is_trained_in_fp32(
    job: Any, tiny_model: Path, tmp_path: Path
) -> None:
    folder = damaged_student(tiny_model, tmp_path / "s", "fp16")
    _, summary = run_train(job, f"student.model={folder}", "student.epochs=1", "student.precision=fp16")
    assert summary["precision"] == "fp32"
    assert f"{finite.NOT_FINITE}, in fp16; the student was trained in fp32 instead" in summary["warnings"][-1]
    assert summary["warnings"][-1] in job.said.getvalue()


def test_09_steps_that_a_loss_scale_leaves_out_are_told(
    job: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    monkeypatch.setattr(loop, "loss_scale", lambda precision, on: scaler)
    _, summary = run_train(job, f"student.model={tiny_model}", "student.epochs=30", "student.precision=fp16")
    assert summary["precision"] == "fp16" and summary["steps"] == 30 and 0 < summary["skipped_steps"] < 15
    said = f"the loss scale left out {summary['skipped_steps']} of 30 steps, whose gradients overflowed in fp16"
    assert said in job.said.getvalue()


def test_09_a_training_that_overflows_on_its_way_is_done_again_in_fp32(tiny_model: Path, tmp_path: Path) -> None:
    """One text of many overflows, which is not among those that are tried before."""
    folder, rows = damaged_student(tiny_model, tmp_path / "s", "zebra in training"), rows_to_learn(40)
    rows.texts[21] = "zebra rose in 1921"  # type: ignore[index]
    found = fit(folder, tmp_path / "out", rows, precision="fp16")
    assert found["precision"] == "fp32" and "steps are not finite numbers, in epoch 1, in fp16" in found["fell_back"]
    assert np.isfinite(Student.load(learner, tmp_path / "out", 32, "fp32").predict(rows.texts)).all()


def test_09_a_training_that_diverges_in_fp32_ends_and_saves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not finite numbers, .*in fp32: the training has diverged; set student.lear"):
        fit(tiny_model, tmp_path / "out", rows_to_learn(), learning_rate=1e38, epochs=8)
    assert not (tmp_path / "out").exists()


def test_09_weights_that_are_not_numbers_are_refused_before_anything_is_learned(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = damaged_student(tiny_model, tmp_path / "s", "attention")
    with pytest.raises(ModelError, match=r"weights are damaged: bert\..*\.query\.weight holds values"):
        fit(folder, tmp_path / "out", rows_to_learn())


def test_09_a_loss_scale_that_leaves_out_most_steps_ends_in_fp32(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    rows = rows_to_learn()
    loop = Loop(learner, Fit(tiny_model, ("negative", "positive"), 1, 1e-3, 4, 32, "fp32", 0), rows, rows, Worker())
    loop.scaler, loop.tried = torch.amp.GradScaler("cpu"), 4
    loop.unusable += 3
    loop.check()  # the first steps look for the scale
    with pytest.raises(finite.NotFinite, match="the gradients of 3 of 4 steps are not finite numbers"):
        loop.check(over=True)
    loop.unusable -= 1
    loop.check(over=True)
    loop.scaler = torch.amp.GradScaler("cpu", init_scale=0.5)
    loop.scaler.scale(torch.ones(()))
    with pytest.raises(finite.NotFinite):
        loop.check()


def test_09_a_student_without_a_finite_opinion_leaves_the_teachers() -> None:
    teacher = np.array([[0.8, 0.2], [0.8, 0.2]], dtype=np.float32)
    students = np.array([[np.nan, np.nan], [0.6, 0.4]], dtype=np.float32)
    assert recipes.out_of_fold_targets(teacher, students) == pytest.approx(np.array([[0.8, 0.2], [0.7, 0.3]]))


CHINESE = [
    ("公司业绩大幅增长利润翻倍。", *["positive"] * 4),
    ("由于成本上升企业出现亏损。", *["negative"] * 4),
    ("该工厂位于杭州市郊区。", *["neutral"] * 4),
    ("订单数量持续减少前景黯淡。", *["negative"] * 4),
]


def test_10_a_student_that_cannot_read_the_texts_is_warned_of(job: Any, tiny_model: Path) -> None:
    job.csv("train.csv", CHINESE)
    [note] = [
        note for note in make_plan(job.spec(f"student.model={tiny_model}"), job.run).notes if "vocabulary" in note
    ]
    assert re.search(r"does not know \d\d % of the tokens of the train texts .*: .*multilingual-e5-small", note)
    _, summary = run_train(job, f"student.model={tiny_model}", "student.epochs=1")
    unknown = summary["unknown_tokens"]
    assert 0.3 < unknown["unknown"] / unknown["tokens"] < 1 and unknown["texts"] == 4
    assert note in summary["warnings"] and job.said.getvalue().count(note) == 1
    report = {"train": summary, "label": {}, "benchmark": {"teacher": {"usd_per_million": 1}}}
    assert any("The student's vocabulary does not have" in said for said in _teacher_limits(report))


def test_10_a_second_language_is_not_hidden_by_the_first() -> None:
    english, chinese = [[1, 7, 8, 9, 2]] * 90, [[1, 100, 100, 9, 2]] * 10
    found = vocabulary.count(english + chinese, 100, [1, 2, 100])
    assert (found.tokens, found.unknown, found.unreadable) == (300, 20, 10) and found.too_many
    assert not vocabulary.count(english + [[1, 100, 2]] * 2, 100, [1, 2, 100]).too_many
    assert not vocabulary.count(chinese, None, [1, 2]).too_many  # bytes: there is a token for everything


def test_10_a_damaged_tokenizer_of_a_student_is_no_bug_of_the_plan(job: Any, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "student")
    for content in ("{}", '{"model": ', "\xff"):
        (tmp_path / "student" / "tokenizer.json").write_text(content)
        assert make_plan(job.spec(f"student.model={tmp_path / 'student'}"), job.run).stages


def test_10_english_texts_are_not_warned_of(job: Any, tiny_model: Path) -> None:
    assert not any("vocabulary" in note for note in make_plan(job.spec(f"student.model={tiny_model}"), job.run).notes)


def export_context(job: Any, model: Path, *overrides: str) -> Any:
    """The export stage's context for a student that was not trained, and 40 train rows of which 20 are held out."""
    job.csv("train.csv", [(f"Text {n} about {'profit' if n % 2 else 'loss'}.", *["positive"] * 4) for n in range(40)])
    job.do("load")
    context = replace(job.context("export", job.spec(f"student.model={model}", *overrides)), cluster=Here())
    rows = context.inputs["load"].read_table("train.parquet").to_pylist()
    context.inputs["train"].write_table(held_out.FILE, held_out.table(rows, range(20), pa.string()))
    return context


def figures(runtime: str, agreement: float, on_test: float, rate: float, rows: int = 20) -> dict[str, Any]:
    judged = {"rows": rows, "agreement": agreement, "teacher_agreement": agreement}
    return {
        "runtime": runtime,
        "judged": judged,
        "accuracy": on_test,
        "agreement": on_test,
        "texts_per_second": rate,
    } | {"recomputed": 0}


@pytest.mark.parametrize(("held", "test", "taken"), [(1.0, 0.5, "onnx"), (0.9, 1.0, "torch")])
def test_14_held_out_train_rows_choose_the_runtime_and_test_rows_do_not(
    job: Any, tiny_model: Path, held: float, test: float, taken: str
) -> None:
    context, asked = export_context(job, tiny_model, "student.export=[onnx]"), {}

    def call(function: Any, wanted: Any, **arguments: Any) -> Any:
        asked.update(arguments)
        return [figures("torch", 1.0, 1.0, 1.0), figures("onnx", held, test, 9.0)]

    context.cluster.call = call
    assert export.run(context)["runtime"] == taken
    rows = context.inputs["train"].read_table(held_out.FILE).to_pylist()
    texts = dict(context.inputs["load"].read_table("train.parquet").select(["id", "text"]).to_pandas().values)
    assert asked["judges"][0] == [texts[row["id"]] for row in rows if row["held_out"]]
    assert len(asked["seen"]) == 20 and not set(asked["seen"]) & set(asked["judges"][0])


def test_14_a_broken_int8_by_name_is_refused_and_can_be_accepted(
    job: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import numpy_helper

    whole = exported.quantise

    def broken(full: Path, target: Path, seen: Any) -> None:
        """Every weight of the model upside down."""
        model = onnx.load(full)
        for stored in model.graph.initializer:
            if stored.data_type == onnx.TensorProto.FLOAT and len(stored.dims) == 2:
                stored.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(stored), stored.name))
        onnx.save(model, full.with_name("broken.onnx"))
        whole(full.with_name("broken.onnx"), target, seen)

    monkeypatch.setattr(exported, "quantise", broken)
    options = ("student.export=[onnx-int8]", "student.precision=fp32", "student.max_length=32")
    context = export_context(job, tiny_model, *options, "student.runtime=onnx-int8")
    damaged_student(tiny_model, Path(context.inputs["train"].url) / "student", "none")
    with pytest.raises(
        UserError, match=r"onnx-int8 gives another label than the student itself on \d+ of 20 train rows"
    ):
        export.run(context)
    found = [figures("torch", 1.0, 1.0, 1.0), figures("onnx-int8", 0.5, 0.5, 9.0)]
    with pytest.raises(UserError, match=r"10 of 20 .*accept the loss with student\.max_disagreement: 0\.5; labels"):
        export.choose(found, "onnx-int8", 0.02)
    assert export.choose(found, "onnx-int8", 0.5) == "onnx-int8" and export.choose(found, "auto", 0.5) == "torch"


def test_14_what_a_named_runtime_gives_up_is_said(job: Any, tiny_model: Path) -> None:
    context = export_context(
        job, tiny_model, "student.export=[onnx]", "student.runtime=onnx", "student.max_disagreement=0.1"
    )
    found = [figures("torch", 1.0, 1.0, 1.0), figures("onnx", 0.95, 0.8, 9.0)]
    context.cluster.call = lambda *_, **__: found
    result = export.run(context)
    [warning] = result["warnings"]
    assert "onnx, which student.runtime names, gives the teacher's label on 5.0 % fewer of the 20 train rows" in warning
    assert warning in job.said.getvalue()
    [said] = _runtime_limits({"export": result, "spec": {}})
    assert "right on 100.0 % of the test texts" in said and "gives the same label on 80.0 % of the test texts" in said
    assert "on 95.0 % of the 20 training texts that judged it" in said
