"""Several labels from recorded votes to the report, in this process; and what plain transformers makes of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from in_process import Here

from runner.observe.progress import Progress
from runner.publish.cards.data import data_card
from runner.publish.cards.model import model_card
from runner.report.build import build_report
from runner.report.gather import gather
from runner.report.summary import summarise
from runner.rundir.folder import Folder
from runner.spec import load_spec
from runner.stages import pipeline
from runner.student.corpus_worker import Predictor
from runner.student.predict import Student
from runner.student.trained import StudentRef
from runner.system.errors import ModelError
from runner.tasks.multi_label import learner
from runner.tasks.single_label import learner as single_label

LABELS = ("fruit", "metal", "water")
WORDS = {
    "fruit": ("apple", "pear", "plum", "grape"),
    "metal": ("iron", "tin", "zinc", "lead"),
    "water": ("sea", "rain", "lake", "brook"),
}
SPEC = """\
version: 1
name: topics
task: {{type: multi-label, labels: [fruit, metal, water], instructions: "What is in the text?"}}
data:
  train: {{path: train.csv, text: text}}
  test: {{path: test.csv, text: text, label: topics}}
teacher: {{engine: recorded, model: people, columns: [anna, ben]}}
student: {{model: "{model}", recipe: {recipe}, epochs: 3, validation: 0.3}}
evaluate: {{resamples: 200}}
benchmark: {{rows: 4, batch_sizes: [4], price_per_hour: 1}}
"""


def texts(rows: int, seed: int) -> list[tuple[str, list[str]]]:
    rng, found = np.random.default_rng(seed), []
    for _ in range(rows):
        labels = [label for label in LABELS if rng.random() < 0.4]
        words = [str(rng.choice(WORDS[label])) for label in labels]
        found.append((" ".join([f"the {number}" for number in rng.integers(0, 999, 2)] + words), labels))
    return found


def write(folder: Path, model: Path, recipe: str = "fast") -> Path:
    for name, rows, header in (
        ("train", texts(120, 0), "text,anna,ben"),
        ("test", texts(40, 1), "text,anna,ben,topics"),
    ):
        lines = [header]
        for text, labels in rows:
            cell = ";".join(labels) or "[]"
            lines.append(",".join([text, *[cell] * (header.count(","))]))
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "spec.yaml"
    path.write_text(SPEC.format(model=model, recipe=recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    """A finished run: its spec, its folder, and the folders of its stages."""
    root = tmp_path_factory.mktemp("multi")
    spec, run = load_spec(write(root, tiny_model)), Folder(str(root / "runs" / "topics"))
    with open(root / "said", "w", encoding="utf-8") as said:
        pipeline.execute(spec, run, Here(), Progress(said, "plain"))
    return spec, run, {step.stage.NAME: step.folder for step in pipeline.steps(spec, run)}


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread_for_all")
class TestARun:
    def test_scores_are_there_for_both(self, finished: Any) -> None:
        _, _, folders = finished
        result = folders["evaluate"].read_json("evaluate.json")
        assert result["teacher"]["rows"] == result["student"]["rows"] == 40
        assert 0 <= result["student"]["macro_f1"] <= 1 and len(result["student"]["ci95"]["macro_f1"]) == 2
        assert set(result["student"]["per_class"]) == set(LABELS)
        assert result["paired_bootstrap"]["rows"] == 40
        said = folders["evaluate"].read_table("predictions.parquet").to_pylist()
        assert all(isinstance(row["student_label"], list) for row in said)

    def test_the_student_keeps_its_thresholds_and_uses_them(self, finished: Any) -> None:
        _, _, folders = finished
        config = folders["train"].read_json("student/config.json")
        assert config["problem_type"] == "multi_label_classification"
        assert list(config["thresholds"]) == list(LABELS)
        limits = np.array(list(config["thresholds"].values()))
        for row in folders["evaluate"].read_table("predictions.parquet").to_pylist():
            above = np.array(row["student_probabilities"]) > limits
            assert row["student_label"] == [label for label, yes in zip(LABELS, above, strict=True) if yes]

    def test_plain_transformers_gives_the_same_probabilities(self, finished: Any) -> None:
        from transformers import pipeline as transformers_pipeline

        _, _, folders = finished
        folder = Path(folders["train"].url) / "student"
        given = [text for text, _ in texts(12, 2)]
        ours = Student.load(learner, folder, precision="fp32").predict(given)
        plain = transformers_pipeline(
            "text-classification", model=str(folder), top_k=None, function_to_apply="sigmoid", device="cpu"
        )
        for row, answer in zip(ours, plain(given), strict=True):
            theirs = {one["label"]: one["score"] for one in answer}
            assert row.tolist() == pytest.approx([theirs[label] for label in LABELS], abs=1e-5)

    def test_the_card_s_own_code_gives_the_same_labels(self, finished: Any, capsys: Any) -> None:
        from runner.tasks.multi_label import predictions, showing

        _, _, folders = finished
        folder = Path(folders["train"].url) / "student"
        code = showing.loading(str(folder))
        exec(code.replace('["A text of yours.", "Another one."]', repr(["the 1 apple sea", "the 2 iron"])), {})
        student = Student.load(learner, folder)
        chances = student.predict(["the 1 apple sea", "the 2 iron"])
        ours = predictions.values(student.outputs, chances, student.decision)
        printed = [eval(line) for line in capsys.readouterr().out.splitlines()]
        assert [set(one) for one in printed] == [set(one or ()) for one in ours]

    def test_the_report_and_the_cards_are_written(self, finished: Any) -> None:
        _, run, _ = finished
        report, page = build_report(run.read, run.exists)
        assert report["label"]["class_shares"].keys() == set(LABELS)
        for words in ("macro F1", "By label", "paired bootstrap", "How often each label is given"):
            assert words in page
        for word in ("McNemar", "confusion matrix", "softmax"):
            assert word.lower() not in page.lower()
        json.dumps(report)
        gathered = gather(run.read, run.exists)
        card = model_card(gathered, summarise(gathered), "somebody/topics", None)
        assert "pipeline_tag: text-classification" in card and "thresholds" in card
        assert "no label applies" in data_card(gathered, summarise(gathered))

    def test_a_corpus_gets_lists_and_a_probability_for_each_label(self, finished: Any, tmp_path: Path) -> None:
        import pyarrow as pa

        _, _, folders = finished
        ref = StudentRef(folders["train"].url, "student", 64, "fp32", kind="multi-label")
        table = pa.table({"text": ["the 1 apple sea", " ", "the 2"]})
        out, counts = Predictor(ref, 0.0, str(tmp_path))._labelled(
            table, table["text"].to_pylist(), ref.open().predict(table["text"].to_pylist())
        )
        assert out.column_names == ["text", "labels", *(f"probability_{label}" for label in LABELS), "abstain"]
        assert out["labels"].type == pa.list_(pa.string()) and out["labels"].to_pylist()[1] is None
        assert out["abstain"].to_pylist() == [False, True, False]
        said = [label for row in out["labels"].to_pylist() if row is not None for label in row or ["(no label)"]]
        assert counts["labels"] == {label: said.count(label) for label in said}
        pq.write_table(out, tmp_path / "out.parquet")

    def test_another_task_s_student_is_refused(self, finished: Any, tmp_path: Path) -> None:
        _, _, folders = finished
        folder = Path(folders["train"].url) / "student"
        with pytest.raises(ModelError, match="does not choose one of several labels"):
            single_label.trained(folder)

    def test_broken_thresholds_are_refused(self, finished: Any) -> None:
        _, _, folders = finished
        config = learner.trained(Path(folders["train"].url) / "student").config
        for broken in ([0.5], {"fruit": 0.5}, dict.fromkeys(LABELS, 2), dict.fromkeys(LABELS, "much")):
            config.thresholds = broken
            with pytest.raises(ModelError, match="a number from 0 to 1 for each label"):
                learner.decision_of(config)
        config.thresholds = None
        assert learner.decision_of(config) is None


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("recipe", ["head", "lp-ft", "best", "auto"])
def test_every_recipe_trains(recipe: str, tmp_path: Path, tiny_model: Path) -> None:
    spec, run = load_spec(write(tmp_path, tiny_model, recipe)), Folder(str(tmp_path / "run"))
    with open(tmp_path / "said", "w", encoding="utf-8") as said:
        for step in pipeline.steps(spec, run):
            pipeline.run_step(step, pipeline_context(step, spec, run, said))
            if step.stage.NAME == "train":
                break
    config = step.folder.read_json("student/config.json")
    assert list(config["thresholds"]) == list(LABELS)


def pipeline_context(step: Any, spec: Any, run: Folder, said: Any) -> Any:
    from runner.stages.contract import Context

    return Context(spec, run, step.folder, step.inputs, Here(), Progress(said, "plain"))


def test_the_loss_is_binary_cross_entropy_on_shares() -> None:
    logits, targets = torch.tensor([[0.3, -2.0], [1.0, 0.0]]), torch.tensor([[0.9, 0.1], [0.5, 0.0]])
    chances = torch.sigmoid(logits)
    by_hand = -(targets * chances.log() + (1 - targets) * (1 - chances).log()).sum(dim=1).mean()
    assert float(learner.loss(logits, targets)) == pytest.approx(float(by_hand))


def test_a_row_is_wholly_right_only_where_the_probabilities_are_the_teacher_s() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    sure = torch.tensor([[20.0, -20.0], [-20.0, -20.0], [20.0, 20.0]])
    assert learner.is_right(sure, targets).tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    assert learner.is_right(-sure, targets).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    half = learner.is_right(torch.tensor([[20.0, -20.0]]), torch.tensor([[1.0, 1.0]]))
    assert half.tolist() == pytest.approx([0.5], abs=1e-6)


def test_answers_that_are_no_finite_numbers_stay_none() -> None:
    found = learner.probabilities(np.array([[0.0, np.inf], [0.0, 1.0]], dtype=np.float32))
    assert np.isnan(found[0]).all() and found[1].tolist() == pytest.approx([0.5, 0.7310586])


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread_for_all")
def test_exports_say_what_the_original_says(finished: Any, tmp_path: Path) -> None:
    _, run, folders = finished
    changed = load_spec(Path(run.url).parents[1] / "spec.yaml", ["student.export=[safetensors, onnx, onnx-int8]"])
    with open(tmp_path / "said", "w", encoding="utf-8") as said:
        for step in pipeline.steps(changed, run):
            if not step.cached:
                pipeline.run_step(step, pipeline_context(step, changed, run, said))
            if step.stage.NAME == "export":
                break
    found = {one["runtime"]: one for one in step.folder.read_json("export.json")["runtimes"]}
    assert set(found) == {"torch", "onnx", "onnx-int8"}
    assert found["onnx"]["agreement"] > 0.9 and 0 <= found["onnx-int8"]["agreement"] <= 1
    assert all(0 <= one["macro_f1"] <= 1 for one in found.values())
    exports = step.folder.fetch("exports", tmp_path / "exports")
    folder = Path(folders["train"].url) / "student"
    given = [text for text, _ in texts(12, 2)]
    original = Student.load(learner, folder, precision="fp32")
    onnx = Student.load(learner, folder, runtime="onnx", exports=exports)
    assert onnx.decision == original.decision is not None
    assert onnx.predict(given) == pytest.approx(original.predict(given), abs=1e-4)


@pytest.mark.slow("ray")
def test_a_run_and_predictions_from_the_command_line(tmp_path: Path, tiny_model: Path) -> None:
    """All stages in Ray's workers; then a corpus by the run, and the same by the bare model folder."""
    from runner.commands.cli import main

    path, runs = write(tmp_path, tiny_model), tmp_path / "runs"
    assert main(["run", str(path), "--runs-dir", str(runs)]) == 0
    (tmp_path / "corpus.csv").write_text("text\nthe 1 apple sea\nthe 2 iron\n", encoding="utf-8")
    student = next((runs / "topics" / "train").glob("*/student"))
    outputs = [tmp_path / "by-run.csv", tmp_path / "by-folder.jsonl"]
    for source, out in zip((runs / "topics", student), outputs, strict=True):
        assert main(["predict", str(source), str(tmp_path / "corpus.csv"), "--out", str(out)]) == 0
    with open(outputs[0], encoding="utf-8", newline="") as handle:
        by_run = list(csv.DictReader(handle))
    by_folder = [json.loads(line) for line in outputs[1].read_text(encoding="utf-8").splitlines()]
    assert len(by_run) == len(by_folder) == 2
    for one, other in zip(by_run, by_folder, strict=True):
        assert json.loads(one["labels"]) == other["labels"]
        assert {f"probability_{label}" for label in LABELS} <= set(one)
