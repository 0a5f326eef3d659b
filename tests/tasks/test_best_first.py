"""The label tree asked best first against every branch of it: within the bound, and nothing asked for nothing."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.rundir.folder import Folder
from runner.tasks.single_label.asking import LabelAnswer
from runner.tasks.single_label.distribution import UNASKED, Distribution, expected_requests, worth_asking
from runner.tasks.single_label.label_trie import MOST_CHOICES, LabelTrie, softmax
from runner.teacher import worker
from runner.teacher.answer_store import pending, read_answers
from runner.teacher.batch import ANSWERS
from runner.teacher.engines.noop import NoopEngine, NoopTokenizer
from runner.teacher.engines.protocol import Reply, Sampling, ScoreTokens
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.prompt import Task
from runner.teacher.protocol import Ask, NotFiniteError
from runner.teacher.worker import QUESTIONS, Asking, Labeller

END, TURN = 98, 99
PROMPT = [7, 7]
TokenPath = tuple[int, ...]
Told = dict[TokenPath, dict[int, float]]

tokens = st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple)
labels = st.lists(tokens, min_size=2, max_size=30, unique=True)
seeds = st.integers(0, 2**32 - 1)


def told_by(trie: LabelTrie, seed: int, steepness: float) -> Told:
    """Log-probabilities for every branch; the steeper, the more of them goes to a few tokens."""
    rng = random.Random(seed)
    return {branch.prefix: {token: steepness * rng.gauss(0, 1) for token in branch.choices} for branch in trie.branches}


def talk_through(talk: Distribution, told: Told, rng: random.Random) -> list[Ask]:
    """All that was asked; replies come in any order."""
    waiting, asked = talk.begin(), []
    while waiting:
        ask = waiting.pop(rng.randrange(len(waiting)))
        asked.append(ask)
        assert isinstance(ask.request, ScoreTokens)
        said = told[tuple(ask.prompt[len(PROMPT) :])]
        waiting += talk.on_reply(ask, Reply(tokens=1, logprobs={token: said[token] for token in ask.request.tokens}))
    return asked


def answer_of(trie: LabelTrie, told: Told, seed: int = 0, **more: Any) -> tuple[dict[str, Any], set[int]]:
    """The record of one row, and the branches that were asked about."""
    talk = Distribution(PROMPT, trie, **more)
    asked = talk_through(talk, told, random.Random(seed))
    (found,) = talk.records
    assert found["output_tokens"] == len(asked)
    return found, {ask.vote for ask in asked}


def one_at_a_time(trie: LabelTrie, told: Told) -> set[int]:
    """The branches that are asked when only the most probable one is asked about at a time."""
    reached, asked = {0: 1.0}, set[int]()
    while math.fsum(reached.values()) >= UNASKED:
        number = max(reached, key=lambda each: (reached[each], -each))
        mass, branch = reached.pop(number), trie.branches[number]
        asked.add(number)
        for token, weight in zip(
            branch.choices, softmax([told[branch.prefix][t] for t in branch.choices]), strict=True
        ):
            if (below := trie.below.get((branch.prefix, token))) is not None:
                reached[below] = mass * weight
    return asked


@given(labels, seeds, st.floats(0, 12))
def test_each_probability_is_right_within_the_bound(ids: list[TokenPath], seed: int, steepness: float) -> None:
    trie = LabelTrie.build(ids, END, TURN)
    told = told_by(trie, seed, steepness)
    best, asked = answer_of(trie, told, seed)
    every, everywhere = answer_of(trie, told, seed, exhaustive=True)
    assert everywhere == set(range(len(trie.branches))) and every["unasked"] == 0.0
    bound = best["unasked"]
    assert 0.0 <= bound < UNASKED and (bound == 0.0 or len(asked) < len(everywhere))
    shares, exact = best["label_probabilities"], every["label_probabilities"]
    assert sum(shares) == pytest.approx(1.0)
    assert all(abs(share - right) <= bound + 1e-12 for share, right in zip(shares, exact, strict=True))
    winner, right = (max(range(len(row)), key=row.__getitem__) for row in (shares, exact))
    assert winner == right or exact[right] - exact[winner] <= bound + 1e-12


@given(labels, seeds, st.floats(0, 12))
def test_no_request_is_made_that_one_at_a_time_would_spare(ids: list[TokenPath], seed: int, steepness: float) -> None:
    trie = LabelTrie.build(ids, END)
    told = told_by(trie, seed, steepness)
    _, asked = answer_of(trie, told, seed)
    assert asked <= one_at_a_time(trie, told)
    assert {0} == asked or len(asked) <= len(trie.branches)


@given(labels, seeds, st.floats(0, 12))
def test_the_order_of_replies_changes_nothing(ids: list[TokenPath], seed: int, steepness: float) -> None:
    trie = LabelTrie.build(ids, END)
    told = told_by(trie, seed, steepness)
    one, other = (answer_of(trie, told, order) for order in (1, 2))
    assert one[1] == other[1]
    assert one[0]["label_probabilities"] == pytest.approx(other[0]["label_probabilities"])


def test_with_many_labels_and_a_sure_teacher_few_branches_are_asked() -> None:
    ids = [(first, second, third) for first in range(20) for second in range(20, 24) for third in range(30, 32)]
    trie = LabelTrie.build(ids, END)
    assert len(trie.branches) == 1 + 20 + 80
    told = {
        branch.prefix: {token: 0.0 if token % 10 == 0 else -12.0 for token in branch.choices}
        for branch in trie.branches
    }
    told[()] = {token: 0.0 if token == 3 else -12.0 for token in trie.branches[0].choices}
    best, asked = answer_of(trie, told)
    assert [trie.branches[number].prefix for number in sorted(asked)] == [(), (3,), (3, 20)]
    assert 0 < best["unasked"] < UNASKED
    left = [share for path, share in zip(ids, best["label_probabilities"], strict=True) if path[0] == 5]
    assert left == pytest.approx([left[0]] * 8), "labels below a branch that is not asked share evenly"


def test_branches_that_must_be_asked_are_asked_at_once() -> None:
    ids = [(first, second) for first in range(4) for second in (8, 9)]
    talk = Distribution(PROMPT, LabelTrie.build(ids, END))
    (root,) = talk.begin()
    shares = {0: 0.5, 1: 0.4993, 2: 0.0006, 3: 0.0001}
    more = talk.on_reply(root, Reply(tokens=1, logprobs={token: math.log(share) for token, share in shares.items()}))
    assert [ask.prompt[-1] for ask in more] == [0, 1]
    assert worth_asking({}) == [] and worth_asking({3: UNASKED / 2}) == [] and worth_asking({3: UNASKED}) == [3]


def test_a_branch_wider_than_a_request_is_heard_when_all_its_parts_are() -> None:
    ids = [(first, second) for first in range(MOST_CHOICES + 2) for second in (500, 501)]
    trie = LabelTrie.build(ids, END)
    told = {branch.prefix: {token: -20.0 * (token % 500 != 1) for token in branch.choices} for branch in trie.branches}
    found, asked = answer_of(trie, told)
    assert {trie.branches[number].prefix for number in asked} == {(), (1,)}
    assert found["output_tokens"] == 3
    assert max(found["label_probabilities"]) == pytest.approx(1.0, abs=1e-3)


def test_labels_that_begin_others_and_both_ends() -> None:
    trie = LabelTrie.build([(1,), (2,), (2, 3), (2, 3, 4)], END, TURN)
    log = {share: math.log(share) for share in (0.9, 0.1, 0.2, 0.5, 0.3)}
    told = {(): {1: log[0.9], 2: log[0.1]}, (2,): {3: log[0.5], END: log[0.2], TURN: log[0.3]}}
    told[2, 3] = {4: log[0.5], END: log[0.2], TURN: log[0.3]}
    found, asked = answer_of(trie, told)
    assert asked == {0, 1, 2} and found["unasked"] == 0.0
    assert found["label_probabilities"] == pytest.approx([0.9, 0.05, 0.025, 0.025])
    told[2,] = {3: -20.0, END: 0.0, TURN: 0.0}
    found, asked = answer_of(trie, told)
    assert asked == {0, 1} and 0 < found["unasked"] < 1e-8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_deeper_down_fails_the_row(value: float) -> None:
    trie = LabelTrie.build([(1, 3), (1, 4), (2,)], END)
    talk = Distribution(PROMPT, trie)
    (root,) = talk.begin()
    (deeper,) = talk.on_reply(root, Reply(tokens=1, logprobs={1: 0.0, 2: 0.0}))
    with pytest.raises(NotFiniteError):
        talk.on_reply(deeper, Reply(tokens=1, logprobs={3: value, 4: 0.0}))
    assert talk.records == []


def test_a_stored_answer_is_asked_again_only_where_all_is_wanted_and_it_left_something_out() -> None:
    trie = LabelTrie.build([(1, 3), (1, 4), (2,)], END)
    whole, part, earlier_version = {"unasked": 0.0}, {"unasked": 0.0004}, {"vote": 0}
    for stored in (whole, part, earlier_version):
        assert Distribution(PROMPT, trie, [stored]).begin() == []
    for stored in (whole, earlier_version):
        assert Distribution(PROMPT, trie, [stored], exhaustive=True).begin() == []
    assert len(Distribution(PROMPT, trie, [part], exhaustive=True).begin()) == 2
    assert Distribution(PROMPT, trie, [part, whole], exhaustive=True).begin() == []


def test_what_is_expected_is_no_more_than_there_is() -> None:
    assert expected_requests(LabelTrie.build([(1,), (2,)], END)) == 1
    assert expected_requests(LabelTrie.build([(1, 3), (1, 4), (2,)], END)) == 2
    many = LabelTrie.build([(first, second) for first in range(60) for second in (70, 71)], END)
    assert expected_requests(many) == 1 + 60 / 2


class Sure(NoopEngine):
    """Gives nearly all probability to the first choice of each branch."""

    def __init__(self) -> None:
        super().__init__(str)
        self.asked = 0

    def submit(self, prompt: Any, request: Any, deliver: Any) -> None:
        self.asked += 1
        deliver(Reply(tokens=1, logprobs={token: -15.0 * (place > 0) for place, token in enumerate(request.tokens)}))


INTENTS = tuple(f"{verb} {noun}" for verb in ("open", "close", "move", "rent") for noun in ("account", "card", "loan"))
TEXTS = ("May I?", "Shall I?", "How?")


def actor(folder: Path, exhaustive: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Labeller, Sure]:
    engine = Sure()
    monkeypatch.setattr(worker, "open_engine", lambda *_: (engine, None))
    how = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=8)
    asking = Asking(Task(LabelAnswer(INTENTS), "Label it.", ()), 1, True, how, 0, exhaustive=exhaustive)
    made = Labeller("vllm", "", asking, EngineSettings(4096, 0, 0), str(folder))
    engine.asked = 0
    return made, engine


def test_answers_of_all_branches_serve_both_and_those_of_some_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Any
) -> None:
    names = ", ".join(INTENTS)
    direct = ("teacher.engine=noop", "teacher.columns=[]", "task.examples=[]", f"task.labels=[{names}]")
    some, every = job.spec(*direct), job.spec(*direct, "teacher.exhaustive=true")
    rows = pa.table({"id": ["r0", "r1", "r2"], "kind": ["row"] * 3, "text": pa.array(TEXTS, pa.large_string())})
    store = Folder(str(tmp_path))

    questions = pending(some, rows, read_answers(store))
    first, engine = actor(tmp_path, False, monkeypatch)
    assert first(questions)["error"].to_pylist() == [None] * 3
    assert engine.asked == 3 * 2, "the first branch, and the one below that has the probability"
    assert not len(pending(some, rows, read_answers(store)))

    again = pending(every, rows, read_answers(store))
    assert again["id"].to_pylist() == ["r0", "r1", "r2"]
    second, engine = actor(tmp_path, True, monkeypatch)
    assert second(again)["error"].to_pylist() == [None] * 3
    assert engine.asked == 3 * (1 + 4), "what left branches out is asked again"
    stored = read_answers(store)
    assert stored["unasked"].to_pylist() == [0.0] * 3, "and the better answer counts"
    assert not len(pending(every, rows, stored)) and not len(pending(some, rows, stored))

    third, engine = actor(tmp_path, True, monkeypatch)
    assert third(again)["error"].to_pylist() == [None] * 3
    assert engine.asked == 0, "a batch that an actor died over is not asked twice"


def test_answers_of_an_earlier_version_are_read_beside_new_ones(tmp_path: Path) -> None:
    store = Folder(str(tmp_path))
    line = {"kind": "row", "vote": 0, "attempt": 0, "label_probabilities": [0.4, 0.6], "seconds": 1.0}
    old = pa.schema([field for field in ANSWERS if field.name != "unasked"])
    store.write_table("a.parquet", pa.Table.from_pylist([{"id": "x", **line}], schema=old))
    newer = [{"id": id_, **line, "unasked": 0.0005, "label_probabilities": [0.5, 0.5]} for id_ in ("x", "y")]
    store.write_table("0.parquet", pa.Table.from_pylist(newer, schema=ANSWERS))
    found = {row["id"]: row for row in read_answers(store).to_pylist()}
    assert read_answers(store).schema == ANSWERS
    assert found["x"]["label_probabilities"] == [0.4, 0.6] and found["x"]["unasked"] is None
    assert found["y"]["unasked"] == 0.0005


def test_the_noop_engine_answers_every_branch_of_many_labels(tmp_path: Path) -> None:
    """Flat distributions, of which much is asked: each row sums to one and keeps its bound."""
    names = tuple(f"{first} {second}" for first in "abcdefghij" for second in ("one", "two", "three"))
    how = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=8)
    asking = Asking(Task(LabelAnswer(names), "Label it.", ()), 1, True, how, 0)
    made = Labeller("noop", "", asking, EngineSettings(4096, 0, 0), str(tmp_path))
    lines = [{"id": f"r{number}", "kind": "row", "text": f"Text {number}."} for number in range(20)]
    assert made(pa.Table.from_pylist(lines, schema=QUESTIONS))["error"].to_pylist() == [None] * 20
    trie = LabelTrie.build(NoopTokenizer()(names)["input_ids"], 0)
    for row in read_answers(Folder(str(tmp_path))).to_pylist():
        assert sum(row["label_probabilities"]) == pytest.approx(1) and 0 <= row["unasked"] < UNASKED
        assert 1 <= row["output_tokens"] <= trie.requests
