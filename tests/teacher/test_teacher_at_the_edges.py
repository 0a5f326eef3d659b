"""The teacher: what it is asked, what its answers count for, and what is shown and planned meanwhile."""

from __future__ import annotations

import io
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner import models
from runner.models import folder
from runner.observe.progress import Progress
from runner.planning.plan import make_plan
from runner.planning.text import plan_text
from runner.rundir.folder import Folder
from runner.stages import label, pipeline
from runner.system.errors import EngineError
from runner.tasks.single_label.asking import LabelAnswer
from runner.tasks.single_label.distribution import Distribution
from runner.tasks.single_label.label_trie import MOST_CHOICES, LabelTrie
from runner.teacher import answer_store, content_free, random_texts, request
from runner.teacher import failures as failures_module
from runner.teacher import summary as summary_module
from runner.teacher.batch import ANSWERS
from runner.teacher.engines.endpoint_requests import reply_of
from runner.teacher.engines.protocol import Reply, Sample, Sampling, ScoreTokens
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.live import Finished, Live, Start
from runner.teacher.prompt import Task
from runner.teacher.protocol import NotFiniteError
from runner.teacher.random_texts import content_free_texts
from runner.teacher.renderer import end_tokens
from runner.teacher.worker import QUESTIONS, Asking, Labeller

TEACHER_LABELS = ("negative", "neutral", "positive")
TEACHER_NOOP = ("teacher.engine=noop", "teacher.columns=[]")
CHINESE = ["这家酒店非常干净、服务也好。", "屏幕很清楚、电池耐用。", "味道很好、下次还来。"]


def teacher_labeller(
    folder: Path, labels: tuple[str, ...] = TEACHER_LABELS, context: int = 512, **more: Any
) -> Labeller:
    asking = Asking(Task(LabelAnswer(labels), "Label it.", ()), 1, True, Sampling(0.0, 1.0, 0, 8), 0)
    return Labeller("noop", "", asking, EngineSettings(context, 0, 0), str(folder), **more)


def teacher_batch(*texts: str, kind: str = "row") -> pa.Table:
    lines = [{"id": f"r{n}", "kind": kind, "text": text} for n, text in enumerate(texts)]
    return pa.Table.from_pylist(lines, schema=QUESTIONS)


def teacher_answers(job: Any, shares: dict[str, list[float]], *overrides: str) -> Folder:
    """The job with an engine without a model, of which these answers (by text or by kind) are stored."""
    job.do("load", *TEACHER_NOOP, *overrides)
    context = job.context("label", job.spec(*TEACHER_NOOP, *overrides))
    rows = label.loaded_rows(context.inputs["load"])
    asked = pa.concat_tables([rows, content_free.content_free_rows(context, rows)]).to_pylist()
    lines = [
        {"id": row["id"], "kind": row["kind"], "vote": 0, "attempt": 0, "seconds": 1.0}
        | {"label_probabilities": shares.get(row["text"], shares.get(row["kind"]))}
        for row in asked
    ]
    store = answer_store.answers_folder(context.run, context.spec)
    store.write_table("a.parquet", pa.Table.from_pylist(lines, schema=ANSWERS))
    return store


# 3: what is shown


def test_03_rows_are_shown_before_their_batch_is_there() -> None:
    said = io.StringIO()
    progress = Progress(said, "json")
    progress.begin("label", 10)
    live = Live(progress, "label")
    finished = Finished(lambda note: live.heard([note]), "r0")
    finished._told -= 1
    finished.add()
    assert progress._done == 1
    live.heard([{"batch": "r0", "rows": 3}, {"batch": "r5", "rows": 2}])
    assert progress._done == 5
    live.arrived(["r0", "r1", "r2", "r3", "r4"], 5)
    assert progress._done == 7
    live.heard([{"batch": "r0", "rows": 4}])  # late: the batch is there already
    live.heard([{"batch": "r5", "rows": 1}])  # begun anew after its worker died
    assert progress._done == 7
    live.arrived(["r5", "r6", "r7", "r8", "r9"], 5)
    assert progress._done == 10


def test_03_a_worker_tells_of_its_start_and_of_rows_as_they_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.teacher.live.TELL_SECONDS", 0.0)
    notes: list[dict[str, Any]] = []
    one = teacher_labeller(tmp_path, tell=notes.append)
    assert [(note["step"], note["seconds"] is None) for note in notes] == [("warm-up", True), ("warm-up", False)]
    notes.clear()
    one(teacher_batch("Sales rose.", "word " * 5000, "Sales fell."))
    assert notes == [{"batch": "r0", "rows": 1}, {"batch": "r0", "rows": 2}]
    notes.clear()
    one(teacher_batch("Random words.", kind="content-free"))
    assert notes == [], "calibration texts are no rows"


def test_03_the_start_of_an_engine_is_shown_with_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.teacher.live.SHORT", 0.0)
    said = {mode: io.StringIO() for mode in ("terminal", "plain", "json", "quiet")}
    for mode, stream in said.items():
        progress = Progress(stream, mode)  # type: ignore[arg-type]
        progress.begin("label", 10)
        live = Live(progress, "label")
        start = Start(lambda note, live=live: live.heard([note]))  # type: ignore[misc]
        start.fetching("asking the Hub for it")
        start.fetching("dequantising to bf16")
        start.begin("load")
        start.end()
    assert re.fullmatch(
        r"label: model fetched in \d\.\d s\nlabel: model unpacked in \d\.\d s\nlabel: model loaded in \d\.\d s\n",
        said["plain"].getvalue(),
    )
    assert "label: loading the model, 0:00" in said["terminal"].getvalue()
    events = [json.loads(line) for line in said["json"].getvalue().splitlines()]
    told = [(one["step"], one["seconds"] is None) for one in events if one["event"] == "engine_step"]
    assert told == [(step, begun) for step in ("fetch", "unpack", "load") for begun in (True, False)]
    assert {one["replica"] for one in events if one["event"] == "engine_step"} == {1}
    assert said["quiet"].getvalue() == ""


def test_03_a_rate_that_is_not_known_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.observe.progress.EVERY_SECONDS", {"plain": 0.0, "json": 0.0})
    plain, machine = io.StringIO(), io.StringIO()
    for progress in (Progress(plain, "plain"), Progress(machine, "json")):
        progress.begin("label", 900)
        progress.at(0)
        progress.at(64)
        progress._start -= 600.0
        progress.at(65)
        progress.at(124)
    lines = plain.getvalue().splitlines()
    assert lines[:2] == ["label: 0/900 rows", "label: 64/900 rows"]
    assert lines[2].startswith("label: 65/900 rows, 6.0/h, ")
    assert lines[3].startswith("label: 124/900 rows, 6.0/min, ")
    rates = [json.loads(line)["per_second"] for line in machine.getvalue().splitlines()]
    assert rates == [None, None, pytest.approx(1 / 600, rel=0.01), pytest.approx(0.1, rel=0.01)]


# 9: not-finite numbers


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_09_a_row_of_which_the_teacher_computes_no_number_fails_with_its_reason(tmp_path: Path, value: float) -> None:
    one = teacher_labeller(tmp_path)
    submit = one._engine.submit

    def broken(prompt: Any, request: Any, deliver: Any) -> None:
        bad = Reply(tokens=1, logprobs={token: value for token in request.tokens})
        submit(prompt, request, (lambda _: deliver(bad)) if len(prompt) % 2 else deliver)

    one._engine.submit = broken  # type: ignore[method-assign]
    errors = one(teacher_batch("a", "a b", "a b c", "a b c d"))["error"].to_pylist()
    assert sum(error is None for error in errors) == 2
    assert all(error.startswith("not finite: ") for error in errors if error)
    assert len(answer_store.read_answers(Folder(str(tmp_path)))) == 2


def test_09_no_label_is_made_of_nothing() -> None:
    trie = LabelTrie.build([[1], [2, 3], [2, 4]], 9)

    def say(root: dict[int, float], inner: dict[int, float]) -> list[float]:
        talk = Distribution([7], trie)
        for ask in talk.begin():
            talk.on_reply(ask, Reply(logprobs=inner if ask.vote else root))
        found: list[float] = talk.records[0]["label_probabilities"]
        return found

    with pytest.raises(NotFiniteError):
        say({1: -math.inf, 2: -math.inf}, {3: -1.0, 4: -1.0})
    assert say({1: -1.0, 2: -math.inf}, {3: -math.inf, 4: -math.inf}) == [1.0, 0.0, 0.0]


def test_09_what_a_server_sends_for_nan_and_infinity() -> None:
    def send(value: Any) -> float:
        answer = {"choices": [{"text": "x", "logprobs": {"top_logprobs": [{"token_id:5": value}]}}]}
        return reply_of(ScoreTokens((5,)), answer).logprobs[5]

    assert math.isnan(send(None)) and math.isnan(send(math.nan))
    assert send(-9999.0) == -math.inf and send(-3) == -3.0
    for wrong in ("-1.0", True, [1]):
        with pytest.raises(TypeError):
            send(wrong)
    for answer in ({"text": None}, {"text": 3}):
        with pytest.raises(TypeError):
            reply_of(Sample(Sampling(0.0, 1.0, 0, 8), 0), {"choices": [answer], "usage": {"completion_tokens": 2}})


@pytest.mark.parametrize("calibration", ["content-free", "batch", "none"])
def test_09_stored_answers_that_are_no_numbers_neither_crash_the_vote_nor_count(job: Any, calibration: str) -> None:
    nan = [math.nan] * 3
    up, down = [0.1, 0.2, 0.7], [0.8, 0.1, 0.1]
    how = f"teacher.calibration={calibration}"
    store = teacher_answers(
        job, {"Orders grew again.": up, "A loss was posted.": nan, "row": down, "content-free": nan}, how
    )
    context = job.context("label", job.spec(*TEACHER_NOOP, how))
    # As an earlier version left the label stage: its folder has them.
    context.here.write_table("answers.parquet", store.read_table("a.parquet"))
    context.here.write_table("failures.parquet", failures_module.FAILURES.empty_table())
    context.here.write_json("done.json", {})
    vote = job.context("vote", job.spec(*TEACHER_NOOP, how))
    step = next(one for one in pipeline.steps(vote.spec, vote.run) if one.stage.NAME == "vote")
    step.stage.run(vote)
    found = {row["text"]: row for row in vote.here.read_table("votes.parquet").to_pylist()}
    assert len(found) == 7
    lost = found["A loss was posted."]
    assert lost["label"] is None and lost["probabilities"] is None and lost["reason"].startswith("not finite")
    assert found["Orders grew again."]["label"] == "positive"
    assert all(math.isfinite(p) for row in found.values() for p in row["probabilities"] or ())


def test_09_stored_answers_that_are_no_numbers_are_asked_for_again(job: Any) -> None:
    store = teacher_answers(
        job, {"A loss was posted.": [math.nan, 0.5, 0.5], "row": [0.2, 0.3, 0.5], "content-free": [0.2, 0.3, 0.5]}
    )
    assert len(answer_store.read_answers(store)) == len(store.read_table("a.parquet")) - 1
    assert make_plan(job.spec(*TEACHER_NOOP), job.run).teacher["generate"] == 1


# 10: scripts without blanks


@pytest.mark.parametrize(
    "corpus",
    [
        CHINESE,
        ["とても美味しいレストランでした。", "接客が最高で、また行きたいです。"],
        ["อาหารอร่อยมากและพนักงานใจดี", "ห้องพักสะอาดและเงียบสงบดีมาก"],
        ["ទឹកនៅទីនេះស្អាតណាស់ខ្ញុំចូលចិត្តវា"],
        ["very-good-food-and-such-a-friendly-staff-we-loved-it-all"],
    ],
)
def test_10_calibration_texts_hold_no_sentence(corpus: list[str]) -> None:
    texts = content_free_texts(corpus)
    assert len(texts) > 20
    sentences = [part for text in corpus for part in re.split("[。、 ]", text) if len(part) > 3]
    assert not [part for part in sentences for text in texts if part in text]


def test_10_words_are_cut_where_the_teacher_cuts_them_and_never_within_a_character() -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        models.ensure("catalog:smollm2-135m-instruct"), local_files_only=True
    )
    words = [*CHINESE, "𠮷野家はとても美味しい", "ดีมากจริงๆ", "extraordinarily"]
    pieces = random_texts.tokens(tokenizer, words)
    assert ["".join(parts) for parts in pieces] == words
    assert all(len(parts) > 2 for parts in pieces)
    assert "�" not in "".join(map("".join, pieces))
    texts = content_free_texts(CHINESE, lambda some: random_texts.tokens(tokenizer, some))
    assert len(texts) == random_texts.CONTENT_FREE_TEXTS


def test_10_languages_with_blanks_get_the_texts_they_had() -> None:
    corpus = [f"Company {n} sold its unit {n % 7} in May ; https://example.org/{'x' * 40}" for n in range(60)]
    texts = content_free_texts(corpus)
    assert texts[0].startswith("0 its May in ; in its Company") and "https" not in "".join(texts)
    korean = ["이 호텔은 정말 깨끗하고 직원들도 친절했어요", "음식이 맛있어서 또 가고 싶어요"]
    assert {word for text in content_free_texts(korean) for word in text.split()} <= set(" ".join(korean).split())


def test_10_a_calibration_text_that_is_too_long_is_cut_and_not_lost(tmp_path: Path) -> None:
    one = teacher_labeller(tmp_path, context=40)
    assert one(teacher_batch("word " * 300, kind="content-free"))["error"].to_pylist() == [None]
    (error,) = one(teacher_batch("other " * 300))["error"].to_pylist()
    assert error.startswith("too long")


def test_10_calibration_texts_without_an_answer_are_said(job: Any) -> None:
    teacher_answers(job, {"Orders grew again.": [0.1, 0.2, 0.7], "row": [0.8, 0.1, 0.1]})
    context = job.context("label", job.spec(*TEACHER_NOOP))
    rows = label.loaded_rows(context.inputs["load"])
    free = content_free.content_free_rows(context, rows)
    asked, failures = pa.concat_tables([rows, free]), dict.fromkeys(free["id"].to_pylist()[:3], "engine: gone")
    found = answer_store.read_answers(answer_store.answers_folder(context.run, context.spec))
    found = found.filter(pa.compute.invert(pa.compute.is_in(found["id"], value_set=pa.array(list(failures)))))
    summary = label._finish(context, asked, found, failures, 0)
    (warning,) = summary["warnings"]
    begins = f"3 of {len(free)} calibration texts have no answer (engine: gone)"
    assert warning == f"{begins}: calibration goes by the other {len(free) - 3}"
    assert warning in job.said.getvalue()
    assert (summary["rows"], summary["failures"], summary["failures_by_reason"]) == (7, 0, {})


# 11: a label that begins another


GEMMA = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)


def test_11_all_tokens_that_end_a_turn_are_found(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        models.ensure("catalog:smollm2-135m-instruct"), local_files_only=True
    )
    assert end_tokens(tokenizer) == [tokenizer.eos_token_id]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>", "<eot>"]})
    turn, other = tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eot>"])
    tokenizer.chat_template = GEMMA
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [other, 10**7, -1, True, None]}))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"eos_token_id": other}}))
    assert folder.end_tokens(tmp_path) == [other, 10**7, -1]
    assert end_tokens(tokenizer, folder.end_tokens(tmp_path)) == [tokenizer.eos_token_id, other, turn]
    assert folder.end_tokens(tmp_path / "nothing") == []


def test_11_the_probabilities_of_all_ends_are_summed() -> None:
    eos, turn = 98, 99
    trie = LabelTrie.build([[1], [2], [2, 3, 4]], eos, turn, 3)  # 3 is a part of a label, and so no end
    assert trie.branches[1].choices == (3, eos, turn)
    said = {(): {1: math.log(0.5), 2: math.log(0.5)}, (2,): {3: math.log(0.2), eos: math.log(0.1), turn: math.log(0.7)}}
    assert trie.probabilities(said) == pytest.approx([0.5, 0.4, 0.1])


def test_11_without_any_end_only_labels_that_begin_no_other_are_told_apart() -> None:
    assert LabelTrie.build([[1], [2]]).probabilities({(): {1: 0.0, 2: 0.0}}) == [0.5, 0.5]
    with pytest.raises(ValueError, match="no token that ends a turn"):
        LabelTrie.build([[1], [1, 2]])


def test_11_only_tasks_in_which_a_label_begins_another_are_asked_anew(job: Any) -> None:
    plain, nested = ([*TEACHER_NOOP], [*TEACHER_NOOP, "task.labels=[neutral, neutral to positive, negative, positive]"])
    assert "ends" not in request.teacher_key(job.spec(*plain))
    assert request.teacher_key(job.spec(*nested))["ends"] == "all"


# 24: promises


def test_24_a_rate_of_0_lets_no_row_fail() -> None:
    with pytest.raises(EngineError, match=r"1 of the first 100 rows failed"):
        failures_module.check_failures({"a": "too long"}, 100, 100, 0.0)
    failures_module.check_failures({}, 100, 100, 0.0)
    failures_module.check_failures({"a": "too long"}, 5, 5, 0.05)
    failed = {str(n): "too long" for n in range(29)}
    failures_module.check_failures(failed, 100, 100, 0.29)  # 0.29 * 100 is a little less than 29 in a computer
    with pytest.raises(EngineError):
        failures_module.check_failures(failed | {"one": "too long"}, 100, 100, 0.29)


def test_24_failed_calibration_texts_are_no_rows(job: Any) -> None:
    context = job.context("label", job.spec(*TEACHER_NOOP))
    for number, failed in enumerate((["r1", "cf-1", "cf-2"], ["r1", "r2", "cf-1"])):
        lines = [{"id": id_, "split": "" if id_.startswith("cf") else "train"} for id_ in failed]
        table = pa.Table.from_pylist(lines, schema=failures_module.FAILURES)
        answer_store.folder_of(context.here, number).write_table("failures.parquet", table)
    one = {
        "rows": 9,
        "replies": 9,
        "seconds": 3.0,
        "elapsed": None,
        "prompt_tokens": 1,
        "output_tokens": 1,
        "model": "m",
        "warnings": [],
    }
    found = summary_module.summary_of_all(context, [one, one])
    assert (found["rows"], found["failures"]) == (9, 1)


def test_24_the_seed_draws_the_calibration_texts(job: Any) -> None:
    corpus = [f"Company {n} sold its unit {n % 7} in May" for n in range(60)]
    assert content_free_texts(corpus) == content_free_texts(corpus, seed=0) != content_free_texts(corpus, seed=1)
    keys = [label.key(job.spec(*TEACHER_NOOP, f"teacher.seed={seed}"))["content_free"] for seed in (0, 1, 2)]
    assert keys == [True, {"seed": 1}, {"seed": 2}]
    without = [
        label.key(job.spec(*TEACHER_NOOP, "teacher.calibration=none", f"teacher.seed={seed}")) for seed in (0, 1)
    ]
    assert without[0] == without[1]


# 25: many labels

MANY = tuple(f"{colour} {number}" for colour in ("red", "green", "blue", "grey") for number in range(250))


def test_25_a_thousand_labels_are_asked_about_in_parts_that_vllm_takes(tmp_path: Path) -> None:
    one = teacher_labeller(tmp_path, MANY, context=16384)
    asked: list[int] = []
    submit = one._engine.submit

    def count(prompt: Any, request: Any, deliver: Any) -> None:
        asked.append(len(request.tokens))
        submit(prompt, request, deliver)

    one._engine.submit = count  # type: ignore[method-assign]
    start = time.process_time()
    assert one(teacher_batch("Sales rose.", "Sales fell."))["error"].to_pylist() == [None, None]
    assert time.process_time() - start < 10
    assert max(asked) <= MOST_CHOICES and len(asked) == 2 * (1 + 4 * 2)
    shares = answer_store.read_answers(Folder(str(tmp_path)))["label_probabilities"].to_pylist()
    assert all(len(row) == 1000 and sum(row) == pytest.approx(1) for row in shares)


def test_25_parts_of_a_branch_make_one_distribution() -> None:
    ids = [[n + 1] for n in range(300)]
    talk = Distribution([7], LabelTrie.build(ids, 999))
    asks = talk.begin()
    assert [len(ask.request.tokens) for ask in asks if isinstance(ask.request, ScoreTokens)] == [128, 128, 44]
    for ask in asks:
        assert isinstance(ask.request, ScoreTokens)
        talk.on_reply(ask, Reply(tokens=1, logprobs={token: math.log(token) for token in ask.request.tokens}))
    total = sum(range(1, 301))
    assert talk.records[0]["label_probabilities"] == pytest.approx([n / total for n in range(1, 301)])
    assert talk.records[0]["output_tokens"] == 3


@pytest.mark.slow("long")
def test_25_a_plan_counts_the_requests_of_a_row(job: Any) -> None:
    def plan(labels: str, *more: str) -> dict[str, Any]:
        live = ("teacher.engine=vllm", "teacher.model=catalog:smollm2-135m-instruct", "teacher.columns=[]")
        found: dict[str, Any] = make_plan(job.spec(*live, f"task.labels=[{labels}]", *more), job.run).teacher
        return found

    one = plan("negative, neutral, positive")
    assert (one["requests_per_row"], one["output_tokens_per_row"], one["prompt_tokens"]["read_again"]) == (1, 1, 0)
    more = plan("negative, neutral, positive, bill due, bill balance, bill paid, report fraud, report theft")
    assert more["requests_per_row"] == more["output_tokens_per_row"] == 3
    assert more["hours"] > 2.5 * one["hours"]
    assert plan("negative, neutral, positive", "teacher.calibration=none")["hours"] < one["hours"]
    text = plan_text(
        make_plan(job.spec(*TEACHER_NOOP, "task.labels=[negative, neutral, positive, neutral to good]"), job.run)
    )
    assert "; 2 requests a row, one wherever the answers' tokens part, which read about" in text


def test_25_labels_that_no_token_tells_apart_are_a_problem_of_the_plan(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runner.planning.tokens._WORDS", re.compile(r"[^\W_]+")
    )  # as a tokenizer that drops what it does not know
    same = "task.labels=[negative!, neutral, positive, negative]"
    (problem,) = make_plan(job.spec(*TEACHER_NOOP, same), job.run).problems
    assert problem.startswith("task.labels: ") and problem.endswith("every label needs tokens of its own; rename them")
