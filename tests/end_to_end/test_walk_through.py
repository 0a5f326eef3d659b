"""A walk through the faults that were once there, each by its number and with the smallest input that showed it.

1 to 4 are about the first minutes with the product, 5 to 15 about results that were wrong without a word, 16 to 25
about promises that were broken. The detailed tests of each stand in files by their subject, and many carry the same
numbers in their names. What needs a real Ray is walked through here as far as it goes without one.
"""

from __future__ import annotations

import bz2
import datetime
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_folders import RunFolder

from runner import models
from runner.cluster import health, quiet, tune
from runner.commands import aftermath
from runner.commands import predict_files as predict
from runner.commands.cli import main
from runner.data import splits
from runner.data.reading import Source, read_rows
from runner.data.writing import form_of
from runner.economics.arithmetic import OneOff, work_out
from runner.models import folder as model_folder
from runner.observe.progress import Progress
from runner.planning.files import check_files, check_spec
from runner.planning.plan import make_plan
from runner.report.build import show
from runner.report.gather import gather
from runner.report.verdict import verdict
from runner.rundir.folder import Folder
from runner.rundir.lock import LOCK, locked
from runner.spec import load_spec
from runner.spec.prices import SHIPPED, load_prices
from runner.spec.starter import starter
from runner.stages import export, label
from runner.student import finite, fit
from runner.student.fit_config import Fit
from runner.student.held_out import split_rows
from runner.student.load import load_tokenizer
from runner.student.predict import Student
from runner.student.rows import Rows
from runner.student.save import save_student
from runner.system import signals, surroundings
from runner.system.errors import BusyError, DataError, EngineError, ModelError, SpecError, UserError, did_you_mean
from runner.tasks.single_label import learner, predictions, recorded
from runner.tasks.single_label.answers import read_label
from runner.tasks.single_label.asking import LabelAnswer
from runner.tasks.single_label.label_trie import LabelTrie
from runner.teacher import answer_store, budget_share, failures, random_texts, summary
from runner.teacher.budget import Spent, seconds_left
from runner.teacher.engines.hosts import check_host
from runner.teacher.engines.protocol import Reply, Sampling
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.prompt import Task
from runner.teacher.renderer import end_tokens
from runner.teacher.worker import QUESTIONS, Asking, Labeller

ROOT = Path(__file__).parents[2]
LABELS = ("negative", "neutral", "positive")
LIVE = ("teacher.engine=vllm", "teacher.model=org/teacher", "teacher.columns=[]")
NOOP = ("teacher.engine=noop", "teacher.columns=[]")


def python(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, where its exit status is what matters."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, errors="replace", timeout=90)


def texts(path: Path, **more: Any) -> list[str]:
    return [row.values["text"] for row in read_rows(Source(str(path), **more), ["text"])]


def problems(job: Any, *overrides: str) -> str:
    """What ``validate`` says, all of it; empty where it is content."""
    try:
        check_spec(job.path, overrides)
    except SpecError as error:
        return str(error)
    return ""


def labeller(answers: Path, **more: Any) -> Labeller:
    asking = Asking(Task(LabelAnswer(LABELS), "Label it.", ()), 1, True, Sampling(0.0, 1.0, 0, 8), 0)
    return Labeller("noop", "", asking, EngineSettings(512, 0, 0), str(answers), **more)


def asked(*rows: str) -> pa.Table:
    lines = [{"id": f"r{n}", "kind": "row", "text": text} for n, text in enumerate(rows)]
    return pa.Table.from_pylist(lines, schema=QUESTIONS)


# A: the first minutes


def test_01_the_first_student_is_the_good_one_and_few_rows_are_said(job: Any, tmp_path: Path) -> None:
    quickstart = load_spec(ROOT / "specs" / "quickstart.yaml").student
    job.path.write_text(job.path.read_text().partition("student:")[0])
    (tmp_path / "init.yaml").write_text(starter("mine"))
    for one in (quickstart, load_spec(tmp_path / "init.yaml").student, job.spec().student):
        assert (one.model, one.recipe, one.epochs) == ("catalog:all-mpnet-base-v2", "auto", None)
    few = make_plan(job.spec("student.model=catalog:all-minilm-l6-v2"), job.run)
    assert any("training texts a label are few" in note for note in few.notes)


@pytest.mark.slow("long")
@pytest.mark.usefixtures("one_thread")
def test_01_a_head_alone_learns_from_few_rows_and_plain_transformers_loads_it(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    said = [f"the {thing} was {'fine' if n % 2 else 'broken'} in {n}" for n, thing in enumerate(["box", "cup"] * 12)]
    rows = Rows(said, np.array([[0.1, 0.9] if n % 2 else [0.9, 0.1] for n in range(24)], dtype=np.float32))
    head = Fit(tiny_model, ("bad", "good"), 0, 5e-3, 8, 32, "fp32", 0, start="head")
    fit.fit(learner, head, rows, rows, tmp_path / "student")
    plain = pipeline("text-classification", model=str(tmp_path / "student"))
    assert [plain(text)[0]["label"] for text in ("the lamp was broken", "the lamp was fine")] == ["bad", "good"]


@pytest.fixture
def reported(tmp_path: Path) -> Any:
    """A run folder as the stages leave it, of a student that is wrong on each fifth row, and its teacher on none."""
    run = RunFolder(tmp_path / "run")
    run.info["spec"] |= {"data": {}, "teacher": {"model": "x"}, "student": {}}
    rows = run.predictions
    rows["teacher_label"], rows["student_label"] = list(rows["label"]), list(rows["label"])
    rows["student_label"][::5] = [LABELS[LABELS.index(one) - 1] for one in rows["label"][::5]]
    return run


@pytest.mark.parametrize("priced", [True, False])
def test_02_a_student_that_is_worse_never_pays_and_no_money_is_invented(job: Any, reported: Any, priced: bool) -> None:
    usd = {"student": 0.27, "teacher": 65.36} if priced else {"student": None, "teacher": None}
    for who, costs in usd.items():
        reported.benchmark[who] |= {"usd_per_million": costs, "price_per_hour": 0.6 if priced else None}
        reported.benchmark[f"{who}_usd"] = costs
    one_off = OneOff(0.02, 0.01, 0.0) if priced else OneOff(None, None, 0.0)
    reported.benchmark["economics"] = work_out(one_off, *usd.values(), [], load_prices(SHIPPED).apis)
    reported.write()
    said = verdict(show(gather(reported.read, reported.exists))[0])
    assert "The teacher is better, and that is statistically significant" in said
    assert ("USD" in said) is priced
    assert not re.search("pays|earns back|breaks even", said)
    spec = job.spec()
    assert (spec.benchmark.price_per_hour, spec.teacher.price_per_hour) == (None, None)
    assert make_plan(spec, job.run).student["usd"] is None


def test_03_rows_and_the_engines_start_are_told_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.teacher.live.TELL_SECONDS", 0.0)
    told: list[dict[str, Any]] = []
    one = labeller(tmp_path, tell=told.append)
    assert [note["step"] for note in told] == ["warm-up", "warm-up"] and told[1]["seconds"] >= 0
    one(asked("Sales rose.", "Sales fell."))
    assert [note.get("rows") for note in told[2:]] == [1, 2]


def test_03_no_rate_of_nothing_and_no_line_of_rays(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runner.observe.progress.EVERY_SECONDS", {"plain": 0.0})
    said = io.StringIO()
    progress = Progress(said, "plain")
    progress.begin("label", 900)
    progress.at(0)
    assert said.getvalue() == "label: 0/900 rows\n"
    with quiet.without_rays_lines():
        os.write(2, b"[2026-01-01 10:00:00,000 I 7 7] logging.cc:303: Set ray log level from environment\nours\n")
    assert capfd.readouterr().err == "ours\n"


def test_04_the_losses_have_the_width_of_the_page_and_a_busy_machine_is_said(reported: Any) -> None:
    reported.benchmark["student"]["latency_ms"] = {"p50": 10.0, "p95": 344.0, "p99": 400.0}
    reported.write()
    page = show(gather(reported.read, reported.exists))[1]
    before = page[: page.index('aria-label="Training by epoch"')]
    section = before[before.rindex("<h2") : before.rindex("<div")]
    assert section.count("<div") == section.count("</div>"), "it stands beside nothing"
    assert before[before.rindex("<div") :].startswith('<div class="card scroll'), "and where it is too wide, it moves"
    assert "The machine was busy while speed was measured: one text in twenty took 34 times" in page


# B: wrong without a word


GERMAN, FRENCH, CHINESE, ROOMS = ("positiv", "negativ"), ("positif", "négatif"), ("正面", "负面"), ("HR", "Finance")
DENIED = (
    *(("nicht positiv", GERMAN), ("inte positiv", GERMAN), ("kein Spam", ("Spam", "Ham")), ("pas positif", FRENCH)),
    *(("niet positief", ("positief", "negatief")), ("zero toxic content", ("toxic", "fine")), ("没有正面", CHINESE)),
    *((said, LABELS) for said in ("far from positive", "isnt positive", "lacks positive news", "hardly positive")),
    *((said, LABELS) for said in ("Label: anything but positive", "positive: false")),
)
MEANT = (("正面。", CHINESE, "正面"), ("标签：正面", CHINESE, "正面"), ("Label: 3", ("1", "2", "3"), "3"))  # noqa: RUF001


@pytest.mark.parametrize(("cell", "known"), DENIED)
def test_05_what_is_denied_is_no_label(cell: str, known: tuple[str, ...]) -> None:
    assert recorded.label_of(cell, known) is None
    assert read_label(cell, known) is None


@pytest.mark.parametrize(("answer", "known", "meant"), [*MEANT, ("The label is Finance.", ROOMS, "Finance")])
def test_05_no_answer_is_lost(answer: str, known: tuple[str, ...], meant: str) -> None:
    assert read_label(answer, known) == meant
    assert recorded.label_of("The label is Finance.", known) is None, "in a recorded cell it is prose"


def test_06_foreign_types_are_text_or_refused_before_a_row_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array(["schön".encode(), None], pa.binary())}), path)
    assert texts(path) == ["schön", ""]
    (tmp_path / "a.jsonl").write_text('{"text": NaN}\n')
    assert texts(tmp_path / "a.jsonl") == [""]
    for cell, kind in ((datetime.datetime(2024, 5, 1), "timestamp"), (["a"], "list<")):
        pq.write_table(pa.table({"text": [cell]}), path)
        with pytest.raises(DataError, match=rf"a.parquet: column 'text' holds values of type {kind}"):
            next(read_rows(Source(str(path)), ["text"]))


def test_07_labels_that_look_alike_are_one(job: Any) -> None:
    composed, apart = (unicodedata.normalize(form, "négatif") for form in ("NFC", "NFD"))
    task = ["task.labels=[négatif, positif]", "task.examples=[{text: Bof., label: négatif}]", "teacher.columns=[anna]"]
    task.append("evaluate.compare={them: {path: test.csv, label: anna}}")
    job.csv("train.csv", [("Pas bon.", "", apart), ("Bon.", "", "Positif ")], ("text", "label", "anna"))
    job.csv("test.csv", [("Bien.", "positif", "positif"), ("Mal.", apart, apart)], ("text", "label", "anna"))
    assert problems(job, *task) == ""
    votes = job.do("vote", *task).read_table("votes.parquet").to_pylist()
    assert {row["text"]: row["label"] for row in votes} == {
        "Pas bon.": composed,
        "Bon.": "positif",
        "Bien.": "positif",
        "Mal.": composed,
    }
    assert read_label(apart, (composed, "positif")) == composed
    assert "ne\\u0301gatif" in did_you_mean(composed, [apart])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("cells", "known"), [(["good ", "bad"], "good, bad"), ([True, False], "'true', 'false'")])
def test_07_what_one_format_takes_the_others_take(job: Any, kind: str, cells: list[Any], known: str) -> None:
    rows = [{"text": f"Text {n}.", "label": cell, "anna": cell} for n, cell in enumerate(cells)]
    path = job.root / f"test.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        job.csv("test.csv", [tuple(row.values()) for row in rows], ("text", "label", "anna"))
    job.csv("train.csv", [("Other.", str(cells[0]))], ("text", "anna"))
    task = [f"task.labels=[{known}]", "task.examples=[]", "teacher.columns=[anna]", f"data.test.path=test.{kind}"]
    assert problems(job, *task) == ""
    spec = job.spec(*task)
    assert [row["label"] for row in splits.read_splits(spec)[1].rows.values()] == list(spec.task.labels)


CLASSES = ((["bad", "good"], "good, bad"), (["1", "0"], "'0', '1'"), (None, "'0', '1'"))


@pytest.mark.parametrize(("names", "known"), CLASSES)
@pytest.mark.parametrize("kind", [int, float])
def test_08_a_class_is_its_name(job: Any, names: list[str] | None, known: str, kind: Any) -> None:
    table = pa.table({"text": ["A.", "B."], "label": [kind(0), kind(1)], "anna": [kind(0), kind(1)]})
    features = {name: {"names": names, "_type": "ClassLabel"} for name in ("label", "anna")} if names else {}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), job.root / "test.parquet")
    job.csv("train.csv", [("C.", "0" if "0" in known else "bad")], ("text", "anna"))
    task = [f"task.labels=[{known}]", "task.examples=[]", "teacher.columns=[anna]", "data.test.path=test.parquet"]
    assert problems(job, *task) == ""
    test = splits.read_splits(job.spec(*task))[1]
    assert [row["label"] for row in test.rows.values()] == (names or ["0", "1"])


def test_08_what_is_no_label_is_listed_with_the_values_of_its_column(job: Any) -> None:
    job.csv("train.csv", [("A.", "", "5.0"), ("B.", "", "1.0")], ("text", "label", "anna"))
    job.csv("test.csv", [("C.", "neutral", "5.0"), ("D.", "positive", "1.0")], ("text", "label", "anna"))
    said = "column anna holds '5.0' (2), '1.0' (2); task.labels are negative, neutral, positive"
    assert said in problems(job, "teacher.columns=[anna]")


@pytest.mark.usefixtures("one_thread")
def test_09_a_student_that_is_not_finite_falls_back_or_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    model = learner.fresh(tiny_model, ("bad", "good"))
    layers = model.base_model
    with torch.no_grad():  # too large for fp16, and multiplied with nothing
        layers.embeddings.LayerNorm.weight[0] = layers.embeddings.LayerNorm.bias[0] = 0
        layers.encoder.layer[0].attention.self.query.weight[:, 0] = 7e4
    save_student(model, load_tokenizer(tiny_model), tmp_path / "half", 32)
    found = Student.load(learner, tmp_path / "half", precision="fp16")
    assert found.precision == "fp32" and finite.NOT_FINITE in str(found.fell_back)
    assert np.isfinite(found.predict(["Sales rose."])).all()
    with torch.no_grad():
        model.classifier.bias[0] = math.nan
    save_student(model, load_tokenizer(tiny_model), tmp_path / "never", 32)
    with pytest.raises(ModelError, match="its weights are damaged"):
        Student.load(learner, tmp_path / "never")
    assert predictions.values(["bad", "good"], np.array([[np.nan, np.nan], [0.1, 0.9]])) == [None, "good"]


def test_09_a_row_that_the_teacher_cannot_compute_fails_with_its_reason(tmp_path: Path) -> None:
    one = labeller(tmp_path)
    submit = one._engine.submit

    def broken(prompt: Any, request: Any, deliver: Any) -> None:
        nan = Reply(tokens=1, logprobs=dict.fromkeys(request.tokens, math.nan))
        submit(prompt, request, (lambda _: deliver(nan)) if len(prompt) % 2 else deliver)

    one._engine.submit = broken  # type: ignore[method-assign]
    errors = one(asked("a", "a b"))["error"].to_pylist()
    assert sorted(error is None for error in errors) == [False, True]
    assert next(filter(None, errors)).startswith("not finite")
    assert len(answer_store.read_answers(Folder(str(tmp_path)))) == 1, "and nothing of it reaches the vote"


PRAISE = ("这家酒店非常干净服务也好", "とても美味しいレストランでした")


def test_10_calibration_texts_of_scripts_without_blanks_say_nothing() -> None:
    from transformers import PreTrainedTokenizerFast

    where = models.ensure("catalog:smollm2-135m-instruct")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(where, local_files_only=True)
    found = random_texts.content_free_texts(PRAISE, lambda words: random_texts.tokens(tokenizer, words))
    assert len(found) > 20 and not any(sentence in text for sentence in PRAISE for text in found)


def test_10_a_student_that_cannot_read_the_texts_is_warned_of(job: Any, tiny_model: Path) -> None:
    job.csv("train.csv", [(text, "", *["positive"] * 3) for text in PRAISE])
    notes = make_plan(job.spec(f"student.model={tiny_model}"), job.run).notes
    (said,) = [note for note in notes if "% of the tokens" in note]
    assert "Take a multilingual student" in said


def test_11_a_label_that_begins_another_has_all_ends_of_a_turn(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 106]}')  # as Gemma's
    tokenizer = type("Gemma", (), {"eos_token_id": 1, "chat_template": None, "added_tokens_decoder": {106: ""}})()
    ends = end_tokens(tokenizer, model_folder.end_tokens(tmp_path))
    assert ends == [1, 106]
    trie = LabelTrie.build([[7], [7, 8]], *ends)  # "neutral", "neutral to positive"
    shares = trie.probabilities({(7,): {8: math.log(0.1), 1: math.log(0.01), 106: math.log(0.89)}})
    assert shares == pytest.approx([0.9, 0.1])


def test_12_a_limit_takes_rows_of_every_class_of_a_sorted_file(job: Any) -> None:
    rows = [(f"Text {n}.", "", *[LABELS[n // 100]] * 3) for n in range(300)]

    def taken(given: list[tuple[str, ...]]) -> dict[str, str]:
        job.csv("train.csv", given)
        found = splits.read_splits(job.spec("data.train.limit=30"))[0].rows.values()
        return {row["text"]: row["votes"][0] for row in found}

    first = taken(rows)
    assert len(first) == 30 and set(first.values()) == set(LABELS)
    assert taken(rows[::-1]) == first
    assert len(taken([*rows, ("One more.", "", *["neutral"] * 3)]).keys() & first.keys()) >= 29


def test_13_the_parts_of_two_runtimes_are_not_mixed(tmp_path: Path) -> None:
    run = Folder(str(tmp_path / "run"))
    run.write_json("train/t/student/config.json", {"id2label": {"0": "a", "1": "b"}})
    resources = {"cpus": None, "gpus": 0, "accelerator": None}
    settings = {"max_length": 128, "precision": "auto", "resources": resources}
    stages = [{"name": name, "fingerprint": name[0]} for name in ("train", "export")]
    run.write_json("run.json", {"spec": {"student": settings}, "stages": stages})
    wish, out = predict.PredictOptions(run.url, ("in.csv",), str(tmp_path / "out")), Folder(str(tmp_path / "out"))

    def look(runtime: str) -> dict[str, Any]:
        run.write_json("export/e/export.json", {"runtime": runtime})
        job = predict._job(predict.find_student(wish)[1], wish)
        predict._check_place(out, job, wish, None)
        return job

    out.write_json(predict.JOB, look("onnx"))
    look("torch")  # nothing was written yet, so nothing is claimed
    out.write("part-0.parquet", b"")
    look("onnx")
    with pytest.raises(UserError, match="holds the output of a job with other student"):
        look("torch")


def test_13_a_name_of_a_file_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = {"o.tsv": "tsv", "o.json": "json", "o.csv.gz": "csv", "o": None, "o.csv/": None}
    assert {name: form_of(name) for name in forms} == forms
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"id2label": {"0": "a", "1": "b"}}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    (tmp_path / "in.csv").write_text("text\nx\n")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "model", "in.csv", "-o", "o.xlsx"]) == 1
    assert "no .xlsx file can be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "model"]


def test_14_a_runtime_by_name_has_a_gate_and_test_rows_choose_nothing() -> None:
    def one(runtime: str, held_out: float, test: float, rate: float) -> dict[str, Any]:
        judged = {"rows": 50, "agreement": held_out, "teacher_agreement": held_out}
        figures = {"accuracy": test, "agreement": test, "texts_per_second": rate, "recomputed": 0}
        return {"runtime": runtime, "judged": judged} | figures

    spoilt = [one("torch", 1.0, 1.0, 1.0), one("onnx-int8", 0.8, 1.0, 9.0)]
    with pytest.raises(UserError, match="onnx-int8 gives another label than the student itself on 10 of 50 train rows"):
        export.choose(spoilt, "onnx-int8", 0.02)
    assert export.choose(spoilt, "auto", 0.02) == "torch"
    assert export.choose([spoilt[0], one("onnx", 1.0, 0.5, 9.0)], "auto", 0.02) == "onnx"
    (said,) = export._given_up(spoilt, "onnx-int8", "onnx-int8", 50)
    assert "gives the teacher's label on 20.0 % fewer of the 50 train rows" in said


def test_15_votes_that_are_missing_count_and_are_said(job: Any) -> None:
    job.csv("train.csv", [(f"Text {n}.", "", *["" if n % 3 == 2 else LABELS[n % 2]] * 3) for n in range(30)])
    said = "10 of 33 rows (30.3 %) have no usable vote"
    assert said in problems(job)
    with pytest.raises(DataError, match=re.escape(said)):
        job.do("vote")
    job.do("vote", "teacher.max_failure_rate=0.5")
    assert f"vote: warning: {said}" in job.said.getvalue()


def test_15_a_class_of_two_keeps_one_and_a_handful_keeps_all() -> None:
    classes = ["common"] * 30 + ["rare"] * 2
    for seed in range(20):
        assert "rare" in {classes[row] for row in split_rows(classes, 0.5, seed)[1]}
    assert split_rows(["good", "bad"], 0.1, 0) == ([], [0, 1])


# C: promises


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_16_a_signal_ends_a_run_with_its_status_and_a_line(tmp_path: Path, number: int, status: int) -> None:
    os.mkfifo(tmp_path / "spec.yaml")
    with (
        subprocess.Popen(
            [sys.executable, "-m", "runner", "run", "spec.yaml"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as run,
        open(tmp_path / "spec.yaml", "wb"),
    ):  # opens when it is read, and then it waits for us
        run.send_signal(number)
        said = run.communicate(timeout=60)[1]
    assert said == "tutelage: stopped; what was finished is kept, the same command goes on from there\n"
    assert run.returncode == status


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("name", ["numpy", "pandas", "pyarrow"])
def test_17_a_file_of_the_user_is_no_module_of_ours(job: Any, name: str) -> None:
    (job.root / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    done = python("-m", "runner", "plan", "spec.yaml", cwd=job.root)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    code = "import runner.system.surroundings as s, sys, os; s.clean_path();"
    code += " print(os.getcwd() in sys.path, s.own_folder())"
    assert python("-c", code, cwd=job.root).stdout == "False []\n", "what workers are given"


def test_17_a_ray_that_dies_leaves_a_line_and_an_event(tmp_path: Path) -> None:
    now = time.monotonic()
    facts = {"run": str(tmp_path), "run_at": now, "stage": "train", "stage_at": now, "fingerprint": "f"}
    assert "Ray died under the run" in str(aftermath.problem(facts, 1))
    assert "the same command goes on from there" in str(aftermath.problem(facts, 1))
    aftermath.record(facts, 1)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(one["event"], one["stage"], one["error"], one["code"]) for one in events] == [
        ("stage_failed", "train", "RayDied", "cluster.ray-died"),
        ("run_failed", None, "RayDied", "cluster.ray-died"),
    ]
    (tmp_path / "worker-1.err").write_text("Traceback\nImportError: cannot import name 'ndarray'\n")
    assert health._last_words(tmp_path).startswith("ImportError: cannot import name 'ndarray'")


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_18_a_terminal_of_few_letters_is_no_bug(job: Any, encoding: str) -> None:
    os.rename(job.root / "train.csv", job.root / "~na\u00efve \u2013 \u6b63.csv")
    os.rename(job.path, job.root / "~\u2013.yaml")
    words = ["-m", "runner", "validate", "~\u2013.yaml", "--set", "data.train.path=~na\u00efve \u2013 \u6b63.csv"]
    done = python(*words, cwd=job.root, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, "~\\u2013.yaml: OK\n", "")


def test_18_home_is_the_users_and_what_vanishes_is_gone(
    job: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    os.rename(job.root / "train.csv", home / "train.csv")
    monkeypatch.setenv("HOME", str(home))
    assert problems(job, "data.train.path=~/train.csv") == ""
    assert "~nobody-here/x.csv'" in problems(job, "data.train.path=~nobody-here/x.csv")
    monkeypatch.setattr(Folder, "exists", lambda *_: True)  # as it was a moment before the lock went
    with locked(Folder(f"memory://{uuid.uuid4().hex}")):
        pass
    assert surroundings.fault(OSError(28, "No space left on device")).startswith("the disk is full")


def test_19_the_budget_is_the_runs_and_not_each_teachers(job: Any) -> None:
    also = (*LIVE, "teacher.also=[{model: org/two}, {model: org/three}]", "teacher.budget.hours=1")
    spec = job.spec(*also)
    job.do("load", *also)
    context = job.context("label", spec)
    rows = label.loaded_rows(context.inputs["load"])
    assert budget_share.seconds_for(context, rows, spec, 0) == 1200
    answer_store.answers_folder(job.run, spec).write_json("spent.json", {"seconds": 3600.0, "replica_seconds": 3600.0})
    assert [budget_share.seconds_for(context, rows, spec, number) for number in range(3)] == [0, 0, 0]
    assert make_plan(spec, job.run).teacher["budget"] == {"hours": 1.0, "left_hours": 0.0}
    assert seconds_left(spec.teacher, Spent(600.0, 600.0)) == 3000


def test_19_replicas_share_the_hours(job: Any) -> None:
    job.csv("train.csv", [(f"Sentence {n}.", "", *["neutral"] * 3) for n in range(400)])
    one, four = (
        make_plan(job.spec(*LIVE, "teacher.batch_size=16", f"teacher.resources.replicas={count}"), job.run).teacher
        for count in (1, 4)
    )
    assert four["hours"] == pytest.approx(one["hours"] / 4)


def test_20_who_lost_the_folder_leaves_the_others_lock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.rundir.lock.STALE_LOCK_SECONDS", 0.8)
    run, other = Folder(f"memory://{uuid.uuid4().hex}/run"), {"id": "x", "owner": "another machine", "beat": 0.0}
    lost = pytest.raises(BusyError, match=r"another took the folder over \(another machine\)")
    with signals.listening(), lost, locked(run):
        run.write_json(LOCK, other)
        time.sleep(30)  # and is stopped in it
    assert run.read_json(LOCK) == other


DAMAGE = {
    "stray quotes": ("csv", 'text,anna,ben,carl\n"a" b,neutral,,\n'),
    "a ragged row": ("csv", "text,anna,ben,carl\na,neutral\n"),
    "a stray CR": ("csv", "text,anna,ben,carl\na\rb,neutral,,\n"),
    "the column twice": ("csv", "text,text,anna,ben,carl\na,b,neutral,,\n"),
    "a line without the column": ("jsonl", '{"anna": "neutral", "ben": "", "carl": ""}\n'),
}


@pytest.mark.parametrize(("kind", "content"), DAMAGE.values(), ids=DAMAGE)
def test_21_validate_refuses_what_run_refuses(job: Any, kind: str, content: str) -> None:
    (job.root / f"train.{kind}").write_text(content)
    assert f"train.{kind}" in problems(job, f"data.train.path=train.{kind}")
    with pytest.raises(DataError):
        splits.read_splits(job.spec(f"data.train.path=train.{kind}"))


def test_21_run_takes_what_validate_takes(job: Any) -> None:
    (job.root / "train-0.csv").write_text("")
    rows = [("Up.", "1", "2", *["positive"] * 3), ("Down.", "1", "2", *["negative"] * 3)]
    job.csv("train-1.csv", rows, ("text", "note", "note", "anna", "ben", "carl"))
    assert problems(job, "data.train.path=train-*.csv") == ""
    train, _, warnings = splits.read_splits(job.spec("data.train.path=train-*.csv"))
    assert len(train.rows) == 2 and any("train-0.csv" in said for said in warnings)
    column = pa.array(["a"])
    pq.write_table(pa.Table.from_arrays([column] * 5, ["text", "text", "anna", "ben", "carl"]), job.root / "t.parquet")
    assert "the column 'text' is there twice" in problems(job, "data.train.path=t.parquet")


def test_21_one_validate_names_all(job: Any) -> None:
    (job.root / "train.csv").write_text("text,anna,ben,carl\na\n")
    found = problems(job, "student.epochs=many", "teacher.modle=x")
    assert all(said in found for said in ("student.epochs", "modle", "train.csv:2: the row has 1 fields"))


TEXT, SEMICOLONS = "text\nschön\n", "text;n\nschön;1\n"
HAVE = (
    ("a.csv", SEMICOLONS.encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
    *(("a.csv", f"sep=;\n{SEMICOLONS}".encode(), {}), ("a.tsv", SEMICOLONS.replace(";", "\t").encode(), {})),
    *(("a.csv", TEXT.encode("utf-16"), {}), ("a.json", '[{"text": "schön"}]'.encode(), {}), ("a.xlsx", None, {})),
    *(
        ("a.csv.bz2", bz2.compress(TEXT.encode()), {}),
        ("a.csv.zst", pa.compress(TEXT.encode(), "zstd", asbytes=True), {}),
    ),
)


@pytest.mark.parametrize(("name", "raw", "more"), HAVE)
def test_22_what_users_have_is_read(tmp_path: Path, name: str, raw: bytes | None, more: dict[str, str]) -> None:
    if raw is None:
        import openpyxl

        book = openpyxl.Workbook()
        for cell in ("text", "schön"):
            book.active.append([cell])
        book.save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(raw)
    assert texts(tmp_path / name, **more) == ["schön"]


POINTER = b"version https://git-lfs.github.com/spec/v1\n"
ELSE = (
    ("a.csv", "text\nit\u2019s\n".encode("cp1252"), "a.csv:2: .*encoding: cp1252 reads 'it\u2019s'"),
    *(
        ("a.csv", "text\nx\n".encode("utf-16-le"), "UTF-16 without its mark"),
        ("a.csv", b"\x89PNG\r\n\0", "no text at all"),
    ),
    ("a.csv", b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "a workbook of Excel"),
    ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a workbook in Excel's old format"),
    *((name, POINTER, "git lfs pull") for name in ("a.csv", "a.csv.gz", "a.parquet")),
)


@pytest.mark.parametrize(("name", "raw", "said"), ELSE)
def test_22_advice_is_by_the_first_bytes(tmp_path: Path, name: str, raw: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=said) as caught:
        texts(tmp_path / name)
    assert "latin1" not in str(caught.value)


@pytest.mark.parametrize("allow_external", [False, True])
@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "169.254.1.1", "metadata.google.internal"])
def test_23_link_local_and_metadata_are_never_inside(host: str, allow_external: bool) -> None:
    with pytest.raises(UserError, match="link-local address or a cloud's metadata service"):
        check_host(f"http://{host}/v1", allow_external)


def test_23_a_name_is_judged_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, inside in (("10.0.0.7", True), ("8.8.8.8", False), ("169.254.169.254", False)):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, to=address, **__: [(0, 0, 0, "", (to, 0))])
        if inside:
            check_host("http://llm.corp.internal/v1", allow_external=False)
        else:
            with pytest.raises(UserError):
                check_host("http://llm.corp.internal/v1", allow_external=False)


def test_23_a_servers_teacher_needs_no_weights_and_a_search_no_pickle(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    assert models.ensure(str(tmp_path), weights=False) == tmp_path
    with pytest.raises(ModelError):
        models.ensure(str(tmp_path))
    storage, settings = Folder(str(tmp_path / "search")), [{"rate": 0.1}, {"rate": 0.2}]
    tune.Trials(storage, settings).keep(1, {"agreement": 0.9})
    assert storage.read_json(tune.TRIALS) == [{"settings": {"rate": 0.2}, "agreement": 0.9}]
    assert list(tune.Trials(storage, settings).results) == [1]


@pytest.mark.slow("subprocess")
def test_23_a_name_on_the_hub_is_no_folder_here(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "train.csv").write_text("text\nmine\n")
    code = "from runner.data.reading import *; print(list(read_rows(Source('owner/name', 'hub'), ['text'])))"
    done = python("-c", code, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.stdout == "" and "data set owner/name (split train) cannot be had from the Hub" in done.stderr


def test_24_a_stale_address_is_named_after_its_variable(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["run", str(job.path), "--runs-dir", str(job.runs_dir)]) == 1
    said = capsys.readouterr().err
    assert "unset RAY_ADDRESS" in said and "leave --address out" not in said


def test_24_no_row_may_fail_where_none_may_and_calibration_texts_are_none(job: Any) -> None:
    with pytest.raises(EngineError, match="1 of the first 100 rows failed"):
        failures.check_failures({"a": "too long"}, 100, 100, 0.0)
    context = job.context("label", job.spec(*NOOP))
    lines = [{"id": "r1", "split": "train"}, {"id": "cf-1", "split": ""}]
    context.here.write_table("failures.parquet", pa.Table.from_pylist(lines, schema=failures.FAILURES))
    assert summary.lost_rows(context.here) == {"r1"}
    corpus = [f"Company {n} sold its unit {n % 7} in May" for n in range(60)]
    assert random_texts.content_free_texts(corpus, seed=0) != random_texts.content_free_texts(corpus, seed=1)
    assert label.key(job.spec(*NOOP, "teacher.seed=1")) != label.key(job.spec(*NOOP, "teacher.seed=2"))


def test_24_lines_of_two_threads_are_whole(tmp_path: Path) -> None:
    progress = Progress(io.StringIO(), "json")
    with progress.recorded(Folder(str(tmp_path)), "run"):
        threads = [
            threading.Thread(target=lambda: [progress.warn(["x" * 400], "train") for _ in range(200)]) for _ in "ab"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "warning" for line in lines) == 400


@pytest.mark.slow("subprocess")
def test_24_a_lost_row_is_an_error_under_python_o_too(job: Any) -> None:
    code = (
        "import sys; from runner.spec import load_spec; from runner.data import splits; read = splits.read_split\n"
        "def lossy(*given):\n    split = read(*given); split.rows.popitem(); return split\n"
        "splits.read_split = lossy; splits.read_splits(load_spec(sys.argv[1]))\n"
    )
    done = python("-O", "-c", code, str(job.path), cwd=job.root)
    assert "RuntimeError: a row of data.train was lost" in done.stderr


def test_25_a_thousand_labels_are_a_task(job: Any) -> None:
    many = [f"intent {number}" for number in range(1000)]
    job.csv("train.csv", [(f"Train {name}.", "", *[name] * 3) for name in many[:60]])
    job.csv("test.csv", [(f"Test {name}.", name, *[name] * 3) for name in many[:60]])
    task = [f"task.labels={json.dumps(many)}", "task.examples=[]"]
    check_files(job.spec(*task))
    votes = job.do("vote", *task).read_table("votes.parquet").to_pylist()
    assert {row["label"] for row in votes} == set(many[:60])
    with pytest.raises(SpecError, match="must have at most 1000 items, found 1001"):
        job.spec(f"task.labels={json.dumps([*many, 'one more'])}")


def test_25_a_plan_counts_the_requests_of_a_row(job: Any) -> None:
    def plan(names: str) -> dict[str, Any]:
        job.csv("test.csv", [(f"Test {name}.", name, *[name] * 3) for name in names.split(", ")])
        return make_plan(job.spec(*NOOP, "task.examples=[]", f"task.labels=[{names}]"), job.run).teacher

    assert plan("pin, bill, fraud")["requests_per_row"] == 1
    assert plan("card lost, card stolen, transfer late, transfer failed")["requests_per_row"] == 3
