"""Exports say what the original says, for batches of every shape; the fastest sound one is chosen, and no other."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.planning.files import check_files
from runner.stages import export
from runner.student import held_out, shortcuts
from runner.student.load import load_tokenizer
from runner.student.predict import Student
from runner.student.runtimes import exported as runtimes
from runner.student.runtimes import int8
from runner.student.runtimes.optional import lacking
from runner.student.save import save_student
from runner.system.errors import ModelError, SpecError, UserError
from runner.tasks.single_label import learner

pytestmark = pytest.mark.slow("long")  # all of it together: seconds

LABELS = ["negative", "neutral", "positive"]
TEXTS = [
    "Sales rose.",
    "",
    "A loss, " * 9,
    "The plant in Turku makes paper and employs 200 people.",
    "\U0001f600 \u0645\u0631",
]


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("exported") / "student"
    classifier = learner.fresh(tiny_model, LABELS)
    torch.nn.init.normal_(classifier.classifier.weight, std=1.0)  # a head that is sure of something
    save_student(classifier, load_tokenizer(tiny_model), folder, 24)
    return folder


@pytest.fixture(scope="module")
def exports(model: Path) -> Path:
    folder = model.parent / "exports"
    loaded = learner.trained(model).eval()
    for form in ("onnx", "onnx-int8", "openvino"):
        assert runtimes.export(loaded, form, folder, Student.load(learner, model).inputs(TEXTS)).exists()
    return folder


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("rows", [None, 1, 2])
def test_an_export_answers_as_the_original(model: Path, exports: Path, form: str, rows: int | None) -> None:
    expected = Student.load(learner, model, precision="fp32").predict(TEXTS)
    found = Student.load(learner, model, precision="fp32", runtime=form, exports=exports)
    assert found.predict(TEXTS, batch_rows=rows) == pytest.approx(expected, abs=1e-5)
    assert (found.outputs, found.max_length, found.runtime) == (LABELS, 24, form)


@pytest.mark.slow("long")
def test_mpnet_is_exported(tmp_path: Path) -> None:
    """With the shortcuts that it takes as it is loaded; each export is checked against it as it is written."""
    from transformers import MPNetConfig, MPNetForSequenceClassification

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    classifier = MPNetForSequenceClassification(MPNetConfig(vocab_size=120, num_labels=3, **sizes))
    assert shortcuts.apply_shortcuts(classifier)
    for form in ("onnx", "openvino", "onnx-int8"):
        assert runtimes.export(classifier.eval(), form, tmp_path, []).exists()


FIRST_CALLS = """
import os, signal, sys, threading
from pathlib import Path
import numpy as np
from runner.student.runtimes import exported as runtimes
import openvino  # here, so that the children need not wait for it
sys.setswitchinterval(1e-6)
for _ in range(12):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    signal.alarm(60)  # whoever stands still is killed, and the parent says so
    session = runtimes.open_session(sys.argv[2], Path(sys.argv[1]), "fp32", 8)
    start = threading.Barrier(8)
    def call():
        start.wait()
        session(np.full((2, 7), 9, dtype=np.int64), np.ones((2, 7), dtype=np.int64))
    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    os._exit(0)
"""


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_first_calls_side_by_side_do_not_wait_for_each_other(exports: Path, form: str) -> None:
    """OpenVINO's bindings could stop for ever there, one time in some; so each round is a process of its own."""
    subprocess.run([sys.executable, "-c", FIRST_CALLS, str(exports), form], check=True)


@pytest.mark.parametrize("form", ["onnx-int8", "openvino"])
def test_fewer_bits_answer_nearly_so(model: Path, exports: Path, form: str) -> None:
    expected = Student.load(learner, model, precision="fp32").predict(TEXTS)
    found = Student.load(learner, model, precision="bf16", runtime=form, exports=exports).predict(TEXTS)
    assert found == pytest.approx(expected, abs=0.1) and not np.array_equal(found, expected)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


@pytest.mark.parametrize("form", ["onnx", "onnx-int8", "openvino"])
def test_a_damaged_export_is_said(model: Path, exports: Path, tmp_path: Path, form: runtimes.Form) -> None:
    whole = exports / runtimes.FILES[form]
    broken = tmp_path / runtimes.FILES[form]
    broken.parent.mkdir()
    broken.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=f"{broken}: {form} cannot load this export, it may be damaged: "):
        Student.load(learner, model, runtime=form, exports=tmp_path)


@pytest.fixture
def shouting(model: Path, tmp_path: Path) -> Path:
    """The student with a few neurons that answer a thousand times as loud as the others: eight bits hold but them."""
    import torch

    loud = learner.trained(model)
    with torch.no_grad():
        for layer in loud.base_model.encoder.layer:
            layer.intermediate.dense.weight *= 20
            layer.output.dense.weight *= 5
            layer.intermediate.dense.weight[:3] *= 100
            layer.output.dense.weight[:, :3] /= 100
    save_student(loud, load_tokenizer(model), tmp_path / "loud", 24)
    return tmp_path / "loud"


@pytest.mark.slow("subprocess")
def test_int8_computes_loud_neurons_apart(shouting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Student.load(learner, shouting, precision="fp32")
    expected, loaded = original.predict(TEXTS), learner.trained(shouting).eval()

    def off(apart: int) -> float:
        monkeypatch.setattr(int8, "APART", apart)
        exports = tmp_path / f"{apart}"
        runtimes.export(loaded, "onnx-int8", exports, original.inputs(TEXTS))
        found = Student.load(learner, shouting, precision="fp32", runtime="onnx-int8", exports=exports)
        return float(np.abs(found.predict(TEXTS) - expected).max())

    together, apart = off(0), off(3)
    assert apart < 0.5 * together


def feed_forward(weights: dict[str, Any], *more: Any) -> Any:
    """A graph of one feed-forward layer, ``read`` to ``said``, and ``more`` nodes."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("MatMul", ["read", "up"], ["a"], name="up"),
        helper.make_node("Add", ["a", "bias"], ["b"], name="bias"),
        helper.make_node("Gelu", ["b"], ["c"], name="gelu"),
        helper.make_node("MatMul", ["c", "down"], ["said"], name="down"),
    ]
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 64]) for name in ("read", "said")]
    stored = [numpy_helper.from_array(one, name) for name, one in weights.items()]
    graph = helper.make_graph([*nodes, *more], "layer", shapes[:1], shapes[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def weights() -> dict[str, Any]:
    draw, sizes = np.random.default_rng(0), {"up": (64, 128), "bias": (128,), "down": (128, 64)}
    return {name: draw.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def test_int8_leaves_layers_alone_whose_inside_is_read_elsewhere(weights: dict[str, Any]) -> None:
    from onnx import helper

    up_again = {"up2": weights["up"], "bias2": weights["bias"], "down2": weights["down"]}
    again = [
        helper.make_node("Add", ["said", "bias2"], ["d"]),
        helper.make_node("Gelu", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "down2"], ["f"]),
    ]
    for more, found in [([], 1), ([helper.make_node("Relu", ["b"], ["z"])], 0), (again, 1)]:
        assert len(int8._feed_forwards(feed_forward(weights | up_again, *more).graph)) == found


def test_int8_reads_loud_columns_with_the_others(weights: dict[str, Any], tmp_path: Path) -> None:
    import onnx
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import QuantType, quantize_dynamic

    read = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    read[:, :2] *= 100  # two columns are loud, and weigh little
    weights["up"][:2] /= 100
    read[:, 2], weights["up"][3] = 0, 0  # one says nothing, one is not heard
    model = feed_forward(weights)

    def say(path: Path) -> Any:
        return InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"read": read})[0]

    def in_int8(name: str) -> Any:
        quantize_dynamic(tmp_path / name, tmp_path / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
        return say(tmp_path / "int8.onnx")

    onnx.save(model, tmp_path / "plain.onnx")
    expected = say(tmp_path / "plain.onnx")
    [layer] = int8._feed_forwards(model.graph)
    for nothing in (np.zeros(64), np.full(64, np.nan)):
        int8._even_out(model.graph, layer, nothing)
        assert layer.up.input[0] == "read"
    int8._even_out(model.graph, layer, np.abs(read).max(axis=0))
    onnx.save(model, tmp_path / "even.onnx")
    size = float(np.abs(expected).mean())
    assert say(tmp_path / "even.onnx") == pytest.approx(expected, abs=1e-4 * size)
    assert np.abs(in_int8("even.onnx") - expected).mean() < 0.2 * np.abs(in_int8("plain.onnx") - expected).mean()


@pytest.mark.slow("long")
def test_an_export_that_is_not_the_student_is_noticed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without padding in the sample the mask is left out of the graph, and padding changes every answer."""
    import torch

    whole = runtimes._to_onnx

    def careless(classifier: Any, target: Path) -> None:
        plain = (torch.ones((2, 7), dtype=torch.int64),) * 2
        with monkeypatch.context() as patch:
            patch.setattr(runtimes, "_sample", lambda rows, length: plain)
            whole(classifier, target)

    monkeypatch.setattr(runtimes, "_to_onnx", careless)
    with pytest.raises(ModelError, match="is not the student: its logits are off by"):
        runtimes.export(learner.trained(model).eval(), "onnx", tmp_path, [])


def test_what_is_missing_is_said_before_anything_is_spent(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "openvino" else real(name, *more)
    )
    assert not lacking("onnx") and not lacking("safetensors")
    with pytest.raises(
        SpecError, match=r"student\.export\.1: openvino needs openvino: pip install 'tutelage\[openvino\]'"
    ):
        check_files(job.spec("student.export=[onnx, openvino]"))
    with pytest.raises(UserError, match="openvino needs openvino"):
        runtimes.open_session("openvino", job.root, "fp32", 1)


def measured(runtime: str, agreement: float, teacher: float, rate: float, rows: int = 1000) -> dict[str, Any]:
    judged = {"rows": rows, "agreement": agreement, "teacher_agreement": teacher}
    return {"runtime": runtime, "judged": judged, "texts_per_second": rate, "recomputed": 0}


@given(st.lists(st.tuples(st.floats(0.9, 1), st.floats(0.5, 1), st.floats(1, 1000)), min_size=1, max_size=4))
def test_auto_takes_the_fastest_that_loses_next_to_nothing(rows: list[tuple[float, float, float]]) -> None:
    found = [
        measured("torch" if not n else f"r{n}", agreement if n else 1.0, teacher, rate)
        for n, (agreement, teacher, rate) in enumerate(rows)
    ]
    chosen = next(one for one in found if one["runtime"] == export.choose(found, "auto", 0.02))
    least = found[0]["judged"]["teacher_agreement"] - 0.003 - 1e-9
    sound = [
        one
        for one in found
        if one["judged"]["teacher_agreement"] >= least and one["judged"]["agreement"] >= 0.98 - 1e-9
    ]
    assert chosen in sound and chosen["texts_per_second"] == max(one["texts_per_second"] for one in sound)
    assert export.choose(found, "torch", 0.0) == "torch"


def test_three_rows_of_a_thousand_are_no_more_than_may_be_lost() -> None:
    assert export.choose([measured("torch", 1, 0.951, 1.0), measured("onnx", 1, 0.948, 2.0)], "auto", 0.02) == "onnx"


@pytest.mark.parametrize(("gpus", "asked", "chosen"), [(0, "auto", "onnx"), (1, "torch", "torch")])
def test_with_a_gpu_torch_is_asked_for(
    job: Any, monkeypatch: pytest.MonkeyPatch, gpus: int, asked: str, chosen: str
) -> None:
    job.do("load")
    context = job.context("export", job.spec("student.export=[onnx]", f"student.resources.gpus={gpus}"))
    context.inputs["train"].write_table(held_out.FILE, held_out.table([], [], pa.string()))
    found = [measured("torch", 1.0, 1.0, 1.0), measured("onnx", 1.0, 1.0, 2.0)]
    monkeypatch.setattr(context.cluster, "call", lambda *_, **__: found)
    result = export.run(context)
    assert (result["runtime"], result["asked"], result["runtimes"]) == (chosen, asked, found)


def test_what_is_exported_trains_nothing_anew(job: Any) -> None:
    from runner.stages import pipeline

    def prints(*overrides: str) -> dict[str, str]:
        return {step.stage.NAME: step.fingerprint for step in pipeline.steps(job.spec(*overrides), job.run)}

    plain, exported = prints(), prints("student.export=[onnx]")
    assert "export" not in plain
    assert {name for name in exported if exported[name] != plain.get(name)} == {"export", "evaluate", "benchmark"}
    on_gpu = prints("student.export=[onnx]", "student.resources.gpus=1")
    assert on_gpu["export"] != exported["export"] and on_gpu["train"] == exported["train"]
