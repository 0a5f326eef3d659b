"""benchmark: what it times for real, what decides its outcome, and the economics that follow from the markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.cluster.resources import Resources
from runner.planning.plan import make_plan
from runner.planning.tokens import CHARACTERS_PER_TOKEN, MARKUP
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages import benchmark, pipeline
from runner.student import timing
from runner.student.load import load_tokenizer
from runner.student.save import save_student
from runner.student.trained import StudentRef
from runner.tasks.single_label import learner

SECONDS = {"label": 1800.0, "train": 7200.0}


def finished(job: Any, spec: Spec, label: dict[str, Any] | None = None) -> Any:
    """The benchmark's context, with its inputs as the stages leave them; training is only said to have been."""
    job.do("load")
    context = job.context("benchmark", spec)
    for name in ("label", "train"):
        folder: Folder = context.inputs[name]
        summary = {"rows": 7, "seconds": None, "prompt_tokens": None, "rows_per_second": None}
        folder.finish({"stage": name, "seconds": SECONDS[name], "summary": summary | (label or {})})
    return context


def live(spec: str = "cot") -> tuple[str, ...]:
    """Overrides that make the job's teacher one that is asked."""
    return ("teacher.engine=vllm", "teacher.model=org/teacher", "teacher.columns=[]", f"teacher.prompt={spec}")


def test_recorded_answers_leave_the_cost_of_labels_open_and_the_prompt_is_estimated(job: Any) -> None:
    context = finished(job, job.spec("benchmark.price_per_hour=3"))
    found = benchmark._economics(context, 1.0, None, 3.0)
    assert found["one_off"] == {
        "labelling_usd": None,
        "training_usd": 6.0,
        "review_usd": 0.0,
        "usd": 6.0,
        "complete": False,
    }
    tokens = found["tokens"]
    assert list(tokens) == ["direct"] and "estimated" in tokens["direct"]["counted"]
    assert (tokens["direct"]["calls"], tokens["direct"]["output"]) == (1, 3)
    prompt = make_plan(job.spec(*live("direct")), job.run).teacher["prompt"]
    characters = sum(len(turn["content"]) for turn in prompt)
    assert tokens["direct"]["input"] == pytest.approx(characters / CHARACTERS_PER_TOKEN + MARKUP * len(prompt), abs=6)
    assert {row["outcome"] for row in found["rows"] if row["mode"] == "cot"} == {"unknown"}
    assert [row["name"] for row in found["published"]] == ["RoBERTa-base student, T4", "GPT-3.5", "GPT-4"]


def test_recorded_reasons_say_what_such_answers_would_cost(job: Any) -> None:
    header = ("text", "label", "anna", "ben", "carl", "why", "wherefore", "whence")
    rows = [("Profit fell by half.", "", *("negative",) * 3, *("x" * 40,) * 3)]
    job.csv("train.csv", [*rows, ("Orders grew.", "", *("positive",) * 3, *("y" * 80,) * 3)], header)
    spec = job.spec("teacher.reasons=[why, wherefore, whence]")
    found = benchmark._economics(finished(job, spec), 1.0, None, 3.0)
    direct, cot, short = (found["tokens"].get(mode) for mode in ("direct", "cot", "cot-3"))
    answer = len('{"reason": "", "label": "negative"}') + 60  # in the mean of both rows, whose labels are as long
    assert (cot["calls"], cot["output"]) == (3, pytest.approx(answer / CHARACTERS_PER_TOKEN))
    assert cot["input"] > direct["input"]  # its examples have reasons
    assert short == cot | {"mode": "cot-3", "output": 3}
    costs = {(row["name"], row["mode"]): row["usd_per_million"] for row in found["rows"]}
    assert costs["GPT-4 Turbo (0125-preview)", "cot"] == pytest.approx(3 * (cot["input"] * 10 + cot["output"] * 30))
    assert costs["GPT-4 Turbo (0125-preview)", "cot-3"] == pytest.approx(3 * (cot["input"] * 10 + 3 * 30))
    assert fingerprint(job, "teacher.reasons=[why, wherefore, whence]") != fingerprint(job)


def test_what_is_known_of_the_cost_of_labels_counts(job: Any) -> None:
    more = (
        "benchmark.labelling_usd=12.5",
        "benchmark.review={hours: 2, usd_per_hour: 40}",
        "student.resources.workers=2",
        "benchmark.price_per_hour=0.6",
    )
    found = benchmark._economics(finished(job, job.spec(*more)), 1.0, None, None)["one_off"]
    assert (found["labelling_usd"], found["review_usd"], found["complete"]) == (12.5, 80.0, True)
    assert found["training_usd"] == pytest.approx(2 * 2 * 0.6)


def test_training_that_was_stopped_and_went_on_costs_all_of_its_time(job: Any) -> None:
    context = finished(job, job.spec("benchmark.price_per_hour=0.6"))
    folder: Folder = context.inputs["train"]
    history = [{"seconds": 5000.0}, {"seconds": 5800.0}]  # the last run of the stage took two hours of these three
    folder.finish({"stage": "train", "seconds": SECONDS["train"], "summary": {"history": history}})
    assert benchmark._economics(context, 1.0, None, None)["one_off"]["training_usd"] == pytest.approx(3 * 0.6)


def test_a_server_of_one_of_several_teachers_is_another_machine(job: Any) -> None:
    server = "teacher.also=[{model: org/big, endpoint: 'http://10.0.0.5:8000/v1'}]"
    assert benchmark._same_machine(job.spec(*live()))
    assert not benchmark._same_machine(job.spec(*live(), server))


def test_a_machine_that_costs_nothing_is_no_unknown_price(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = job.spec(*live(), "teacher.price_per_hour=0", "benchmark.price_per_hour=0.6")
    context = finished(job, spec, {"rows_per_second": 2.0})
    job.do("load", *live())
    measured = {"hardware": {"cores": 1}, "texts_per_second": 100.0}
    monkeypatch.setattr(context.cluster, "call", lambda *_, **__: measured)
    benchmark.run(context)
    found = context.here.read_json("benchmark.json")
    assert (found["teacher"]["usd_per_million"], found["teacher_usd"]) == (0.0, 0.0)
    assert found["economics"]["rows"][0]["outcome"] == "never"


def test_the_student_is_timed_on_each_further_machine_at_its_price(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    further = "[{name: T4, accelerator: T4, gpus: 1, price_per_hour: 0.9}, {name: core, cpus: 1, price_per_hour: 0.1}]"
    exported = ("student.export=[onnx]", "student.runtime=onnx", f"benchmark.hardware={further}")
    spec = job.spec(*exported)
    context = finished(job, spec)
    context.inputs["export"].write_json("export.json", {"runtime": "onnx"})
    asked = []

    def call(_: Any, wanted: Resources, *, fresh: bool, student: StudentRef, **__: Any) -> dict[str, Any]:
        asked.append((wanted, student.runtime))
        assert fresh
        return {"hardware": {"cores": 8}, "texts_per_second": 1000.0 if wanted.gpus else 10.0}

    monkeypatch.setattr(context.cluster, "call", call)
    benchmark.run(context)
    assert asked == [
        (Resources(), "onnx"),
        (Resources(gpus=1, accelerator="T4"), "torch"),  # exports are for processors
        (Resources(cpus=1), "onnx"),
    ]
    found = context.here.read_json("benchmark.json")["elsewhere"]
    assert [(one["name"], one["hardware"]["cores"]) for one in found] == [("T4", 8), ("core", 1)]
    assert [one["usd_per_million"] for one in found] == pytest.approx([0.25, 0.1 / 3600 / 10 * 1e6])


def test_tokens_are_those_of_the_answers_and_labels_cost_the_teachers_time(job: Any) -> None:
    spec = job.spec(*live(), "teacher.votes=3", "teacher.price_per_hour=4", "teacher.resources.replicas=2")
    label = {"rows": 7, "replies": 14, "seconds": 5400.0, "prompt_tokens": 14 * 300, "output_tokens": 14 * 60}
    found = benchmark._economics(finished(job, spec, label), 1.0, 500.0, 4.0)
    assert found["tokens"]["cot"] | {"counted": ""} == {
        "mode": "cot",
        "calls": 2,
        "input": 300,
        "output": 60,
        "counted": "",
    }
    assert found["tokens"]["direct"]["input"] == 300 and found["tokens"]["direct"]["calls"] == 1
    assert "tokenizer" in found["tokens"]["cot"]["counted"]
    assert found["one_off"]["labelling_usd"] == pytest.approx(6.0)  # 1.5 busy hours, more than 0.5 hours of 2 replicas
    assert found["rows"][0]["outcome"] == "pays"
    by_mode = {(row["name"], row["mode"]): row["usd_per_million"] for row in found["rows"]}
    assert by_mode["GPT-3.5 Turbo", "direct"] == pytest.approx(300 * 0.5 + 3 * 1.5)
    assert by_mode["GPT-3.5 Turbo", "cot"] == pytest.approx(2 * (300 * 0.5 + 60 * 1.5))


def test_of_two_teachers_each_shows_how_it_was_asked(job: Any) -> None:
    spec = job.spec(*live(), "teacher.also=[{model: org/other, prompt: direct}]")
    one = {"rows": 7, "replies": 7, "seconds": 70.0, "prompt_tokens": 7 * 300, "output_tokens": 7 * 50}
    two = {"rows": 7, "replies": 7, "seconds": 7.0, "prompt_tokens": 7 * 200, "output_tokens": 7}
    context = finished(job, spec, {"seconds": 77.0, "teachers": [one, two]})
    tokens = benchmark._economics(context, 1.0, None, None)["tokens"]
    assert (tokens["direct"]["input"], tokens["direct"]["output"]) == (200, 3)
    assert (tokens["cot"]["input"], tokens["cot"]["output"]) == (300, 50)


def fingerprint(job: Any, *overrides: str) -> str:
    steps = pipeline.steps(job.spec(*overrides), job.run)
    return next(step.fingerprint for step in steps if step.stage is benchmark)


def test_the_key_covers_what_the_outcome_depends_on(job: Any) -> None:
    (job.root / "prices.yaml").write_text("apis: []\n")
    changes = [
        (),
        ("benchmark.labelling_usd=1",),
        ("benchmark.review={hours: 1, usd_per_hour: 1}",),
        ("benchmark.carbon={}",),
        ("benchmark.carbon.country=DEU",),
        ("benchmark.prices=prices.yaml",),
        ("task.instructions=Label the sentence well.",),
        ("teacher.resources.gpus=1",),
    ]
    before = [fingerprint(job, *change) for change in changes]
    assert len(set(before)) == len(changes)
    row = "{name: A, input_usd: 1, output_usd: 2, date: 2026-01-02, source: s}"
    (job.root / "prices.yaml").write_text(f"apis: [{row}]\n")
    after = [fingerprint(job, *change) for change in changes]
    assert [k for k, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [5]


@pytest.mark.slow("subprocess")
@pytest.mark.usefixtures("one_thread")
def test_a_student_is_timed_and_its_energy_measured(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    saved = tmp_path / "student"
    saved.mkdir()
    save_student(learner.fresh(tiny_model, ["bad", "good"]), load_tokenizer(tiny_model), saved, 32)
    monkeypatch.setattr(timing, "ENERGY_SECONDS", 0.5)
    texts = [f"Sales grew by {k} %." for k in range(40)]
    trained = StudentRef(str(tmp_path), "student", 32, "fp32")
    found = timing.measure(trained, texts, [1, 8], {"country": None, "grams_per_kwh": 100.0}, [trained])
    assert found["texts_per_second"] == max(row["texts_per_second"] for row in found["throughput"])
    (other,) = found["runtimes"]
    assert other["runtime"] == "torch" and [row["batch_size"] for row in other["throughput"]] == [1, 8]
    assert found["peak_gpu_memory_mb"] is None
    assert found["hardware"]["cores"] >= 1 and (found["device"], found["runtime"]) == ("cpu", "torch")
    energy = found["energy"]
    assert energy["texts"] % 40 == 0 and energy["texts"] > 0
    assert energy["kwh"] > 0 and energy["kg_co2"] == pytest.approx(energy["kwh"] / 10)
    assert timing.measure(trained, texts[:2], [1])["energy"] is None
