"""The plan: what fits, what is there already, how long it takes, and nothing started."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner import models
from runner.commands.cli import main
from runner.data.reading import row_id
from runner.planning.check import check_models
from runner.planning.plan import Plan, make_plan
from runner.planning.text import plan_text
from runner.rundir.folder import Folder
from runner.spec import Spec, load_spec
from runner.system import machine, nvml
from runner.system.accelerators import GIB
from runner.system.errors import DataError, EngineError
from runner.teacher import answer_store
from runner.teacher.batch import ANSWERS
from runner.teacher.random_texts import CONTENT_FREE_TEXTS

FINANCIAL = Path(__file__).parents[2] / "specs" / "financial-sentiment.yaml"
SMALL = "catalog:smollm2-135m-instruct"


def asking(job: Any, model: str = SMALL, *more: str) -> Spec:
    """The job with a live teacher."""
    spec: Spec = job.spec("teacher.engine=vllm", f"teacher.model={model}", "teacher.columns=[]", *more)
    return spec


@pytest.fixture
def mixtral(job: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the shipped financial spec finds its data in: a few rows of our own."""
    header = ("text", "label_experts")
    (job.root / "financial_phrasebank").mkdir()
    job.csv("financial_phrasebank/train.csv", [(f"Sentence {i} is here.", "") for i in range(40)], header)
    job.csv("financial_phrasebank/test.csv", [("Up.", "positive"), ("Down.", "negative")], header)
    monkeypatch.setenv("TUTELAGE_DATA", str(job.root))
    return FINANCIAL


def test_the_published_case_fits_two_h100(mixtral: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(mixtral), "--runs-dir", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "rows       40 train, 2 test; 0 dropped" in out
    assert "weights 43.5 GiB and about 4.4 GiB to work with, on each of 2 x H100" in out
    assert "where vLLM takes 92% of 79.1 GiB: 72.8 GiB; 24.9 GiB are left for the KV cache: 1,024 rows at once" in out
    assert "after about 4:37 in which the engine starts" in out
    assert "42 rows to label, 0 answers already there" in out
    assert "load > label > vote > train > evaluate > benchmark" in out
    assert "problem" not in out
    assert not (tmp_path / "runs").exists(), "a plan writes nothing"


def test_a_context_smaller_than_the_prompt_is_a_problem(job: Any) -> None:
    long = "task.instructions=" + "Read it. " * 40
    (problem,) = make_plan(asking(job, SMALL, "teacher.max_context=64", long), job.run).problems
    assert problem.startswith("teacher.max_context: 64 tokens do not hold the prompt")


ONE_T4 = ["--set", "teacher.resources.accelerator=T4", "--set", "teacher.resources.gpus=1"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_mixtral_does_not_fit_one_t4(
    mixtral: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(mixtral), "--runs-dir", str(tmp_path / "runs"), *ONE_T4]) == 1
    said = "".join(capsys.readouterr())
    assert "mistralai/Mixtral-8x7B-Instruct-v0.1 does not fit: weights 87.0 GiB and about" in said
    assert "on each of 1 x T4, where vLLM takes 92% of 14.6 GiB: 13.4 GiB" in said
    assert (
        "Enough are 8 x L4, 8 x A10, 8 x A10G, 4 x L40S, 4 x A100, 2 x A100-80G, 2 x H100, 1 x H200, 1 x B200" in said
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("accelerator", "gpus", "fits"),
    [("H100", 1, False), ("H100", 2, True), ("H200", 1, True), ("T4", 4, False), ("T4", 8, True), ("Unheard", 1, True)],
)
def test_memory_is_counted_on_each_gpu(mixtral: Path, accelerator: str, gpus: int, fits: bool) -> None:
    overrides = [f"teacher.resources.accelerator={accelerator}", f"teacher.resources.gpus={gpus}"]
    spec = load_spec(mixtral, overrides)
    if fits:
        check_models(spec)
    else:
        with pytest.raises(EngineError, match=f"{gpus} x {accelerator}"):
            check_models(spec)


def test_any_gpu_is_one_of_this_machine_where_nothing_else_is_said(
    mixtral: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [nvml.Gpu("Tesla T4", 15 * GIB)] * 2)
    spec = load_spec(mixtral, ["teacher.resources.accelerator=null"])
    with pytest.raises(EngineError, match="on each of 2 x T4"):
        check_models(spec)
    check_models(spec, elsewhere=True)


def test_the_memory_of_another_machine_is_not_this_ones(mixtral: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 * GIB)
    spec = load_spec(mixtral, ["teacher.resources.gpus=0", "teacher.resources.accelerator=null"])
    check_models(spec, elsewhere=True)
    with pytest.raises(EngineError, match="this machine's memory"):
        check_models(spec)
    with pytest.raises(EngineError, match="1 x H100"):  # of a GPU it is known anywhere
        check_models(load_spec(mixtral, ["teacher.resources.gpus=1"]), elsewhere=True)


def test_a_longer_context_takes_more_memory_and_so_do_wider_numbers(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx512_bf16"})
    found = [
        make_plan(asking(job, SMALL, f"teacher.max_context={size}"), job.run).teacher["memory"]["need_gib"]
        for size in (2048, 8192)
    ]
    # 30 layers, 3 key-value heads of 64, keys and values, two bytes each.
    assert found[1] - found[0] == pytest.approx(6144 * 30 * 3 * 64 * 2 * 2 / GIB)
    monkeypatch.setattr(machine, "cpu_flags", lambda: {"avx2"})  # without bf16 the teacher computes in fp32
    wide = make_plan(asking(job, SMALL, "teacher.max_context=2048"), job.run).teacher
    assert wide["memory"]["need_gib"] == pytest.approx(2 * found[0])
    assert wide["engine_options"]["dtype"] == "float32"
    facts = replace(models.describe(SMALL), weight_bytes=10**8)  # below a byte a weight: quantised
    monkeypatch.setattr(models, "describe", lambda *_, **__: facts)
    small = make_plan(asking(job, SMALL, "teacher.max_context=2048"), job.run).teacher["memory"]["need_gib"]
    assert small == pytest.approx(10**8 / GIB + 2048 * 30 * 3 * 64 * 2 * 4 / GIB)
    monkeypatch.undo()
    monkeypatch.setattr(machine, "memory_bytes", lambda: GIB // 4)
    (problem,) = make_plan(asking(job), job.run).problems
    assert "this machine's memory: 0.2 GiB" in problem


def test_gpus_that_do_not_divide_the_heads_are_a_problem(mixtral: Path) -> None:
    spec = load_spec(mixtral, ["teacher.resources.gpus=3"])
    with pytest.raises(EngineError, match="32 attention heads cannot be divided among 3 GPUs: 1, 2, 4, 8 or 16 can"):
        check_models(spec)


def planned(spec: Path, tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(load_spec(spec, overrides), Folder(str(tmp_path / "runs")))


def test_room_for_few_rows_is_said_and_what_may_not_fit_too(mixtral: Path, tmp_path: Path) -> None:
    few = ["teacher.resources.accelerator=A100", "teacher.resources.gpus=4", "teacher.max_context=512"]
    plan = planned(mixtral, tmp_path, *few, "teacher.engine_options={gpu_memory_utilization: 0.634}")
    (note,) = (note for note in plan.notes if "rows at once" in note)
    assert plan.problems == [] and plan.teacher["memory"]["sequences"] < 64
    assert note.startswith(f"teacher.resources: the KV cache holds {plan.teacher['memory']['sequences']} rows at once")
    tight = planned(mixtral, tmp_path, "teacher.resources.accelerator=T4", "teacher.resources.gpus=8")
    assert tight.problems == []
    assert any("may not fit" in note and "max_num_batched_tokens: 2048" in note for note in tight.notes)
    assert not any("fit" in note or "rows at once" in note for note in planned(mixtral, tmp_path).notes)


@pytest.mark.parametrize(
    ("name", "gpus", "weights"),
    [
        ("financial-sentiment", "2 x H100", "weights 43.5 GiB and"),
        ("financial-sentiment-h200", "1 x H200", "weights 87.0 GiB and"),
        ("financial-sentiment-awq", "1 x A100-80G", "weights 23.0 GiB (AWQ, 4 bits) and"),
        ("financial-sentiment-24gb", "1 x L4", "weights 14.2 GiB and"),
    ],
)
def test_each_shipped_spec_for_gpus_is_fine_and_fits(
    mixtral: Path, tmp_path: Path, name: str, gpus: str, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mixtral.with_name(f"{name}.yaml")
    assert main(["validate", str(path)]) == 0
    check_models(load_spec(path))
    plan = planned(path, tmp_path)
    arithmetic = plan.teacher["memory"]["arithmetic"]
    assert weights in arithmetic and f"on each of {gpus}, " in arithmetic
    assert plan.problems == [] and plan.teacher["memory"]["sequences"] >= 64
    assert not any("resources" in note for note in plan.notes)


def test_an_engines_start_is_paid_for_and_the_times_are_of_a_gpu(mixtral: Path, tmp_path: Path) -> None:
    one, two = (
        planned(mixtral, tmp_path, f"teacher.resources.accelerator={name}").teacher for name in ("H100", "H200")
    )
    # 93 GB of weights, at 0.5 GB/s, after a minute and a half.
    assert one["start_hours"] * 3600 == pytest.approx(90 + 93.4e9 / 0.5e9, rel=0.01)
    assert one["gpu_hours"] == pytest.approx(2 * (one["hours"] + one["start_hours"]))
    assert one["usd"] == pytest.approx(8.0 * (one["hours"] + one["start_hours"]))
    assert two["hours"] < one["hours"] and "bandwidth" in one["basis"]


def test_a_context_over_the_models_own_is_one_problem(mixtral: Path, tmp_path: Path) -> None:
    said = (
        "teacher.max_context: 40000 tokens are more than mistralai/Mixtral-8x7B-Instruct-v0.1 reads (32768): "
        "set it to 32768 or less"
    )
    problems = planned(mixtral, tmp_path, "teacher.max_context=40000").problems
    assert [one for one in problems if "teacher.max_context" in one] == [said]
    assert not any("does not fit" in one for one in problems)
    with pytest.raises(EngineError) as caught:
        check_models(load_spec(mixtral, ["teacher.max_context=40000"]))
    assert str(caught.value) == said
    assert planned(mixtral, tmp_path, "teacher.max_context=32768").problems == []


def test_bf16_on_a_gpu_without_it_is_a_problem(mixtral: Path, tmp_path: Path) -> None:
    on_t4 = ["teacher.resources.accelerator=T4", "teacher.resources.gpus=8"]
    (problem,) = planned(mixtral, tmp_path, *on_t4, "teacher.engine_options={dtype: bfloat16}").problems
    assert problem.startswith("teacher.engine_options.dtype: T4 does not compute in bfloat16 (compute capability 7.5")
    assert planned(mixtral, tmp_path, *on_t4).teacher["memory"]["dtype"] == "float16"


@pytest.mark.parametrize("option", ["quantization: fp8", "enable_expert_parallel: true", "pipeline_parallel_size: 2"])
def test_options_that_change_what_lies_where_are_said_to_be_not_counted(
    mixtral: Path, tmp_path: Path, option: str
) -> None:
    plan = planned(mixtral, tmp_path, "teacher.resources.gpus=1", f"teacher.engine_options={{{option}}}")
    name = option.partition(":")[0]
    assert plan.problems == [] and plan.teacher["memory"]["arithmetic"].startswith(f"unknown: engine_options.{name}")
    said = f"teacher.resources: memory is not counted, for engine_options.{name} changes what lies where"
    assert said in plan.notes
    one = planned(mixtral, tmp_path, "teacher.engine_options={pipeline_parallel_size: 1}")
    assert one.teacher["memory"]["sequences"] == 1024


def test_a_student_that_does_not_fit_its_gpu_is_told_to_learn_in_parts(mixtral: Path, tmp_path: Path) -> None:
    large = ["student.model=FacebookAI/xlm-roberta-large", "student.max_length=512", "student.resources.workers=1"]
    (note,) = (note for note in planned(mixtral, tmp_path, *large).notes if note.startswith("student.resources"))
    assert note.endswith("and T4 has 14.6 GiB: set student.accumulate: 2, and it is computed in parts")
    assert not any("student.resources" in n for n in planned(mixtral, tmp_path, *large, "student.accumulate=2").notes)


def test_what_is_there_is_kept(job: Any) -> None:
    def cached(*overrides: str) -> list[str]:
        plan = make_plan(job.spec(*overrides), job.run)
        return [stage["name"] for stage in plan.stages if stage["cached"]]

    assert cached() == []
    job.do("vote")
    assert cached() == ["load", "label", "vote"]
    assert cached("student.epochs=2", "benchmark.rows=9", "teacher.model=other people") == ["load", "label", "vote"]
    assert cached("task.labels=[neutral, negative, positive]") == []
    job.csv("train.csv", [("Another.", "", "neutral", "neutral", "neutral")])
    assert cached() == []
    before = job.snapshot()
    make_plan(job.spec(), job.run)
    assert job.snapshot() == before


def test_answers_that_are_there_are_not_asked_for_again(job: Any) -> None:
    spec = asking(job)
    fresh = make_plan(spec, job.run).teacher
    assert (fresh["rows"], fresh["generate"], fresh["reuse"]) == (7, 7, 0)
    assert fresh["basis"] == "rough, from arithmetic"
    texts = ["Profit fell by half.", "It makes paper.", "not in the data any more"]
    answers = [{"id": row_id(text), "kind": "row", "vote": 0, "attempt": 0, "seconds": 3.0} for text in texts]
    answer_store.answers_folder(job.run, spec).write_table("a.parquet", pa.Table.from_pylist(answers, schema=ANSWERS))
    reused = make_plan(spec, job.run).teacher
    assert (reused["rows"], reused["generate"], reused["reuse"]) == (7, 5, 2)
    assert reused["basis"] == "measured on 2 earlier rows"
    assert reused["hours"] == pytest.approx((5 + CONTENT_FREE_TEXTS) * 3.0 / 3600)
    plain = make_plan(asking(job, SMALL, "teacher.calibration=none"), job.run).teacher
    assert plain["hours"] == pytest.approx(5 * 3.0 / 3600)
    assert make_plan(asking(job, SMALL, "task.instructions=Otherwise."), job.run).teacher["reuse"] == 0


def test_a_plan_counts_the_requests_that_earlier_rows_took(job: Any) -> None:
    names = [f"{verb} {noun}" for verb in ("open", "close", "move") for noun in ("card", "loan", "account")]
    job.csv("test.csv", [(f"Test {name}.", name, *[name] * 3) for name in names[:3]])
    changes = (SMALL, f"task.labels={json.dumps(names)}", "task.examples=[]", "teacher.calibration=none")
    spec, every = asking(job, *changes), asking(job, *changes, "teacher.exhaustive=true")
    fresh, whole = (make_plan(one, job.run).teacher for one in (spec, every))
    assert fresh["requests_per_row"] == 3 < fresh["requests_per_row_most"] == 4 == whole["requests_per_row"]
    assert fresh["prompt_tokens"]["read_again"] < whole["prompt_tokens"]["read_again"]
    assert "; about 3 requests a row (at most 4), one wherever" in plan_text(make_plan(spec, job.run))
    assert "; 4 requests a row, one wherever" in plan_text(make_plan(every, job.run))
    answers = [
        {"id": row_id(text), "kind": "row", "vote": 0, "attempt": 0, "seconds": 2.0, "output_tokens": took}
        | {"unasked": 0.0005 if took < 4 else 0.0}
        for text, took in (("Profit fell by half.", 1), ("Orders grew again.", 4))
    ]
    answer_store.answers_folder(job.run, spec).write_table("a.parquet", pa.Table.from_pylist(answers, schema=ANSWERS))
    measured, again = (make_plan(one, job.run).teacher for one in (spec, every))
    assert measured["requests_per_row"] == 2.5 and measured["generate"] == 5
    assert again["requests_per_row"] == 4 and again["generate"] == 6, "an answer that left branches out is asked again"
    assert again["hours"] == pytest.approx(6 * 2.0 / 3600), "and says nothing of what all branches take"


def test_recorded_answers_cost_nothing(job: Any) -> None:
    plan = make_plan(job.spec(), job.run)
    assert plan.teacher == {"engine": "recorded", "model": "three people", "rows": 7, "generate": 0}
    assert plan.rows == {"train": 4, "test": 3, "dropped": 0}
    assert "recorded answers of three people: nothing is generated" in plan_text(plan)


def test_leaks_and_duplicates_are_counted_and_said(job: Any) -> None:
    job.csv("train.csv", [(text, "", *["neutral"] * 3) for text in ("It makes paper.", "New.", "New.")])
    plan = make_plan(job.spec(), job.run)
    assert plan.rows == {"train": 1, "test": 3, "dropped": 2}
    assert "note       1 texts of train also stand in test; they were taken out of train" in plan_text(plan)


def test_epochs_are_planned_for_the_rows_that_are_left_to_learn_from(job: Any) -> None:
    job.csv("train.csv", [(f"Sentence {i} is here.", "", *["neutral"] * 3) for i in range(3000)])
    plan = make_plan(job.spec("student.validation=0.5", "student.batch_size=16"), job.run)
    assert plan.student["epochs"] == 9  # 800 steps of 16 texts over 1,500 rows


def test_more_work_takes_longer_and_costs_more(job: Any) -> None:
    def plan(*more: str) -> Plan:
        return make_plan(asking(job, "org/unknown", "benchmark.price_per_hour=0.6", *more), job.run)

    plain, double = plan("student.epochs=5"), plan("student.epochs=10", "teacher.price_per_hour=2.0")
    assert double.student["hours"] == pytest.approx(2 * plain.student["hours"])
    assert double.student["usd"] == pytest.approx(2 * plain.student["usd"])
    assert plain.teacher["usd"] is None
    assert double.teacher["usd"] == pytest.approx(2.0 * double.teacher["hours"])
    cot = ["teacher.prompt=cot", "teacher.votes=3"]
    one, three = (plan(*overrides).teacher["output_tokens_per_row"] for overrides in (cot[:1], cot))
    assert 2 * one < three < 3 * one  # votes that cannot matter are not drawn
    assert plan(*cot).teacher["hours"] > 2 * plain.teacher["hours"]
    assert plain.teacher["memory"] == {"arithmetic": "unknown: the model is not on this machine"}
    assert plain.teacher["prompt_tokens"]["counted"] == "from characters"


def test_the_plan_as_json(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(job.path), "--json", "--runs-dir", str(job.runs_dir)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == make_plan(job.spec(), Folder(str(job.run.url))).to_dict()
    assert found.keys() == {"stages", "rows", "teacher", "student", "apply", "problems", "notes", "vllm"}


def test_data_that_would_not_load_stops_the_plan(job: Any) -> None:
    job.csv("test.csv", [("A.", "neutral", *["neutral"] * 3)])
    with pytest.raises(DataError, match="have the one label"):
        make_plan(job.spec(), job.run)


@pytest.mark.slow("vllm")
@pytest.mark.parametrize("resources", ["{cpus: 2}", "{gpus: 1}", "{gpus: 1, accelerator: L4}"])
def test_a_context_that_the_model_does_not_have_is_a_problem_wherever_it_runs(job: Any, resources: str) -> None:
    spec = job.spec(
        "teacher.engine=vllm",
        "teacher.columns=[]",
        'teacher.model="catalog:smollm2-135m-instruct"',
        "teacher.max_context=9000",
        f"teacher.resources={resources}",
    )
    (problem,) = make_plan(spec, job.run).problems
    assert problem.startswith("teacher.max_context: 9000 tokens are more than") and "set it to 8192 or less" in problem
