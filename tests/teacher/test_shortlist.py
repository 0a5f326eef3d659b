"""A shortlist of choices for each text: which they are, what the teacher is told, and what is said of the others."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.planning.plan import make_plan
from runner.report.limits import _shortlist
from runner.rundir.folder import Folder
from runner.stages import vote
from runner.system.errors import EngineError, SpecError
from runner.tasks.single_label.asking import LabelAnswer
from runner.tasks.single_label.calibrate import STRENGTH, bias_of
from runner.teacher import request, shortlist, summary
from runner.teacher.answer_store import read_answers
from runner.teacher.batch import ANSWERS
from runner.teacher.engines.noop import NoopTokenizer
from runner.teacher.engines.protocol import Sampling
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.prompt import Task
from runner.teacher.worker import QUESTIONS, Asking, Labeller

LABELS = ("card_lost", "card_stolen", "pin_blocked", "new_account", "close_account", "card")
NOOP = ("teacher.engine=noop", "teacher.columns=[]")
INTENTS = (*NOOP, "task.examples=[]", f"task.labels=[{', '.join(LABELS)}]")
SAMPLING = Sampling(temperature=0.8, top_p=1.0, top_k=20, max_tokens=64)


@given(st.data())
def test_the_nearest_choices_by_brute_force(data: st.DataObject) -> None:
    choices, rows = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 4))
    owners = [*range(choices), *data.draw(st.lists(st.integers(0, choices - 1), max_size=5))]
    size = data.draw(st.integers(1, choices))
    cosine = st.floats(-1, 1, width=32)
    near = [[data.draw(cosine) for _ in owners] for _ in range(rows)]
    found = shortlist.nearest_choices(np.array(near, dtype=np.float32), owners, size)
    for row, mine in zip(near, found.tolist(), strict=True):
        best = [max(value for value, owner in zip(row, owners, strict=True) if owner == n) for n in range(choices)]
        assert mine == sorted(sorted(range(choices), key=lambda n: (-best[n], n))[:size])


def test_examples_stand_for_their_label_besides_its_name() -> None:
    signals, owners = shortlist.signals_of(
        LabelAnswer(LABELS), [("It was taken from my bag.", "card_stolen"), ("Hello.", "none of them"), ("x", ["card"])]
    )
    assert signals[:2] == ["card lost", "card stolen"] and signals[-1] == "It was taken from my bag."
    assert owners == [0, 1, 2, 3, 4, 5, 1]


@given(st.integers(2, 60), st.data())
def test_texts_that_say_nothing_show_each_choice_as_often(choices: int, data: st.DataObject) -> None:
    size, texts = data.draw(st.integers(1, choices)), data.draw(st.integers(0, 50))
    found = shortlist.random_shortlists(choices, size, texts, seed=3)
    assert len(found) == texts
    assert all(mine == sorted(set(mine)) and len(mine) == size for mine in found)
    times = Counter(number for mine in found for number in mine)
    assert max((times[n] for n in range(choices)), default=0) - min(times[n] for n in range(choices)) <= 1


def test_a_narrowed_answer_names_few_labels_and_reads_all() -> None:
    form = LabelAnswer(LABELS).narrowed([1, 4])
    assert form.choices == ("card_stolen", "close_account")
    for said in (form.request("direct"), form.request("cot"), form.ask_again(), form.schema(200)):
        assert "card_stolen" in said and "close_account" in said and "pin_blocked" not in said
    assert form.read('{"label": "pin_blocked"}') == "pin_blocked"
    assert shortlist.typical(LabelAnswer(LABELS), 3).choices == ("card_lost", "pin_blocked", "close_account")
    assert shortlist.typical(LabelAnswer(LABELS), None).choices == LABELS


def labeller(folder: Path, kind: str, **more: Any) -> Labeller:
    asking = Asking(Task(LabelAnswer(LABELS), "Label it.", (), kind), 3, True, SAMPLING, 0, shortlist=2)
    return Labeller("noop", "", asking, EngineSettings(more.pop("context", 4096), 0, 0), str(folder), **more)


def rows(*lists: list[int] | None) -> pa.Table:
    lines = [{"id": f"r{n}", "kind": "row", "text": f"Text {n}.", "shortlist": mine} for n, mine in enumerate(lists)]
    return pa.Table.from_pylist(lines, schema=QUESTIONS)


@pytest.mark.parametrize("kind", ["direct", "cot"])
def test_each_row_is_asked_about_its_own_choices(tmp_path: Path, kind: str) -> None:
    actor = labeller(tmp_path, kind)
    submit, prompts = actor._engine.submit, list[list[int]]()

    def watched(prompt: Any, asked: Any, deliver: Any) -> None:
        prompts.append(list(prompt))
        submit(prompt, asked, deliver)

    actor._engine.submit = watched  # type: ignore[method-assign]
    assert actor(rows([0, 3]))["error"].to_pylist() == [None]
    tokens = dict(zip(LABELS, NoopTokenizer()(LABELS)["input_ids"], strict=True))
    for prompt in prompts:
        told = {label for label, ids in tokens.items() if ids[0] in prompt}
        assert told == {"card_lost", "new_account"}
    assert actor(rows([0, 3], [2, 4], [2, 4]))["error"].to_pylist() == [None] * 3
    for answer in read_answers(Folder(str(tmp_path))).to_pylist():
        mine = [0, 3] if answer["id"] == "r0" else [2, 4]
        assert answer["shortlist"] == mine
        if kind == "direct":
            shares = answer["label_probabilities"]
            assert len(shares) == len(LABELS) and sum(shares) == pytest.approx(1)
            assert not any(share for number, share in enumerate(shares) if number not in mine)


def test_a_list_that_does_not_fit_is_told_of_the_shortlist(tmp_path: Path) -> None:
    many = tuple(f"intent number {number}" for number in range(300))
    task = Task(LabelAnswer(many), "Label it.", ())
    asking = Asking(task, 1, True, SAMPLING, 0)
    whole = Labeller("noop", "", asking, EngineSettings(256, 0, 0), str(tmp_path))
    with pytest.raises(EngineError, match=r"show fewer labels for each text \(teacher\.shortlist\)"):
        whole(rows(None))
    some = Labeller("noop", "", replace(asking, shortlist=20), EngineSettings(256, 0, 0), str(tmp_path))
    assert some(rows(list(range(20))))["error"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("teacher.shortlist=6",), "a shortlist of 6 leaves none of the 6 labels out"),
        (("teacher.shortlist=1",), "must be at least 2"),
        (("teacher.shortlist=3", "teacher.template='{text} which?'"), r"teacher.template has no \{labels\}"),
        (("teacher.shortlist=3", "teacher.engine=recorded", "teacher.columns=[anna]"), "shows nobody a list"),
    ],
)
def test_a_shortlist_that_makes_no_sense_is_refused(job: Any, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        job.spec(*INTENTS, *changes)


def test_a_shortlist_is_another_question_and_none_is_the_same_as_before(job: Any) -> None:
    plain, listed = (request.teacher_key(job.spec(*INTENTS, f"teacher.shortlist={n}")) for n in ("null", "3"))
    assert "shortlist" not in plain
    assert listed.pop("shortlist")["size"] == 3
    assert listed == plain


def test_a_plan_reads_the_list_for_each_row(job: Any) -> None:
    names = [f"intent number {number}" for number in range(200)]
    job.csv("test.csv", [(f"Test {name}.", name, *[name] * 3) for name in names[:3]])
    many = (*NOOP, "task.examples=[]", f"task.labels={json.dumps(names)}")
    whole, listed = (make_plan(job.spec(*many, *more), job.run).teacher for more in ((), ("teacher.shortlist=20",)))
    fixed, per_row = ([teacher["prompt_tokens"][name] for teacher in (whole, listed)] for name in ("fixed", "per_row"))
    assert fixed[1] < fixed[0] / 10 and per_row[1] > 2 * per_row[0]
    assert listed["requests_per_row_most"] < 20 <= whole["requests_per_row_most"] * 20
    small = make_plan(job.spec(*many, "teacher.max_context=256"), job.run)
    assert any("show fewer labels for each text (teacher.shortlist)" in problem for problem in small.problems)
    assert not make_plan(job.spec(*many, "teacher.max_context=256", "teacher.shortlist=20"), job.run).problems


def test_the_bias_is_that_of_the_texts_that_show_a_label() -> None:
    free = np.array([[0.7, 0.3, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]])
    shown = np.array([[True, True, False, False], [False, True, True, False]])
    assert bias_of(free, shown).tolist() == pytest.approx([0.7, 0.4, 0.5, (0.7 + 0.4 + 0.5) / 3])
    assert bias_of(free, np.ones_like(shown)).tolist() == pytest.approx(free.mean(axis=0).tolist())


def test_what_was_not_shown_has_no_probability_after_calibration(job: Any) -> None:
    context = job.context("vote", job.spec(*INTENTS, "teacher.shortlist=3"))
    line = {"vote": 0, "attempt": 0, "seconds": 1.0}
    said = {
        "train0": ([0.2, 0.7, 0.1], [0, 1, 2]),
        "train1": ([0.1, 0.8, 0.1], [1, 3, 5]),
        "test0": ([0.1, 0.2, 0.7], [0, 2, 4]),
    }
    free = {"cf-0": ([0.5, 0.3, 0.2], [0, 1, 2]), "cf-1": ([0.8, 0.1, 0.1], [3, 4, 5])}

    def stored(kind: str, given: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for id_, (shares, mine) in given.items():
            whole = [0.0] * len(LABELS)
            for number, share in zip(mine, shares, strict=True):
                whole[number] = share
            found.append({"id": id_, "kind": kind, "label_probabilities": whole, "shortlist": mine, **line})
        return found

    answers = [*stored("row", said), *stored("content-free", free)]
    context.inputs["label"].write_table("answers.parquet", pa.Table.from_pylist(answers, schema=ANSWERS))
    for split in ("train", "test"):
        ids = [id_ for id_ in said if id_.startswith(split)]
        context.inputs["load"].write_table(f"{split}.parquet", pa.table({"id": ids, "text": ids}))
    vote.run(context)
    bias = [0.5, 0.3, 0.2, 0.8, 0.1, 0.1]
    for row in context.here.read_table("votes.parquet").to_pylist():
        shares, mine = said[row["id"]]
        weights = [share / bias[number] ** STRENGTH for number, share in zip(mine, shares, strict=True)]
        expected = [0.0] * len(LABELS)
        for number, weight in zip(mine, weights, strict=True):
            expected[number] = weight / sum(weights)
        assert row["probabilities"] == pytest.approx(expected)


def test_the_recall_is_that_of_test_rows_which_experts_labelled(job: Any) -> None:
    job.csv("test.csv", [(f"Test {name}.", name, *[name] * 3) for name in LABELS[:4]])
    job.csv("train.csv", [("Train.", "", "", "", "")])
    spec = job.spec(*INTENTS, "teacher.shortlist=2")
    job.do("load", *INTENTS, "teacher.shortlist=2")
    context = job.context("label", spec)
    test = context.inputs["load"].read_table("test.parquet").to_pylist()
    (train,) = context.inputs["load"].read_table("train.parquet")["id"].to_pylist()
    held = {row["id"]: [LABELS.index(row["label"]), 5] if row["label"] != "card_lost" else [4, 5] for row in test}
    lines = [{"id": id_, "kind": "row", "shortlist": mine} for id_, mine in [*held.items(), (train, [0, 1])]]
    answers = pa.Table.from_pylist(lines, schema=ANSWERS)
    found = summary.shortlist_of(context, answers)
    assert found == {"shortlist": {"size": 2, "rows": 4, "recall": 0.75}}
    assert "75.0 % of 4 test texts" in _shortlist(found["shortlist"])
    none = summary.shortlist_of(context, answers.slice(0, 0))
    assert none == {"shortlist": {"size": 2, "rows": 0, "recall": None}}
    assert "is not known" in _shortlist(none["shortlist"])
    assert summary.shortlist_of(replace(context, spec=job.spec(*INTENTS)), answers) == {}


@pytest.mark.slow("long")
def test_the_encoder_finds_what_a_text_is_about() -> None:
    signals, owners = shortlist.signals_of(LabelAnswer(LABELS), [("Someone took my wallet.", "card_stolen")])
    finder = shortlist.Shortlister(shortlist.MODEL, signals, owners, 2)
    texts = ["I would like to open an account.", "A thief has my wallet.", "My PIN does not work any more."]
    batch = pa.table({"id": ["a", "b", "c"], "text": pa.array(texts, pa.large_string())})
    found = dict(zip("abc", finder(batch)["shortlist"].to_pylist(), strict=True))
    assert 3 in found["a"] and 1 in found["b"] and 2 in found["c"]
    assert all(len(mine) == 2 for mine in found.values())
