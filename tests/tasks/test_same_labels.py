"""What is a label and what is not: answers, spellings, classes by number, recorded columns, many labels."""

from __future__ import annotations

import csv
import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import annotators, splits
from runner.planning.files import check_files
from runner.spec import load_spec
from runner.stages import load, vote
from runner.system.errors import DataError, SpecError
from runner.tasks.shared import labels
from runner.tasks.single_label import metrics, recorded
from runner.tasks.single_label.answers import read_label

NFC, NFD = (unicodedata.normalize(form, "négatif") for form in ("NFC", "NFD"))
EN, DE = ("negative", "neutral", "positive"), ("positiv", "neutral", "negativ")
ZH, JA = ("正面", "负面"), ("ポジティブ", "ネガティブ")
NUMBERS = ("1", "2", "3", "4")

ANSWERS_DENIED = [
    ("nicht positiv", DE),
    ("kein Spam", ("Spam", "Ham")),
    ("pas positif", ("positif", NFC)),
    ("far from positive", EN),
    ("isnt positive", EN),
    ("lacks positive news", EN),
    ("zero toxic content", ("toxic", "fine")),
    ("niet positief", ("positief", "negatief")),
    ("não positivo", ("positivo", "negativo")),
    ("si positivo", ("positivo", "negativo")),
    ("не позитивный", ("позитивный", "негативный")),
    ("不是正面", ZH),
    ("非正面。", ZH),
    ("ポジティブではない", JA),
    ("긍정이 아닙니다", ("긍정", "부정")),
    ("यह सकारात्मक नहीं है", ("सकारात्मक", "नकारात्मक")),
    ("ليس إيجابي", ("إيجابي", "سلبي")),
    ("anti spam", ("spam", "ham")),
    ("anything positive? nope", EN),
    ("slightly positive", EN),
    ("neutral leaning towards positive", EN),
    ("in correct", ("correct", "wrong")),
    ("It is amoral.", ("moral", "other")),
]
ANSWERS_WITHOUT_A_LABEL = [
    ("Label: not positive", EN),
    ("Label: positive is wrong", EN),
    ("Label: positive\nNo, wait, that is wrong.", EN),
    ("Label: positive\nReason: on second thoughts it is negative.", EN),
    ("The label is positive?", EN),
    ("Do not answer with:\npositive", EN),
    ("This is not:\nLabel: positive", EN),
    ("label != positive", EN),
    ("label!=positive", EN),
    ("!positive", EN),
    ("[ ] positive", EN),
    ("~~positive~~", EN),
    ("The label is <s>positive</s>", EN),
    ("positive: 0%", EN),
    ("positive \U0001f44e", EN),
    ("Label: 3.5", NUMBERS),
    ("Label: 3/5", NUMBERS),
    ("Label: -1", ("0", "1")),
    ("Label: - 1", ("0", "1")),
    ("no label", ("yes", "no")),
    ("<think>So far the label: positive", EN),
]
ANSWERS_WITH_A_LABEL = [
    ("正面。", ZH, "正面"),
    ("「正面」", ZH, "正面"),
    ("标签：正面", ZH, "正面"),  # noqa: RUF001
    ("这段文本的情感是正面的。", ZH, "正面"),
    ("ラベル：ポジティブ", JA, "ポジティブ"),  # noqa: RUF001
    ("このテキストの感情はポジティブです。", JA, "ポジティブ"),
    ("정답은 긍정입니다.", ("긍정", "부정"), "긍정"),
    ("यह सकारात्मक है", ("सकारात्मक", "नकारात्मक"), "सकारात्मक"),
    ("التصنيف: إيجابي", ("إيجابي", "سلبي"), "إيجابي"),
    ("Ответ: позитивный.", ("позитивный", "негативный"), "позитивный"),
    ("Die Antwort ist positiv.", DE, "positiv"),
    ("L'étiquette est « positif ».", ("positif", NFC), "positif"),
    (f"Étiquette : {NFD}", ("positif", NFC), NFC),
    ("La etiqueta es positivo", ("positivo", "negativo"), "positivo"),
    ("Il sentimento è positivo.", ("positivo", "negativo"), "positivo"),
    ("O sentimento é positivo", ("positivo", "negativo"), "positivo"),
    ("Het antwoord is: positief", ("positief", "negatief"), "positief"),
    ("Label: 3", NUMBERS, "3"),
    ("The answer is 3.", NUMBERS, "3"),
    ("3.0", NUMBERS, "3"),
    ("The label is Finance.", ("HR", "Finance", "Legal"), "Finance"),
    ("It is HR.", ("HR", "Finance", "IT"), "HR"),
    ("It is Finance", ("HR", "Finance", "IT"), "Finance"),
    ("The label is IT.", ("HR", "Finance", "IT"), "IT"),
    ("**Label:** positive", EN, "positive"),
    ("Label: **positive**\n\nExplanation: The text does not hide its joy.", EN, "positive"),
    ("Sales did not fall, as some had feared.\n\nLabel:\n**positive**", EN, "positive"),
    ("<answer>positive</answer>", EN, "positive"),
    ("```text\nLabel: positive\n```", EN, "positive"),
    ("<think>Is it negative? No.</think>\n\npositive", EN, "positive"),
    ("Sure! Here is the label: positive", EN, "positive"),
    ("Positive sentiment.", EN, "positive"),
    ('["positive"]', EN, "positive"),
]


@pytest.mark.parametrize(("answer", "known"), [*ANSWERS_DENIED, *ANSWERS_WITHOUT_A_LABEL])
def test_05_what_is_denied_doubted_or_taken_back_is_no_label(answer: str, known: tuple[str, ...]) -> None:
    assert read_label(answer, known) is None


@pytest.mark.parametrize(("answer", "known", "expected"), ANSWERS_WITH_A_LABEL)
def test_05_a_label_among_harmless_words_is_read(answer: str, known: tuple[str, ...], expected: str) -> None:
    assert read_label(answer, known) == expected


@pytest.mark.parametrize(("cell", "known"), ANSWERS_DENIED)
def test_05_a_recorded_cell_is_never_prose(cell: str, known: tuple[str, ...]) -> None:
    assert recorded.label_of(cell, known) is None
    assert recorded.label_of(f"The label is {known[0]}.", known) is None


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("positive", "positive"),
        (" Positive. ", "positive"),
        ('"positive"', "positive"),
        ('{"label": "positive", "reason": "not negative"}', "positive"),
        ('{"negative": 0.2, "positive": 0.8}', "positive"),
        ('{"label": "not positive"}', None),
        ("", None),
    ],
)
def test_05_a_recorded_cell_is_a_label_or_json_or_nothing(cell: str, expected: str | None) -> None:
    assert recorded.label_of(cell, EN) == expected


def test_05_a_denied_cell_is_no_vote_in_a_run(job: Any) -> None:
    said = ("negative", "not negative", "negative")
    job.csv("train.csv", [("Up.", "", *("positive",) * 3), ("Down.", "", *said), ("So.", "", *("neutral",) * 3)])
    votes = {row["text"]: row["votes"] for row in job.do("vote").read_table("votes.parquet").to_pylist()}
    assert votes["Down."] == ["negative", None, "negative"]


SAME = [
    (NFD, (NFC, "neutre"), NFC),
    (NFC, (NFD, "neutre"), NFD),
    ("good ", ("good", "bad"), "good"),
    ("\u00a0good\u3000", ("good", "bad"), "good"),
    ("neutral  to\tpositive", ("neutral", "neutral to positive"), "neutral to positive"),
    ("GOOD", ("good", "bad"), "good"),
    ("STRASSE", ("stra\u00dfe", "weg"), "stra\u00dfe"),
    (True, ("true", "false"), "true"),
    ("True", ("true", "false"), "true"),
    (1, ("0", "1"), "1"),
    (1.0, ("0", "1"), "1"),
    ("1.0", ("0", "1"), "1"),
    ("1.0", ("1", "1.0"), "1.0"),
    ("1", ("1.0", "2.0"), "1.0"),
    ("1.5", ("1", "2"), None),
    (True, ("0", "1"), None),
    ("go od", ("good", "bad"), None),
    ("good\u200b", ("good", "bad"), None),
    (None, ("None", "good"), None),
]


@pytest.mark.parametrize(("cell", "known", "expected"), SAME)
def test_07_one_rule_says_when_two_labels_are_the_same(cell: object, known: tuple[str, ...], expected: Any) -> None:
    assert labels.find(cell, known) == expected


def test_07_what_looks_alike_is_shown_in_ascii() -> None:
    assert "'g\\u043e\\u043ed'" in labels.unknown("g\u043e\u043ed", ("good", "bad"))
    from runner.system.errors import did_you_mean

    assert did_you_mean(NFD, [NFC]) == " (did you mean 'n\\xe9gatif'? This is 'ne\\u0301gatif')"


FRENCH = """version: 1
name: small
task:
  labels: [négatif, neutre, positif]
  examples: [{text: Quel bonheur., label: Positif}]
data:
  train: {path: train.csv}
  test: {path: test.csv, label: label}
teacher: {engine: recorded, model: us, columns: [vote]}
evaluate: {compare: {them: {path: other.csv}}}
student: {model: "catalog:all-minilm-l6-v2"}
"""
ROWS = [("Il pleut.", NFC), ("Il fait beau.", "positif"), ("Il est midi.", "neutre")]


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_07_composed_and_decomposed_labels_are_the_same_everywhere(job: Any, form: Any) -> None:
    job.path.write_text(unicodedata.normalize("NFC" if form == "NFD" else "NFD", FRENCH), encoding="utf-8")
    rows = [(text, unicodedata.normalize(form, label).upper()) for text, label in ROWS]
    write_csv(job.root / "train.csv", ("text", "vote"), [(f"Train: {text}", label) for text, label in rows])
    write_csv(job.root / "test.csv", ("text", "label", "vote"), [(text, label, label) for text, label in rows])
    write_csv(job.root / "other.csv", ("text", "label"), rows)
    spec = job.spec()
    check_files(spec)
    own = list(spec.task.labels)
    assert spec.task.written[0].label == own[2]
    assert [row["label"] for row in job.do("load").read_table("test.parquet").to_pylist()] == [own[0], own[2], own[1]]
    votes = job.do("vote").read_table("votes.parquet").to_pylist()
    assert [row["label"] for row in votes] == [own[0], own[2], own[1]] * 2
    said = annotators.read_all(spec, job.do("load").read_table("test.parquet").to_pylist())["them"]
    assert list(said.values.values()) == [own[0], own[2], own[1]]


def test_07_a_spec_cannot_hold_one_label_in_two_forms(job: Any) -> None:
    job.path.write_text(FRENCH.replace("neutre,", f"{NFD},"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"'ne\\u0301gatif' is 'n\\xe9gatif' but for how its characters are composed"):
        job.spec()


def test_07_texts_that_differ_in_how_they_are_composed_leak(job: Any) -> None:
    job.csv(
        "train.csv", [(unicodedata.normalize("NFD", "Été."), "", *("neutral",) * 3), ("Kept.", "", *("neutral",) * 3)]
    )
    job.csv("test.csv", [("Été.", "neutral", *("neutral",) * 3), ("Bad.", "negative", *("negative",) * 3)])
    train, _, _ = splits.read_splits(job.spec())
    assert [row["text"] for row in train.rows.values()] == ["Kept."]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("cells", "known"), [(["good ", "BAD"], "good, bad"), ([True, False], "'true', 'false'")])
def test_07_every_format_has_the_same_labels(tmp_path: Path, kind: str, cells: list[Any], known: str) -> None:
    columns = {"text": ["A.", "B."], "label": cells}
    path = tmp_path / f"test.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(lines))
    else:
        write_csv(path, ("text", "label"), list(zip(*columns.values(), strict=True)))
    write_csv(tmp_path / "train.csv", ("text",), [("C.",)])
    (tmp_path / "spec.yaml").write_text(
        f"version: 1\nname: small\ntask: {{labels: [{known}]}}\n"
        f"data: {{train: {{path: train.csv}}, test: {{path: test.{kind}, label: label}}}}\nteacher: {{model: o/t}}\n"
    )
    spec = load_spec(tmp_path / "spec.yaml")
    check_files(spec)
    test = splits.read_splits(spec)[1]
    assert [row["label"] for row in test.rows.values()] == list(spec.task.labels)


def write_classes(path: Path, names: list[str], **columns: list[Any]) -> None:
    """A parquet file as ``datasets`` writes it: integers, and their names in the schema's metadata."""
    features = {name: {"dtype": "string", "_type": "Value"} for name in columns if name == "text"}
    features |= {name: {"names": names, "_type": "ClassLabel"} for name in columns if name != "text"}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def classes_job(job: Any, names: list[str], known: str, numbers: list[Any]) -> Any:
    texts = [f"Text {number}." for number in range(len(numbers))]
    write_classes(job.root / "test.parquet", names, text=texts, label=numbers, vote=numbers)
    write_classes(job.root / "train.parquet", names, text=[f"Train: {text}" for text in texts], vote=numbers)
    write_classes(job.root / "pool.parquet", names, text=[f"Pool: {text}" for text in texts], label=numbers)
    return [
        f"task.labels={known}",
        "data.train.path=train.parquet",
        "data.test.path=test.parquet",
        "teacher.columns=[vote]",
        "task.examples={from: pool.parquet, k: 2}",
    ]


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (["bad", "good"], "[good, bad]", ["bad", "good", "bad"]),
        (["2", "0", "1"], "['0', '1', '2']", ["2", "0", "2"]),
    ],
)
@pytest.mark.parametrize("kind", [int, float])
def test_08_integers_with_names_are_their_names(
    job: Any, names: list[str], known: str, expected: list[str], kind: Any
) -> None:
    overrides = classes_job(job, names, known, [kind(0), kind(1), kind(0)])
    check_files(job.spec(*overrides))
    here = job.do("vote", *overrides)
    assert [row["label"] for row in here.read_table("votes.parquet").to_pylist()] == expected * 2
    spec = job.spec(*overrides)
    assert [row["label"] for row in splits.read_splits(spec)[1].rows.values()] == expected
    assert [row["label"] for row in splits.examples_of(spec)] == expected
    assert "classes" in load.key(spec) and "classes" not in load.key(load_spec(job.path))


def test_08_integers_whose_names_the_task_lacks_are_explained(job: Any) -> None:
    overrides = classes_job(job, ["bad", "good"], "['0', '1']", [0, 1])
    said = r"test\.parquet:row 1: the label 'bad' is not among task\.labels \(0, 1\); the file writes 0, which its"
    with pytest.raises(DataError, match=said):
        splits.read_splits(job.spec(*overrides))


def test_08_a_class_without_a_name_is_refused_and_minus_one_is_none(job: Any) -> None:
    overrides = classes_job(job, ["bad", "good"], "[bad, good]", [0, 1, 2])
    with pytest.raises(DataError, match=r"train\.parquet:row 3: the class 2 has no name"):
        splits.read_splits(job.spec(*overrides))
    overrides = classes_job(job, ["bad", "good"], "[bad, good]", [0, 1, -1])
    with pytest.raises(DataError, match=r"test\.parquet:row 3: the label '' is not among"):
        splits.read_splits(job.spec(*overrides))


def number_job(job: Any, cells: list[str], known: str) -> list[str]:
    write_csv(job.root / "train.csv", ("text", "vote"), [(f"Train {n}.", cell) for n, cell in enumerate(cells)])
    rows = [("A.", "0", "0"), ("B.", "1", "1")]
    write_csv(job.root / "test.csv", ("text", "label", "vote"), rows if "0" in known else [])
    return [f"task.labels={known}", "teacher.columns=[vote]", "task.examples=[]"]


def test_08_a_number_without_a_fraction_is_its_integer(job: Any) -> None:
    overrides = number_job(job, ["1.0", "0.0", "1.0"], "['0', '1']")
    check_files(job.spec(*overrides))
    votes = job.do("vote", *overrides).read_table("votes.parquet").to_pylist()
    assert [row["label"] for row in votes if row["split"] == "train"] == ["1", "0", "1"]


def recorded_job(job: Any, cells: list[str]) -> None:
    job.csv("train.csv", [(f"Train {n}.", "", cell, cell, cell) for n, cell in enumerate(cells)])


def test_08_validate_lists_what_a_recorded_column_holds(job: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(job.root)
    recorded_job(job, ["1.0"] * 15 + ["0.0"] * 10)
    with pytest.raises(SpecError) as caught:
        check_files(job.spec())
    assert "column anna holds '1.0' (15), '0.0' (10)" in str(caught.value)
    assert "task.labels are negative, neutral, positive" in str(caught.value)


def test_08_a_column_of_which_no_cell_is_a_vote_is_refused(job: Any) -> None:
    job.csv("train.csv", [("Up.", "", "positive", "5", "positive"), ("Down.", "", "negative", "1", "negative")])
    job.csv("test.csv", [("A.", "positive", "positive", "5", ""), ("B.", "negative", "negative", "1", "neutral")])
    said = r"column ben holds '5' \(2\), '1' \(2\); task\.labels are negative, neutral, positive"
    with pytest.raises(SpecError, match=rf"teacher\.columns\.1: no cell is a vote: {said}"):
        check_files(job.spec())
    with pytest.raises(DataError, match=said):
        job.do("vote")


def test_08_nobody_is_told_to_instruct_a_recorded_teacher(job: Any) -> None:
    recorded_job(job, ["1.0", "0.0"])
    with pytest.raises(DataError, match=r"column anna holds '1\.0' \(1\)") as caught:
        job.do("vote")
    assert "instructions" not in str(caught.value) and "task.examples" not in str(caught.value)


def test_08_validate_looks_at_the_labels_of_others(job: Any) -> None:
    write_csv(job.root / "other.csv", ("text", "label"), [("A record year.", "5"), ("It makes paper.", "4")])
    said = r"evaluate\.compare\.api\.label: not one answer names a label of the task: column label holds '5' \(1\)"
    with pytest.raises(SpecError, match=said):
        check_files(job.spec("evaluate.compare={api: {path: other.csv}}"))


PARTLY = ["positive", "neutral", "negative"] * 10 + [""] * 15


def test_15_rows_without_a_vote_count_against_max_failure_rate(job: Any) -> None:
    recorded_job(job, PARTLY)
    said = r"15 of 48 rows \(31\.2 %\) have no usable vote: column anna holds nothing \(15\); .* allows 5 %"
    with pytest.raises(SpecError, match=said):
        check_files(job.spec())
    with pytest.raises(DataError, match=said):
        job.do("vote")


def test_15_rows_without_a_vote_are_told_where_they_are_allowed(job: Any) -> None:
    recorded_job(job, PARTLY)
    allowed = "teacher.max_failure_rate=0.4"
    check_files(job.spec(allowed))
    [warning] = job.do("vote", allowed).done["summary"]["warnings"]
    assert warning.startswith("15 of 48 rows (31.2 %) have no usable vote: column anna holds nothing (15)")
    assert f"vote: warning: {warning}" in job.said.getvalue()


def test_15_no_row_may_lack_a_vote_where_none_may_fail(job: Any) -> None:
    recorded_job(job, ["positive", "neutral", "n/a"])
    assert job.do("vote").done["summary"]["abstained_by_reason"] == {"no usable answer": 1}
    with pytest.raises(DataError, match=r"1 of 6 rows"):
        vote.run(job.context("vote", job.spec("teacher.max_failure_rate=0")))


MANY = [f"intent {number}" for number in range(1000)]


def test_25_a_thousand_labels_are_a_spec_and_one_more_is_none(job: Any) -> None:
    assert len(job.spec(f"task.labels={json.dumps(MANY)}", "task.examples=[]").task.labels) == 1000
    with pytest.raises(SpecError, match="must have at most 1000 items, found 1001"):
        job.spec(f"task.labels={json.dumps([*MANY, 'one more'])}", "task.examples=[]")


def test_25_a_thousand_labels_are_loaded_and_counted_without_long_lines(job: Any) -> None:
    rows = [(f"Text {number}.", label) for number, label in enumerate(MANY)]
    job.csv("train.csv", [(f"Train: {text}", "", *(label,) * 3) for text, label in rows[:500]])
    job.csv("test.csv", [(text, label, *(label,) * 3) for text, label in rows[100:]])
    start = time.process_time()
    summary = job.do("vote", f"task.labels={json.dumps(MANY)}", "task.examples=[]").done["summary"]
    assert time.process_time() - start < 20
    [warning] = summary["warnings"]
    assert "one of 500 labels that 500 test texts have (intent 500" in warning and "and 488 more" in warning
    assert max(map(len, job.said.getvalue().splitlines())) < 600


@pytest.mark.slow("long")
def test_25_a_thousand_labels_are_scored_and_shown_by_their_worst_pairs() -> None:
    from runner.tasks.single_label import plots, tables

    rng = np.random.default_rng(0)
    truth = [MANY[k] for k in rng.integers(0, 1000, 3000)]
    said: list[str | None] = [MANY[3] if label == MANY[7] else label for label in truth]
    start = time.process_time()
    score = metrics.score(MANY, truth, said, None)
    assert score["confusion"] is None
    assert score["confused"] == [[MANY[7], MANY[3], truth.count(MANY[7])]]
    low, high = score["ci95"]["accuracy"]
    assert low <= score["accuracy"] <= high
    assert plots.counts_given(score, MANY)[3] == truth.count(MANY[7]) + truth.count(MANY[3])
    drawn = plots.confusion("student", MANY, score)
    assert time.process_time() - start < 20
    assert "intent 7 taken for intent 3" in drawn and len(drawn) < 100_000
    scores = {"labels": MANY, "student": score, "teacher": score}
    shares = plots.shares({"evaluate": scores, "label": {"class_shares": dict.fromkeys(MANY, 0.001)}})
    assert len(shares) < 200_000
    assert tables.in_tables(scores)[0] == MANY[7] and len(tables.in_tables(scores)) == tables.MANY


def test_25_fifty_labels_keep_their_matrix_and_its_intervals() -> None:
    truth = [EN[k % 3] for k in range(90)]
    said = [EN[(k % 3 + (k % 10 == 0)) % 3] for k in range(90)]
    score = metrics.score(EN, truth, said, None)
    assert score["confusion"] == [[27, 3, 0], [0, 27, 3], [3, 0, 27]] and "confused" not in score
    assert score["ci95"]["accuracy"] == pytest.approx([0.8333, 0.9556], abs=0.01)
