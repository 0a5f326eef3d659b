"""What an actor has of a batch while it works on it: stored now and then, and found again by the actor that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner.rundir.folder import Folder
from runner.tasks.single_label.asking import LabelAnswer
from runner.teacher import batch as batches
from runner.teacher import converse, worker
from runner.teacher.answer_store import read_answers
from runner.teacher.engines.noop import NoopTokenizer
from runner.teacher.engines.protocol import Reply, Sampling, ScoreTokens
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.live import Live
from runner.teacher.prompt import Task
from runner.teacher.worker import QUESTIONS, Asking, Labeller

LABELS = ("negative", "neutral", "positive")


class Dies(BaseException):
    """As an actor does: without a word, and without storing what it has."""


class Scripted:
    """Answers at once, until ``dies_after`` requests; ``block`` and ``cached`` are what it says of its cache."""

    def __init__(self, dies_after: int = 10**6, block: int | None = None, cached: int | None = None) -> None:
        self.tokenizer, self.block_tokens = NoopTokenizer(), block
        self.asked, self._dies_after, self._cached = 0, dies_after, cached

    def submit(self, prompt: Any, request: Any, deliver: Any) -> None:
        self.asked += 1
        if self.asked > self._dies_after:
            raise Dies
        if isinstance(request, ScoreTokens):
            deliver(Reply(tokens=1, logprobs={token: -float(place) for place, token in enumerate(request.tokens)}))
        else:
            deliver(Reply('{"reason": "so", "label": "neutral"}', 9, cached=self._cached))

    def close(self) -> None:
        pass


@pytest.fixture
def actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(engine: Scripted, kind: str = "direct", template: str | None = None, **more: Any) -> Labeller:
        monkeypatch.setattr(worker, "open_engine", lambda *_: (engine, None))
        task = Task(LabelAnswer(LABELS), "Label it.", (), kind, template)
        asking = Asking(task, 3, True, Sampling(temperature=0.8, top_p=1.0, top_k=20, max_tokens=64), 0)
        made = Labeller("vllm", "", asking, EngineSettings(4096, 0, 0), str(tmp_path / "answers"), **more)
        assert made._failed is None
        engine.asked = 0
        return made

    return make


def rows(count: int) -> pa.Table:
    lines = [{"id": f"r{n}", "kind": "row" if n else "content-free", "text": f"Text {n}."} for n in range(count)]
    return pa.Table.from_pylist(lines, schema=QUESTIONS)


@pytest.mark.parametrize("kind", ["direct", "cot"])
def test_rows_that_are_finished_are_stored_while_others_are_under_way(
    actor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(batches, "STORE_SECONDS", 0.0)
    monkeypatch.setattr(converse, "UNDER_WAY", 1)
    given = rows(6)
    whole = actor(Scripted(), kind)(given).to_pylist()
    stored = read_answers(Folder(str(tmp_path / "answers")))
    for file in (tmp_path / "answers").iterdir():
        file.unlink()
    each = len(stored) // 6
    with pytest.raises(Dies):
        actor(Scripted(dies_after=4 * each), kind)(given)
    left = read_answers(Folder(str(tmp_path / "answers")))
    assert len(set(left["id"].to_pylist())) in (3, 4), "what was finished outlives the actor"
    after = Scripted()
    assert actor(after, kind)(given).to_pylist() == whole
    assert after.asked == len(stored) - len(left), "and only the others are asked about"
    again = read_answers(Folder(str(tmp_path / "answers")))
    columns = ["id", "kind", "vote", "attempt", "text", "label_probabilities", "prompt_tokens", "output_tokens"]
    told = [sorted(table.select(columns).to_pylist(), key=str) for table in (again, stored)]
    assert told[0] == told[1]


def test_a_batch_that_is_quick_is_one_file(actor: Any, tmp_path: Path) -> None:
    actor(Scripted())(rows(6))
    assert len(list((tmp_path / "answers").iterdir())) == 1


def test_seconds_add_up_to_the_engines_time(actor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STORE_SECONDS", 0.0)
    moments = iter(range(10_000))
    monkeypatch.setattr(batches.time, "perf_counter", lambda: float(next(moments)))
    made = actor(Scripted())
    before = next(moments)
    made(rows(6))
    seconds = read_answers(Folder(str(tmp_path / "answers")))["seconds"].to_pylist()
    assert len(seconds) == 6 and sum(seconds) == next(moments) - before - 2, "a second for each look but the first"


@pytest.mark.parametrize(
    ("block", "cached", "warned"),
    [
        (None, None, None),
        (16, 16, None),
        (16, 0, "the engine kept nothing of the"),
        (544, 0, "the engine keeps 544 tokens of a prompt together, and what all prompts share has"),
    ],
)
def test_a_prefix_that_is_not_kept_is_said(actor: Any, block: int | None, cached: int | None, warned: str) -> None:
    notes: list[dict[str, Any]] = []
    actor(Scripted(block=block, cached=cached), tell=notes.append)
    found = [note["warning"] for note in notes if "warning" in note]
    assert [one.startswith(warned) for one in found] == ([True] if warned else [])


@pytest.mark.parametrize("template", [None, "Label it: {text}"])
def test_a_model_that_has_a_word_of_the_probe_for_a_control_token_starts_all_the_same(
    actor: Any, template: str | None
) -> None:
    engine = Scripted(block=1)
    [[number]] = engine.tokenizer(["sales"])["input_ids"]
    engine.tokenizer.added_tokens_decoder = {number: "its own spelling"}
    notes: list[dict[str, Any]] = []
    actor(engine, tell=notes.append, template=template)
    assert [note for note in notes if "warning" in note] == []


def test_replicas_that_warn_of_the_same_are_heard_once() -> None:
    class Quiet:
        def at(self, rows: int) -> None:
            pass

    live: Any = Live(Quiet(), "label")  # type: ignore[arg-type]
    live.heard([{"warning": "slow"}, {"warning": "slow"}, {"warning": "unsure"}])
    assert live.warnings == ["slow", "unsure"]
