"""From files to verdicts of several labels, through the stages that need no Ray; and what is refused on the way."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.splits import read_splits
from runner.planning.files import check_files
from runner.system.errors import DataError, SpecError
from runner.tasks.multi_label import auditing, calibrate, judging
from runner.tasks.multi_label.pooling import alpha, pool_labels
from runner.teacher.batch import ANSWERS

LABELS = ["merger", "lawsuit", "results"]
SPEC = """\
version: 1
name: small
task:
  type: multi-label
  labels: [merger, lawsuit, results]
  instructions: What is the news about?
  examples:
    - {text: The court blocked the deal., label: [lawsuit, merger], reason: A deal and a court.}
    - {text: It rained., label: []}
data:
  train: {path: train.csv, text: text}
  test: {path: test.csv, text: text, label: label}
teacher: {engine: recorded, model: three people, columns: [anna, ben, carl]}
student: {model: "catalog:all-minilm-l6-v2"}
"""
TRAIN = (
    ("A buys B.", "", "merger", "merger", "merger;results"),
    ("A sues B over the deal.", "", "merger;lawsuit", "lawsuit", '["lawsuit", "merger"]'),
    ("Profit rose.", "", "results", "results", "[]"),
    ("Nothing happened.", "", "[]", "[]", "results"),
    ("Nobody has looked.", "", "merger", "", "[]"),
)
TEST = (
    ("C buys D.", "merger", "merger", "merger", "merger"),
    ("E is sued.", "['lawsuit']", "lawsuit", "lawsuit", "[]"),
    ("Sales fell.", "results", "results", "results", "results"),
    ("A day.", "[]", "[]", "[]", "[]"),
)


@pytest.fixture
def news(job: Any) -> Any:
    job.path.write_text(SPEC, encoding="utf-8")
    job.csv("train.csv", TRAIN)
    job.csv("test.csv", TEST)
    return job


def by_text(table: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["text"]: row for row in table.to_pylist()}


def test_votes_become_labels_with_their_shares(news: Any) -> None:
    check_files(news.spec())
    verdicts = by_text(news.do("vote").read_table("votes.parquet"))
    both = verdicts["A sues B over the deal."]
    assert both["label"] == ["merger", "lawsuit"]
    assert both["votes"] == [["merger", "lawsuit"], ["lawsuit"], ["merger", "lawsuit"]]
    assert both["agreement"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert both["probabilities"][1] > both["probabilities"][0] > 0.5 > 0.05 > both["probabilities"][2] > 0
    assert verdicts["Nothing happened."]["label"] == []
    assert verdicts["Nobody has looked."]["votes"] == [["merger"], None, []]
    assert verdicts["Nobody has looked."]["label"] == []  # one of two is no majority


def test_examples_reach_the_teacher_and_gold_the_test_rows(news: Any) -> None:
    loaded = news.do("load")
    assert [row["label"] for row in loaded.read_table("examples.parquet").to_pylist()] == [["merger", "lawsuit"], []]
    assert [row["label"] for row in loaded.read_table("test.parquet").to_pylist()] == [
        ["merger"],
        ["lawsuit"],
        ["results"],
        [],
    ]


def test_a_column_for_each_label_says_the_same(news: Any) -> None:
    header = ("text", "results", "merger", "lawsuit", "anna", "ben", "carl")
    rows = [(t, *(str(float(label in value)) for label in header[1:4]), *votes) for t, value, *votes in (
        ("C buys D.", ["merger"], "merger", "merger", "merger"),
        ("E is sued.", ["lawsuit"], "lawsuit", "lawsuit", "[]"),
        ("A day.", [], "[]", "[]", "[]"),
    )]  # fmt: skip
    news.csv("test.csv", rows, header)
    spec = news.spec("data.test.label=[merger,lawsuit,results]")
    check_files(spec)
    assert [row["label"] for row in read_splits(spec)[1].rows.values()] == [["merger"], ["lawsuit"], []]
    news.csv("test.csv", [(*rows[0][:2], "yes please", *rows[0][3:]), *rows[1:]], header)
    with pytest.raises(SpecError, match=r"line 2 has .*column 'merger' holds 'yes please', and must hold 0 or 1"):
        check_files(news.spec("data.test.label=[merger,lawsuit,results]"))
    with pytest.raises(DataError, match=r"test\.csv:2: column 'merger' holds 'yes please'"):
        read_splits(news.spec("data.test.label=[merger,lawsuit,results]"))


def test_columns_are_only_for_kinds_that_read_them(job: Any) -> None:
    with pytest.raises(SpecError, match="a text has one label: name the one column"):
        job.spec("data.test.label=[anna,ben]")


@pytest.mark.parametrize("cell", ["", "merger,results", "takeover", "[merger"])
def test_what_validate_refuses_the_run_refuses_too(news: Any, cell: str) -> None:
    news.csv("test.csv", [(TEST[0][0], cell, *TEST[0][2:]), *TEST[1:]])
    with pytest.raises(SpecError, match=r"every row needs a list of task\.labels"):
        check_files(news.spec())
    with pytest.raises(DataError, match=r"test\.csv:2: "):
        read_splits(news.spec())


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_lists_of_files_are_read_and_refused_where_a_text_has_one_label(news: Any, job: Any, form: str) -> None:
    rows = [{"text": "C buys D.", "label": ["results", "merger"]}, {"text": "A day.", "label": []}]
    path = news.root / f"test.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows) if form == "jsonl" else json.dumps(rows)
        path.write_text(text, encoding="utf-8")
    wanted = (f"data.test.path=test.{form}", "teacher.engine=noop", "teacher.columns=[]")
    check_files(news.spec(*wanted))
    assert [row["label"] for row in read_splits(news.spec(*wanted))[1].rows.values()] == [["merger", "results"], []]
    with pytest.raises(SpecError, match=r"holds (a list|values of type list)"):
        check_files(news.spec(*wanted, "task.type=single-label", "task.examples=[]"))


@pytest.mark.parametrize("kind", ["Sequence", "List", "list"])
def test_class_labels_in_lists_are_read_by_their_names(news: Any, kind: str) -> None:
    inner = {"names": LABELS, "_type": "ClassLabel"}
    feature: Any = [inner] if kind == "list" else {"feature": inner, "_type": kind}
    table = pa.table({"text": ["C buys D.", "A day."], "label": pa.array([[2, 0], []], pa.list_(pa.int64()))})
    features = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": feature}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), news.root / "test.parquet")
    spec = news.spec("data.test.path=test.parquet", "teacher.engine=noop", "teacher.columns=[]")
    check_files(spec)
    assert [row["label"] for row in read_splits(spec)[1].rows.values()] == [["merger", "results"], []]


def test_recorded_probabilities_are_averaged(news: Any) -> None:
    sure = json.dumps({"merger": 0.9, "results": 0.4})
    news.csv("train.csv", [("A buys B.", "", sure, "merger", "[]"), *TRAIN[1:]])
    verdict = by_text(news.do("vote").read_table("votes.parquet"))["A buys B."]
    assert verdict["label"] == ["merger"]
    assert verdict["probabilities"] == pytest.approx([1.9 / 3, 0, 0.4 / 3])


def test_a_column_without_a_vote_is_refused_by_both(news: Any) -> None:
    news.csv("train.csv", [(*row[:4], "who knows") for row in TRAIN])
    news.csv("test.csv", [(*row[:4], "who knows") for row in TEST])
    with pytest.raises(SpecError, match="no cell is a vote: column carl holds 'who knows'"):
        check_files(news.spec())
    with pytest.raises(DataError, match="no cell is a vote in carl"):
        news.do("vote")


def test_rows_that_all_say_the_same_teach_nothing(news: Any) -> None:
    news.csv("train.csv", [(row[0], "", "[]", "[]", "[]") for row in TRAIN])
    with pytest.raises(DataError, match="gave none of them a label"):
        news.do("vote")
    news.csv("test.csv", [(row[0], "merger", *row[2:]) for row in TEST])
    with pytest.raises(DataError, match=r"all 4 rows have the same labels \(merger\)"):
        read_splits(news.spec())


def test_the_second_teacher_is_pooled_label_by_label(news: Any) -> None:
    spec = news.spec("teacher.columns=[anna]", "teacher.also=[{model: ben, columns: [ben]}]")
    rows = [{"id": str(n), "text": t, "split": "train", "label": None} for n, (t, *_) in enumerate(TRAIN)]

    def answers(place: int) -> pa.Table:
        lines = [
            {"id": str(n), "kind": "row", "vote": 0, "attempt": 0, "text": row[place]} for n, row in enumerate(TRAIN)
        ]
        return pa.Table.from_pylist(lines, schema=ANSWERS)

    found = judging.judge(spec, rows, [answers(2), answers(3)])
    assert found.verdicts["0"]["label"] == ["merger"]
    assert found.verdicts["4"]["votes"] == [["merger"], None]
    assert found.verdicts["4"]["label"] == ["merger"]
    assert found.teachers is not None
    assert sum(found.teachers["weights"]) == pytest.approx(1)
    assert found.teachers["pairwise_agreement"][0][1] == pytest.approx(3 / 4)


def test_each_label_is_pooled_as_a_question_of_its_own() -> None:
    truth = np.random.default_rng(0).random((400, 2)) < 0.4
    good, bad = np.where(truth, 0.9, 0.1), np.random.default_rng(1).random((400, 2))
    shares = np.stack([good, good, bad], axis=1)
    found = pool_labels(shares, np.zeros((400, 3), dtype=bool))
    assert ((found.probabilities > 0.5) == truth).all()
    assert found.weights[2] < found.weights[0]
    assert alpha([[["a"], ["a"]], [[], []]], "a") == pytest.approx(1)


def test_a_yes_must_be_surer_than_those_to_texts_without_content() -> None:
    free = np.array([[0.6, 0.001], [0.7, 0.002], [0.65, 0.001]])  # eager, and as it should be
    rows = np.array([[0.72, 0.4], [0.99, 0.6], [0.3, 0.001]])
    found = calibrate.above_nothing(rows, free)
    assert (found[:, 0] < rows[:, 0]).all()
    assert found[0, 0] < 0.5 < found[1, 0]
    assert found[:, 1] == pytest.approx(rows[:, 1])  # what the teacher itself denies stays a no
    assert (np.diff(found[np.argsort(rows[:, 0]), 0]) > 0).all()


def test_labels_are_evened_towards_the_mean_label() -> None:
    rows = np.array([[0.6, 0.1], [0.9, 0.9]])
    found = calibrate.evened(rows, np.array([0.6, 0.1]))
    assert found[0] == pytest.approx([found[0, 0]] * 2)
    assert calibrate.evened(rows, np.array([0.2, 0.2])) == pytest.approx(rows)


def test_direct_answers_are_calibrated_per_label(news: Any) -> None:
    spec = news.spec("teacher.engine=noop", "teacher.columns=[]")

    def line(id_: str, kind: str, shares: list[float]) -> dict[str, Any]:
        return {"id": id_, "kind": kind, "vote": 0, "attempt": 0, "text": None, "label_probabilities": shares}

    lines = [
        line("0", "row", [0.65, 0.6, 0.1]),
        line("1", "row", [0.1, 0.9, 0.1]),
        line("c", "content-free", [0.6, 0.01, 0.01]),
        line("d", "content-free", [0.7, 0.01, 0.02]),
    ]
    rows = [{"id": n, "text": n, "split": "train", "label": None} for n in "01"]
    found = judging.verdicts(spec, rows, [pa.Table.from_pylist(lines, schema=ANSWERS)])
    assert found["0"]["label"] == ["lawsuit"]  # it says merger of everything
    assert found["1"]["label"] == ["lawsuit"]
    raw = judging.verdicts(
        news.spec("teacher.engine=noop", "teacher.columns=[]", "teacher.calibration=none"),
        rows,
        [pa.Table.from_pylist(lines, schema=ANSWERS)],
    )
    assert raw["0"]["label"] == ["merger", "lawsuit"]
    assert raw["0"]["probabilities"] == [0.65, 0.6, 0.1]


def test_the_audit_finds_the_label_that_is_lacking(news: Any) -> None:
    spec = news.spec()
    random = np.random.default_rng(0)
    truth = random.random((200, 3)) < 0.4
    shares = np.where(truth, 0.95, 0.05)
    shares[0] = 1 - shares[0]  # all of this row's labels are wrong
    verdicts: list[dict[str, Any]] = [
        {
            "label": [name for name, share in zip(LABELS, row, strict=True) if share > 0.5],
            "probabilities": row.tolist(),
            "votes": None,
            "agreement": 1.0,
        }
        for row in shares
    ]
    verdicts.append({"label": None, "probabilities": None, "votes": None, "agreement": 0.0})
    students = np.vstack([np.where(truth, 0.9, 0.1), [[0.9, 0.1, 0.1]]])
    found = auditing.findings(spec, verdicts, [students])
    assert found[0]["doubt"] == max(one["doubt"] for one in found[:-1])
    assert found[0]["doubt"] > 0.5 > found[1]["doubt"]
    assert found[0]["opinion"] == [name for name, yes in zip(LABELS, truth[0], strict=True) if yes]
    assert found[-1]["doubt"] == 1.0
    assert found[-1]["consensus"] == ["merger"]
    assert auditing.agreed(verdicts[-1], found[-1])["label"] == ["merger"]
    nothing = auditing.findings(spec, verdicts, [np.full((201, 3), np.nan)])
    assert nothing[0]["opinion"] is None
    assert nothing[0]["consensus"] == verdicts[0]["label"]
    with pytest.raises(ValueError, match="opinions of shape"):
        auditing.findings(spec, verdicts, [students[:, :2]])


def test_real_emotions_are_read_once_converted_as_the_page_says(news: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """GoEmotions writes numbers with commas between them, and no header."""
    folder = Path(os.environ.get("TUTELAGE_DATA", "")) / "go_emotions"
    if not folder.is_dir():
        pytest.skip("the data set go_emotions is not here (TUTELAGE_DATA)")
    page = (Path(__file__).parents[3] / "docs" / "multi-label.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(import csv.*?)```", page, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(news.root)
    (news.root / "go_emotions").symlink_to(folder)
    exec(code[1], {})
    labels = (folder / "labels.txt").read_text(encoding="utf-8").split()
    changes = (f"task.labels=[{', '.join(labels)}]", "task.examples=[]", "teacher.columns=[label]")
    spec = news.spec(*changes, "data.train.path=train.jsonl", "data.test.path=test.jsonl")
    check_files(spec)
    train, test, _ = read_splits(spec)
    assert (train.read, test.read) == (43410, 5427)
    given = [tuple(row["label"]) for row in test.rows.values()]
    assert max(map(len, given)) >= 3
    assert {label for row in given for label in row} == set(labels)
