"""The labelling actor with the engine that has no model: every row accounted for, from many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.rundir.folder import Folder
from runner.system.errors import EngineError
from runner.tasks.single_label.asking import LabelAnswer
from runner.teacher.answer_store import read_answers
from runner.teacher.engines.protocol import Sampling
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.prompt import Example, Task
from runner.teacher.worker import OVER_BUDGET, QUESTIONS, Asking, Labeller

LABELS = ("negative", "neutral", "positive")
SHOWN = ([], [1], [1, 2], [2, 1], [1])


def labeller(folder: Path, kind: str = "direct", context: int = 4096, over: str | None = None, **more: Any) -> Labeller:
    sampling = Sampling(temperature=0.8, top_p=1.0, top_k=20, max_tokens=64)
    asking = Asking(Task(LabelAnswer(LABELS), "Label it.", (), kind), 3, True, sampling, 0, **more)
    return Labeller("noop", "", asking, EngineSettings(context, 0, 0), str(folder), over=over)


def batch(*texts: str, start: int = 0) -> pa.Table:
    lines = [{"id": f"r{start + i}", "kind": "row", "text": text} for i, text in enumerate(texts)]
    return pa.Table.from_pylist(lines, schema=QUESTIONS)


def test_a_distribution_for_each_row(tmp_path: Path) -> None:
    results = labeller(tmp_path)(batch("Sales rose.", "Sales fell.")).to_pylist()
    assert [(row["id"], row["error"]) for row in results] == [("r0", None), ("r1", None)]
    answers = read_answers(Folder(str(tmp_path))).to_pylist()
    assert {answer["id"] for answer in answers} == {"r0", "r1"}
    for row in results:
        (answer,) = (one for one in answers if one["id"] == row["id"])
        names = ("prompt_tokens", "output_tokens")
        assert [row[name] for name in names] == [answer[name] for name in names]
    assert all(sum(answer["label_probabilities"]) == pytest.approx(1) for answer in answers)


def test_votes_are_stored_one_by_one(tmp_path: Path) -> None:
    labeller(tmp_path, "cot")(batch(*[f"Text {i}." for i in range(20)]))
    answers = read_answers(Folder(str(tmp_path))).to_pylist()
    assert len({(answer["id"], answer["vote"]) for answer in answers}) == len(answers)
    assert 40 < len(answers) < 60
    assert all(answer["text"] for answer in answers)


@pytest.mark.parametrize("kind", ["direct", "cot"])
def test_a_batch_that_was_stored_by_an_actor_that_died_is_not_asked_again(tmp_path: Path, kind: str) -> None:
    """Ray gives it to the next actor, which says of it what the first one could not say any more."""
    given = batch("Sales rose.", "Sales fell.", "word " * 5000)
    said = labeller(tmp_path, kind)(given).to_pylist()
    assert [row["error"] is None for row in said] == [True, True, False]
    stored = {path: path.read_bytes() for path in tmp_path.iterdir()}
    after = labeller(tmp_path, kind)
    after._engine.submit = lambda *_: pytest.fail("asked again")  # type: ignore[method-assign]
    assert after(given).to_pylist() == said
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == stored


def test_what_the_stored_part_of_a_batch_lacks_is_asked_and_stored_beside_it(tmp_path: Path) -> None:
    whole = labeller(tmp_path / "whole", "cot")(batch("Sales rose.", "Sales fell.")).to_pylist()
    expected = read_answers(Folder(str(tmp_path / "whole"))).to_pylist()
    one = labeller(tmp_path / "part", "cot")
    one(batch("Sales rose.", "Sales fell."))
    (file,) = (tmp_path / "part").iterdir()
    table = read_answers(Folder(str(tmp_path / "part")))
    Folder(str(tmp_path / "part")).write_table(file.name, table.slice(0, 1))
    assert one(batch("Sales rose.", "Sales fell.")).to_pylist() == whole
    written = [len(pq.read_table(part)) for part in (tmp_path / "part").iterdir()]
    assert len(written) == 2 and sum(written) == len(expected), "nothing is stored twice"
    found = read_answers(Folder(str(tmp_path / "part"))).to_pylist()
    told = [[(a["id"], a["vote"], a["attempt"], a["text"]) for a in answers] for answers in (found, expected)]
    assert sorted(told[0]) == sorted(told[1])


def test_batches_from_many_threads_share_the_engine_and_its_time(tmp_path: Path) -> None:
    one = labeller(tmp_path, "cot")
    with ThreadPoolExecutor(8) as pool:
        batches = [batch(*[f"Text {n} of {start}." for n in range(50)], start=start) for start in range(0, 1000, 50)]
        results = list(pool.map(one, batches))
    assert sorted(id_ for result in results for id_ in result["id"].to_pylist()) == sorted(f"r{i}" for i in range(1000))
    answers = read_answers(Folder(str(tmp_path)))
    assert len(set(answers["id"].to_pylist())) == 1000
    assert all(second > 0 for second in answers["seconds"].to_pylist())


def test_a_row_that_is_too_long_fails_alone_or_is_cut(tmp_path: Path) -> None:
    long = "word " * 500
    results = labeller(tmp_path / "a", context=300)(batch("Sales rose.", long, "x" * 100_000)).to_pylist()
    assert results[0]["error"] is None
    assert all(row["error"].startswith("too long") for row in results[1:])
    results = labeller(tmp_path / "b", context=300, truncate=True)(batch("Sales rose.", long)).to_pylist()
    assert [row["error"] for row in results] == [None, None]
    answers = {row["id"]: row for row in read_answers(Folder(str(tmp_path / "b"))).to_pylist()}
    assert answers["r1"]["prompt_tokens"] <= 300


def test_labels_that_no_token_tells_apart_are_refused(tmp_path: Path) -> None:
    sampling = Sampling(0.0, 1.0, 0, 8)
    asking = Asking(Task(LabelAnswer(("a b", "a  b")), "", ()), 1, True, sampling, 0)
    with pytest.raises(EngineError, match="rename them"):
        Labeller("noop", "", asking, EngineSettings(256, 0, 0), str(tmp_path))(batch("x"))


def test_a_context_that_holds_no_text_is_said_once_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"prompt takes \d+ tokens .* no text fits into teacher.max_context \(20\)"):
        labeller(tmp_path, context=20)(batch("Sales rose."))


def test_after_the_limit_only_what_was_begun_is_answered(tmp_path: Path) -> None:
    one = labeller(tmp_path, over="x.over")
    Folder(str(tmp_path)).write("x.over", b"")
    assert one(batch("Sales rose."))["error"].to_pylist() == [None]
    late = {"id": "r1", "error": OVER_BUDGET, "prompt_tokens": 0, "output_tokens": 0}
    assert one(batch("Sales fell.", start=1)).to_pylist() == [late]
    assert read_answers(Folder(str(tmp_path)))["id"].to_pylist() == ["r0"]


def test_a_row_is_shown_its_own_examples(tmp_path: Path) -> None:
    pool = tuple(Example(f"Example {n}.", LABELS[n % 3]) for n in range(4))
    asking = Asking(Task(LabelAnswer(LABELS), "Label it.", ()), 1, True, Sampling(0.0, 1.0, 0, 8), 0, pool=pool)
    one = Labeller("noop", "", asking, EngineSettings(4096, 0, 0), str(tmp_path))
    rows = [{"id": f"r{n}", "kind": "row", "text": "Sales rose.", "examples": shown} for n, shown in enumerate(SHOWN)]
    assert one(pa.Table.from_pylist(rows, schema=QUESTIONS))["error"].null_count == len(rows)
    answers = {row["id"]: row for row in read_answers(Folder(str(tmp_path))).to_pylist()}
    tokens = [answers[f"r{n}"]["prompt_tokens"] for n in range(len(SHOWN))]
    assert tokens[0] < tokens[1] < tokens[2] == tokens[3]
    said = [tuple(answers[f"r{n}"]["label_probabilities"]) for n in range(len(SHOWN))]
    assert said[2] != said[3], "their order is part of the prompt"
    assert said[1] == said[4]
