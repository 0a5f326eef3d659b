"""Reading data: what is read is right, or it is refused with its place; validate and run read the same."""

from __future__ import annotations

import bz2
import codecs
import csv
import datetime
import decimal
import gzip
import io
import json
import lzma
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.commands.cli import main
from runner.data import splits
from runner.data.reading import Source, count_rows, files_of, read_rows, row_id
from runner.data.tables import ColumnError
from runner.data.writing import form_of, write_file
from runner.planning.files import check_files, check_spec
from runner.spec import load_spec
from runner.system.errors import DataError, SpecError, UserError
from runner.system.paths import absolute, at_home

FOUR = [("Up.", "good"), ("Down.", "bad"), ("Caf\u00e9 \u2019s fine", "good"), ('Say "no", please', "bad")]
CHECKED = """version: 1
name: reviews
task: {labels: [good, bad]}
data:
  train: {path: train.csv}
  test: {path: test.csv, label: label}
teacher: {engine: recorded, model: us, columns: [label]}
"""


def reading_texts(path: Path, **more: Any) -> list[str]:
    return [row.values["text"] for row in read_rows(Source(str(path), **more), ["text"])]


def reading_csv(rows: Any = FOUR, delimiter: str = ",", end: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([("text", "label"), *rows])
    return text.getvalue()


def reading_parquet(path: Path, column: Any, kind: Any = None, name: str = "text") -> Path:
    pq.write_table(pa.table({name: pa.array(column, kind)}), path)
    return path


@pytest.fixture
def reading_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recorded job over two good csv files, in the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(CHECKED)
    for name in ("train.csv", "test.csv"):
        Path(name).write_text(reading_csv([(f"{name} {text}", label) for text, label in FOUR]), encoding="utf-8")
    return tmp_path / "spec.yaml"


def reading_problems(*overrides: str) -> list[str]:
    try:
        check_spec("spec.yaml", overrides)
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []


# 6: foreign types


def test_06_bytes_are_text_in_utf_8_or_refused(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())):
        found = reading_parquet(tmp_path / "a.parquet", [b"lovely", "caf\u00e9".encode(), None], kind)
        assert reading_texts(found) == ["lovely", "caf\u00e9", ""]
    reading_parquet(tmp_path / "a.parquet", [b"fine", b"caf\xe9"], pa.binary())
    with pytest.raises(DataError, match=r"a.parquet:row 2: column 'text' holds bytes that are not UTF-8 \(byte 0xe9\)"):
        reading_texts(tmp_path / "a.parquet")


def test_06_nan_is_null_and_infinity_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": NaN}\n{"text": null}\n{"text": "NaN"}\n')
    assert reading_texts(tmp_path / "a.jsonl") == ["", "", "NaN"]
    assert reading_texts(reading_parquet(tmp_path / "a.parquet", [1.5, float("nan"), None])) == ["1.5", "", ""]
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": -Infinity}\n')
    with pytest.raises(DataError, match=r"a.jsonl:2: column 'text' holds an infinite number"):
        reading_texts(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("cell", "kind", "said"),
    [
        (datetime.datetime(2024, 5, 1), pa.timestamp("us"), r"timestamp\[us\]"),
        (datetime.date(2024, 5, 1), pa.date32(), "date32"),
        (datetime.time(9, 30), pa.time64("us"), "time64"),
        (datetime.timedelta(days=1), pa.duration("s"), r"duration\[s\]"),
        (decimal.Decimal("1.10"), pa.decimal128(5, 2), r"decimal128\(5, 2\)"),
        (["a", "b"], pa.list_(pa.string()), "list<"),
        ({"a": "b"}, pa.struct([("a", pa.string())]), "struct<"),
        ([("a", "b")], pa.map_(pa.string(), pa.string()), "map<"),
        (b"0123456789abcdef", pa.uuid(), "uuid"),
    ],
)
def test_06_types_without_text_are_refused_before_a_row_is_read(
    tmp_path: Path, cell: object, kind: Any, said: str
) -> None:
    storage = kind.storage_type if hasattr(kind, "storage_type") else kind
    array = pa.array([], storage)
    table = pa.table({"text": pa.ExtensionArray.from_storage(kind, array) if storage is not kind else array})
    pq.write_table(table, tmp_path / "a.parquet", store_schema=True)
    with pytest.raises(DataError, match=rf"a.parquet: column 'text' holds values of type .*{said}.*cast it to string"):
        reading_texts(tmp_path / "a.parquet")


def test_06_lists_and_objects_are_no_text_in_json_either(tmp_path: Path) -> None:
    for cell, said in (('["a"]', "a list"), ('{"a": 1}', "an object")):
        for name, whole in (("a.jsonl", f'{{"text": {cell}}}\n'), ("a.json", f'[{{"text": {cell}}}]')):
            (tmp_path / name).write_text(whole)
            with pytest.raises(DataError, match=rf"{name}:1.*: column 'text' holds {said}, which is no text"):
                reading_texts(tmp_path / name)


def test_06_numbers_stay_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 1.10}\n{"text": 12345678901234567890}\n{"text": 1e3}\n{"text": true}\n')
    assert reading_texts(tmp_path / "a.jsonl") == ["1.10", "12345678901234567890", "1e3", "true"]
    assert reading_texts(reading_parquet(tmp_path / "a.parquet", [0.1, None, 2], pa.float32())) == ["0.1", "", "2.0"]


def test_06_recorded_probabilities_may_be_objects(tmp_path: Path, job: Any) -> None:
    votes = [{"negative": 0.1, "neutral": 0.2, "positive": 0.7}, {"negative": 1}, None]
    rows = [{"text": f"text {n}", "anna": vote} for n, vote in enumerate(votes)]
    job.csv("train.csv", [])
    (job.root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), job.root / "train.parquet")
    for name in ("train.jsonl", "train.parquet"):
        spec = job.spec(f"data.train.path={name}", "teacher.columns=[anna]")
        check_files(spec)
        found = [json.loads(row["votes"][0] or "null") for row in splits.read_splits(spec)[0].rows.values()]
        assert found == votes


# 12: limit


def test_12_a_limit_takes_the_same_texts_whatever_their_order(tmp_path: Path) -> None:
    rows = [(f"text {n}", "good" if n < 500 else "bad") for n in range(1000)]
    (tmp_path / "sorted.csv").write_text(reading_csv(rows))
    (tmp_path / "other.csv").write_text(reading_csv(rows[::-1]))
    first = list(read_rows(Source(str(tmp_path / "sorted.csv"), limit=100), ["text", "label"]))
    assert len(first) == 100 and 30 < sum(row.values["label"] == "good" for row in first) < 70
    again = list(read_rows(Source(str(tmp_path / "other.csv"), limit=100), ["label", "text"]))
    chosen = {row.values["text"] for row in first}
    assert {row.values["text"] for row in again} == chosen == set(sorted((t for t, _ in rows), key=row_id)[:100])
    grown = [*rows, *((f"more {n}", "good") for n in range(50))]
    (tmp_path / "grown.csv").write_text(reading_csv(grown))
    kept = {row.values["text"] for row in read_rows(Source(str(tmp_path / "grown.csv"), limit=100), ["text"])}
    assert len(kept & chosen) >= 90 and len(kept) == 100


def test_12_a_limit_counts_texts_and_neither_blank_nor_repeated_ones(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"t": " "}\n' * 50 + '{"t": "a"}\n' * 50 + '{"t": "b"}\n{"t": "c"}\n')
    found = [row.values["t"] for row in read_rows(Source(str(tmp_path / "a.jsonl"), limit=3, by="t"), ["t"])]
    assert set(found) == {"a", "b", "c"} and len(found) == 52
    assert len(set(reading_texts(reading_parquet(tmp_path / "a.parquet", list("abcdef")), limit=10))) == 6


def test_12_a_limit_of_a_run_is_by_ids_and_labels_that_are_left_out_do_not_count(reading_spec: Path) -> None:
    rows = [(f"text {n}", "good" if n % 2 else "bad") for n in range(50)]
    last = max(rows, key=lambda row: row_id(row[0]))
    rows[rows.index(last)] = (last[0], "unheard of")
    Path("test.csv").write_text(reading_csv(sorted(rows, key=lambda row: row[1])))
    assert "has 'unheard of'" in reading_problems()[0]
    assert reading_problems("data.test.limit=40") == []
    test = splits.read_splits(load_spec("spec.yaml", ["data.test.limit=40"]))[1]
    assert len(test.rows) == 40 and {row["label"] for row in test.rows.values()} == {"good", "bad"}


# 13: formats of predictions


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("o.csv", "csv"),
        ("o.TSV", "tsv"),
        ("o.json", "json"),
        ("o.ndjson", "jsonl"),
        ("s3://b/o.csv.gz", "csv"),
        ("o.jsonl.zst", "jsonl"),
        ("o", None),
        ("runs/labelled.2024-05", None),
        ("labelled.v2", None),
        ("odd.xlsx/", None),
        ("odd.csv/", None),
    ],
)
def test_13_a_name_says_what_is_written(name: str, form: str | None) -> None:
    assert form_of(name) == form


@pytest.mark.parametrize("name", ["o.xlsx", "o.xls", "o.txt", "o.parquet.gz", "o.csv.zip", "a/o.feather", "o.html"])
def test_13_what_cannot_be_written_is_refused_and_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"no \.\w+ file can be written; .*let it end in \.csv"):
        form_of(str(tmp_path / name))


@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".zst", ".xz"])
@pytest.mark.parametrize("name", ["o.csv", "o.tsv", "o.jsonl", "o.json"])
def test_13_what_is_written_is_read_again(tmp_path: Path, name: str, packing: str) -> None:
    out = tmp_path / (name + packing)
    tables = [pa.table({"text": [text], "label": [label]}) for text, label in [*FOUR, ("two\nlines\ttab", "bad")]]
    write_file(iter(tables), str(out), form_of(str(out)) or "")
    assert reading_texts(out) == [table["text"][0].as_py() for table in tables]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}.get(packing)
    if unpack:
        assert b"two" in unpack(out.read_bytes())
    elif not packing and name == "o.json":
        assert [row["label"] for row in json.loads(out.read_text())] == [t["label"][0].as_py() for t in tables]


# 18: names


def test_18_a_name_that_begins_with_a_tilde_is_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    Path("~i.csv").write_text(reading_csv())
    assert absolute("~i.csv") == str(tmp_path / "~i.csv")
    assert absolute("~/x") == str(tmp_path / "home" / "x")
    assert at_home("~nobody-here/x") == "~nobody-here/x"
    assert len(reading_texts(Path(absolute("~i.csv")))) == len(reading_texts(Path(absolute("~*.csv")))) == 4
    (tmp_path / "~").mkdir()
    Path("~/x").write_text("")
    assert absolute("~/x") == str(tmp_path / "~" / "x")
    for command in (
        ["predict", "~nobody-here/run", "~i.csv", "-o", "o.csv"],
        ["report", "~nobody-here"],
        ["push", "~nobody-here", "--to", "~nobody-here/d"],
    ):
        assert main(command) == 1
        assert "~nobody-here" in capsys.readouterr().err
    assert main(["validate", "~nobody-here.yaml"]) == 2
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["~i.csv", "a::b.csv", "memory:x.csv", "a#1.csv", "b?x=1.csv", "e%20f.csv", "[1].csv"])
def test_18_odd_names_are_read_by_validate_and_run(reading_spec: Path, name: str) -> None:
    os.rename("train.csv", name)
    override = f"data.train.path={json.dumps(name)}"
    assert reading_problems(override) == []
    assert len(splits.read_splits(load_spec("spec.yaml", [override]))[0].rows) == 4


def test_18_home_in_a_spec_is_the_users(reading_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = reading_spec.parent / "home"
    home.mkdir()
    os.rename("train.csv", home / "train.csv")
    monkeypatch.setenv("HOME", str(home))
    assert reading_problems("data.train.path=~/train.csv") == []
    assert reading_problems("data.train.path=~/*.csv") == []
    assert len(splits.read_splits(load_spec("spec.yaml", ["data.train.path=~/train.csv"]))[0].rows) == 4
    assert "there is no file" in reading_problems("data.train.path=~/none.csv")[0]
    assert "there is no file '~nobody-here/x.csv'" in reading_problems("data.train.path=~nobody-here/x.csv")[0]
    assert "~nobody-here" in reading_problems("benchmark.prices=~nobody-here/x.yaml")[0]
    assert load_spec("spec.yaml", ["student.model=~nobody-here/x"]).student.model == "~nobody-here/x"
    words = ["--set", "data.train.path=~/train.csv", "--set", "student.model=~nobody-here/x"]
    assert main(["plan", "spec.yaml", *words]) == 1


# 21: validate and run

DAMAGE = {
    "stray quotes": ("train.csv", 'text,label\n"a" b,good\n', "train.csv:2: broken csv"),
    "a ragged row": ("train.csv", "text,label\na,good\nb\n", "train.csv:3: the row has 1 fields, the header has 2"),
    "an open quote": ("train.csv", 'text,label\na,good\n"b,good\nc,bad\n', "train.csv:3: broken csv"),
    "a stray CR": ("train.csv", "text,label\na\rb,good\n", "train.csv:2: broken csv"),
    "a header twice": ("train.csv", "text,label,text\na,good,b\n", "the column 'text' is there twice"),
    "far below": ("train.csv", "text,label\n" + "a,good\n" * 20_000 + "b\n", "train.csv:20002: the row has 1 fields"),
    "a line without the column": (
        "train.jsonl",
        '{"text": "a", "label": "good"}\n{"text": "b"}\n',
        "train.jsonl:2 has no column 'label'",
    ),
    "a key twice": ("train.jsonl", '{"text": "a", "text": "b", "label": "good"}\n', "the key 'text' is there twice"),
    "no object": (
        "train.json",
        '[{"text": "a", "label": "good"},\n 7]',
        "train.json:2 (row 2): expected a JSON object",
    ),
    "no end": ("train.json", '[{"text": "a", "label": "good"},\n', "train.json:2: broken JSON: a value is missing"),
    "no comma": ("train.json", '[{"text": "a", "label": "good"}\n{}]', "train.json:2: broken JSON: a comma or ]"),
    "broken json": ("train.json", '[{"text": "a",\n"label": }]', "train.json:2: broken JSON: Expecting value"),
}


@pytest.mark.parametrize(("name", "content", "said"), DAMAGE.values(), ids=DAMAGE)
def test_21_what_the_run_refuses_is_said_by_validate(reading_spec: Path, name: str, content: str, said: str) -> None:
    Path(name).write_text(content)
    found = reading_problems(f"data.train.path={name}")
    assert said in found[0], found
    with pytest.raises(DataError):
        splits.read_splits(load_spec("spec.yaml", [f"data.train.path={name}"]))


def test_21_what_nobody_asked_for_may_be_as_it_likes(reading_spec: Path) -> None:
    Path("train.csv").write_text("text,label,,,note,note\na,good,,,x,y\nb,bad,,,x,y\n")
    assert reading_problems() == []
    Path("train.jsonl").write_text('{"n": 1, "n": 2, "text": "a", "label": "good", "when": [1]}\n')
    assert reading_problems("data.train.path=train.jsonl") == []


def test_21_a_column_that_is_twice_in_parquet_is_refused(reading_spec: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["good"])], ["text", "text", "label"])
    pq.write_table(table, "train.parquet")
    assert "the column 'text' is there twice" in reading_problems("data.train.path=train.parquet")[0]
    with pytest.raises(DataError, match="there twice"):
        splits.read_splits(load_spec("spec.yaml", ["data.train.path=train.parquet"]))
    pq.write_table(table.rename_columns(["note", "note", "text"]).append_column("label", [["good"]]), "train.parquet")
    assert reading_problems("data.train.path=train.parquet") == []


def test_21_labels_are_looked_at_in_parquet_and_in_large_files(reading_spec: Path) -> None:
    table = pa.table({"text": ["a", "b", " "], "label": ["good", "godo", "x"]})
    pq.write_table(table, "test.parquet")
    found = reading_problems("data.test.path=test.parquet")
    assert found[0].endswith("every row needs one of task.labels; row 2 has 'godo' (did you mean 'good'?)")
    with open("test.csv", "w") as handle:
        handle.write("text,label\n" + (("word " * 2_000_000) + ",good\n") * 6 + "x,godo\n")
    assert "line 8 has 'godo'" in reading_problems()[0]


def test_21_an_empty_shard_is_skipped_with_a_note(reading_spec: Path) -> None:
    os.mkdir("parts")
    os.rename("train.csv", "parts/b.csv")
    for name, content in (("a", ""), ("c", "text,label\n"), ("d", "\ufeff\n\n"), ("e", "sep=,\n")):
        Path(f"parts/{name}.csv").write_text(content, encoding="utf-8")
    assert reading_problems("data.train.path=parts/*.csv") == []
    train, _, warnings = splits.read_splits(load_spec("spec.yaml", ["data.train.path=parts/*.csv"]))
    assert len(train.rows) == 4
    said = "data.train: 4 of its files have no row and count for nothing: a.csv, c.csv, d.csv, e.csv"
    assert said in warnings
    os.remove("parts/b.csv")
    assert "there is no row of data in these files" in reading_problems("data.train.path=parts/*.csv")[0]
    with pytest.raises(DataError, match="none of 0 rows is left"):
        splits.read_splits(load_spec("spec.yaml", ["data.train.path=parts/*.csv"]))


@pytest.mark.parametrize("ending", ["parquet", "json", "jsonl"])
def test_21_an_empty_shard_of_any_format_is_skipped(reading_spec: Path, ending: str) -> None:
    rows = [{"text": text, "label": label} for text, label in FOUR]
    table = pa.Table.from_pylist(rows)
    for name, count in (("a", 0), ("b", 4)):
        if ending == "parquet":
            pq.write_table(table.slice(0, count), f"{name}.parquet")
        else:
            lines = [json.dumps(row) for row in rows[:count]]
            Path(f"{name}.{ending}").write_text("\n".join(lines) if ending == "jsonl" else f"[{','.join(lines)}]")
    override = f"data.train.path=?.{ending}"
    assert reading_problems(override) == []
    warnings = splits.read_splits(load_spec("spec.yaml", [override]))[2]
    assert f"data.train: 1 of its files has no row and counts for nothing: a.{ending}" in warnings


def test_21_one_validate_names_what_is_wrong_with_the_spec_and_with_its_files(reading_spec: Path) -> None:
    Path("train.csv").write_text("text,label\na\n")
    Path("test.csv").write_text("text,label\na,good\nb,godo\n")
    found = reading_problems("student.epochs=many", "teacher.modle=x", "data.test.limit=none")
    assert [line.split(": ")[-2:] for line in found if "epochs" in line]
    assert any("train.csv:2: the row has 1 fields" in line for line in found)
    assert any("unknown key 'modle'" in line for line in found)
    assert any("line 3 has 'godo'" in line for line in found)
    assert len(found) == 5
    found = reading_problems("task.labels=7", "data.train.encoding=klingon")
    assert len(found) == 2  # what cannot be known is not guessed
    assert any("line 3 has 'godo'" in line for line in reading_problems("data.train=7"))


FIELDS = (
    *("name", "version", "task", "task.labels", "task.labels.0", "task.examples", "data", "data.train"),
    *("data.train.path", "data.train.limit", "data.test", "data.test.label", "data.corpus", "teacher"),
    *("teacher.columns", "teacher.also", "student.export", "evaluate.compare", "evaluate.compare.x"),
    *("benchmark.prices", "apply", "apply.keep"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.data())
def test_21_a_wrong_spec_never_stops_the_look_at_its_files(reading_spec: Path, data: st.DataObject) -> None:
    field = st.sampled_from(FIELDS)
    value = st.sampled_from(["7", "null", "[]", "{}", "[1]", "x", "{x: 1}", "[[]]", "true", "~/x", "{path: x.csv}"])
    overrides = data.draw(st.lists(st.tuples(field, value).map("=".join), min_size=1, max_size=3))
    reading_problems(*overrides)  # problems or none, and never another error


CELLS = st.text(st.sampled_from("ab,;\"'\t é\u2028\u200b\x00\x85"), max_size=6) | st.sampled_from(
    ["good", "bad", "", " ", "a\nb", "a\r\nb", "a\rb", '"', '""', "NaN", "null", "1", "sep=;"]
)
ROWS_OF_CELLS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5)
HEADERS = st.lists(st.sampled_from(["text", "label", "Text", "", "note"]), max_size=4)


@st.composite
def reading_raw_csv(draw: Any) -> bytes:
    rows = [draw(HEADERS | st.just(["text", "label"])), *draw(ROWS_OF_CELLS)]
    out = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.writer(out, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"])))
    if draw(st.booleans()):
        writer.writerows(rows)
    else:  # nothing is quoted that should be
        out.write("\n".join(",".join(row) for row in rows))
    raw = (draw(st.sampled_from(["", "", "\ufeff", "\n", "sep=;\n", "sep=,\n"])) + out.getvalue()).encode()
    return raw + draw(st.sampled_from([b"", b"", b"\n\n", b'"', b"\xff", b"x,good"]))


@st.composite
def reading_raw_json(draw: Any) -> bytes:
    value = st.none() | st.booleans() | st.integers() | st.floats() | CELLS | st.lists(st.integers(), max_size=1)
    keys = st.sampled_from(["text", "label", "text", "label", "Text"])
    objects = st.lists(st.tuples(keys, value), max_size=4).map(
        lambda pairs: "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}"
    )
    good = CELLS.map(lambda text: json.dumps({"text": text, "label": "good"}))
    items = draw(st.lists(good | good | objects | st.sampled_from(["7", "[]", "", "{", "nul"]), max_size=5))
    joined = draw(st.sampled_from(["\n", ",\n", ", ", "\r\n\r\n"])).join(items)
    opened, closed = draw(st.sampled_from([("", ""), ("[", "]"), ("[", ""), ("\ufeff[", "]\n"), ("", "]")]))
    return (opened + joined + closed).encode()


@st.composite
def reading_raw_parquet(draw: Any) -> bytes:
    kind = draw(
        st.sampled_from(
            [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary(), pa.timestamp("s")]
        )
    )
    cells = draw(st.lists(st.none() | CELLS, max_size=4))
    if kind == pa.timestamp("s"):
        array = pa.array([0] * len(cells), pa.int64()).cast(kind)
    elif pa.types.is_dictionary(kind):
        array = pa.array(cells, pa.string()).dictionary_encode()
    else:
        array = pa.array([c and c.encode() for c in cells] if kind == pa.binary() else cells, kind)
    labels = pa.array([draw(st.sampled_from(["good", "bad", "good ", "x"])) for _ in cells], pa.string())
    names = draw(st.sampled_from([["text", "label"], ["text", "label"], ["text", "text"], ["Text", "label"]]))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([array, labels], names), sink)
    raw = bytes(sink.getvalue())
    return raw[: draw(st.sampled_from([len(raw), len(raw), len(raw) // 2]))]


@pytest.mark.slow("long")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    st.one_of(
        st.tuples(st.sampled_from(["x.csv", "x.tsv", "x.csv.gz"]), reading_raw_csv()),
        st.tuples(st.sampled_from(["x.jsonl", "x.json"]), reading_raw_json()),
        st.tuples(st.just("x.parquet"), reading_raw_parquet()),
    )
)
def test_21_what_validate_accepts_run_reads_and_the_reverse(reading_spec: Path, file: tuple[str, bytes]) -> None:
    name, raw = file
    Path(name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    override = f"data.test.path={name}"
    found = reading_problems(override)
    try:
        splits.read_split(load_spec("spec.yaml", [override]), "test", load_spec("spec.yaml", [override]).data.test)
        rows = sum(1 for _ in read_rows(Source(str(Path(name).absolute())), ["text", "label"]))
        refused = "" if rows else "no row"
    except DataError as error:
        refused = str(error)
    assert bool(found) == bool(refused), (found, refused)


# 22: what users have


@pytest.mark.parametrize(
    ("name", "raw", "more"),
    [
        ("a.tsv", reading_csv(delimiter="\t").encode(), {}),
        ("a.csv", reading_csv(delimiter=";").encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
        ("a.csv", ("sep=;\r\n" + reading_csv(delimiter=";")).encode("utf-8-sig"), {}),
        ("a.csv", reading_csv().encode("utf-16"), {}),
        ("a.csv", reading_csv().encode("utf-16-be"), {"encoding": "utf-16-be"}),
        ("a.csv", reading_csv().encode("utf-32"), {}),
        ("a.tsv", reading_csv(delimiter="\t").encode("utf-16"), {}),
        ("a.csv", reading_csv(end="\r").encode(), {}),
        ("a.csv.bz2", bz2.compress(reading_csv().encode()), {}),
        ("a.csv.xz", lzma.compress(reading_csv().encode()), {}),
        ("a.csv", gzip.compress(reading_csv().encode(), mtime=0), {}),
        ("a.csv", bz2.compress(reading_csv().encode()), {}),
        ("a.json", json.dumps([{"text": text} for text, _ in FOUR], indent=2).encode(), {}),
        ("a.json", "".join(json.dumps({"text": text}) + "\n" for text, _ in FOUR).encode("utf-8-sig"), {}),
        ("a.json.gz", gzip.compress(json.dumps([{"text": text} for text, _ in FOUR]).encode(), mtime=0), {}),
        ("a.txt", reading_csv(delimiter="|").encode(), {"format": "csv", "delimiter": "|"}),
        ("a.jsonl", json.dumps({"text": FOUR[0][0]}).encode("latin-1"), {"encoding": "latin-1"}),
    ],
)
def test_22_what_users_have_is_read(tmp_path: Path, name: str, raw: bytes, more: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(raw)
    assert reading_texts(tmp_path / name, **more) == [text for text, _ in FOUR][: 1 if name == "a.jsonl" else None]


def test_22_zstd_is_read_to_its_end(tmp_path: Path) -> None:
    packed = pa.compress((reading_csv() * 1).encode(), "zstd", asbytes=True)
    for name in ("a.csv.zst", "a.csv"):
        (tmp_path / name).write_bytes(packed)
        assert len(reading_texts(tmp_path / name)) == 4
    (tmp_path / "a.csv.zst").write_bytes(packed[:-6])
    with pytest.raises(DataError, match=r"a.csv.zst: cannot be read"):
        reading_texts(tmp_path / "a.csv.zst")


@pytest.mark.parametrize(
    ("name", "raw", "said", "unsaid"),
    [
        (
            "a.csv",
            b"text\nit\x92s\n",
            r"a.csv:2: not UTF-8 \(byte 0x92\).*iconv -f NAME.*encoding: cp1252 reads 'it\u2019s'",
            "latin1",
        ),
        (
            "a.csv",
            "text\n这家公司的利润大幅增长\n".encode("gb18030"),
            "encoding: gb18030 reads '这家公司的利润大幅增长'",
            "latin1",
        ),
        (
            "a.csv",
            "text\n会社の利益は大幅に増加した\n".encode("shift_jis"),
            "encoding: cp932 reads '会社の利益は大幅に増加した'",
            "latin1",
        ),
        ("a.csv", b"text\n\xcf\xf0\xe8\n", r"encoding: cp1252 reads '\u00cf\u00f0\u00e8'", "latin1"),
        (
            "a.csv",
            "text\nx\n".encode("utf-16-le"),
            r"a.csv: this is UTF-16 without its mark.*encoding: utf-16-le",
            "iconv",
        ),
        (
            "a.csv",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99,
            r"a workbook in Excel's old format: save it as",
            "iconv",
        ),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull", "column"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull", "magic"),
        ("a.jsonl", b"PAR1xxxxPAR1", "a Parquet file: let its name end in .parquet", "JSON"),
        ("a.csv.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull", "gzipped"),
        (
            "a.csv.gz",
            gzip.compress(gzip.compress(b"text\nx\n", mtime=0), mtime=0),
            "a.csv.gz: this is packed twice: unpack it",
            "iconv",
        ),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"a.csv:1: not UTF-8 \(byte 0x89\), and no text at all", "iconv"),
        ("a.csv", b"%PDF-1.7\n", "a PDF document", "header"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "a page in HTML", "column"),
        ("a.csv", b"text;label\nx;good\n", 'semicolon-separated: set delimiter: ";"', "iconv"),
        ("a.jsonl", b'[{"text": "x"}]\n', "expected a JSON object|a JSON array is read from", "iconv"),
        ("a.csv.gz", b"text\nx\n", "Not a gzipped file: take the ending off its name", "iconv"),
    ],
)
def test_22_advice_spoils_nothing(tmp_path: Path, name: str, raw: bytes, said: str, unsaid: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=said) as caught:
        reading_texts(tmp_path / name)
    assert unsaid not in str(caught.value)


def reading_workbook(path: Path, rows: list[list[Any]]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("other").append(["text"])
    book.save(path)
    return path


def test_22_the_first_sheet_of_a_workbook_is_read(tmp_path: Path, reading_spec: Path) -> None:
    rows = [[], ["text", "label", "n"], *([text, label, 7] for text, label in FOUR), [None, None, 1]]
    reading_workbook(tmp_path / "train.xlsx", rows)
    found = list(read_rows(Source(str(tmp_path / "train.xlsx")), ["text", "n"]))
    assert found[0].values == {"text": "Up.", "n": "7"} and found[0].place == "train.xlsx:row 3"
    assert [row.values["text"] for row in found] == [*(text for text, _ in FOUR), ""]
    assert reading_problems("data.train.path=train.xlsx", "teacher.columns=[label]") == []
    os.rename("train.xlsx", "train.csv")
    assert "a workbook of Excel" in reading_problems()[0]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("=A1&A1", "row 2: column 'text' holds a formula whose result is not stored"),
        (datetime.datetime(2024, 5, 1), "row 2: column 'text' holds a date with time, which is no text"),
        ("#N/A", "row 2: column 'text' holds the error #N/A: mend the workbook"),
    ],
)
def test_22_a_cell_of_a_workbook_without_text_is_refused(tmp_path: Path, cell: Any, said: str) -> None:
    reading_workbook(tmp_path / "a.xlsx", [["text"], [cell]])
    with pytest.raises(DataError, match=said):
        reading_texts(tmp_path / "a.xlsx")


def test_22_without_openpyxl_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading_workbook(tmp_path / "a.xlsx", [["text"], ["x"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'tutelage\[xlsx\]'"):
        reading_texts(tmp_path / "a.xlsx")


def test_22_fields_that_nobody_sets_change_no_key(reading_spec: Path) -> None:
    from runner.data.sources import source_key, source_of

    spec = load_spec("spec.yaml")
    assert set(source_key(spec, spec.data.test)) == {"text", "limit", "format", "label", "files"}
    assert set(source_of(spec, spec.data.train).known()) == {"path", "format", "split", "revision", "limit"}
    other = load_spec("spec.yaml", ["data.test.encoding=cp1252"])
    assert source_key(other, other.data.test) != source_key(spec, spec.data.test)


def test_22_predict_counts_what_it_can_count(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(reading_csv(delimiter="\t"))
    assert count_rows(Source(str(tmp_path / "a.tsv"))) == 4
    (tmp_path / "a.json").write_text("[]")
    assert count_rows(Source(str(tmp_path / "a.json"))) is None
    (tmp_path / ".hidden.csv").write_text("")
    assert [file.rsplit("/", 1)[1] for file in files_of(Source(str(tmp_path / "*")))] == ["a.json", "a.tsv"]


# 23: the Hub


@pytest.mark.slow("subprocess")
def test_23_a_folder_with_the_name_of_a_data_set_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "train.csv").write_text("text\nmine\n")
    code = (
        "from runner.data.reading import *; print([r.values for r in read_rows(Source('owner/name', 'hub'), ['text'])])"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "mine" not in done.stdout
    assert "data set owner/name (split train) cannot be had from the Hub" in done.stderr


def test_21_a_missing_column_that_a_worker_finds_is_said_as_here() -> None:
    found = ColumnError.of("corpus.csv", {"txt": " (did you mean 'text'?)"})
    again = pickle.loads(pickle.dumps(found))
    assert str(again) == str(found) == "corpus.csv: no column 'txt' (did you mean 'text'?)"
    assert again.missing == found.missing


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "base64", "zip", "idna"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_22_what_is_no_character_set_is_said_with_recorded_votes_too(job: Any, split: str, encoding: str) -> None:
    with pytest.raises(SpecError) as raised:
        check_spec(job.path, [f"data.{split}.encoding={encoding}"])
    assert [problem.path for problem in raised.value.problems] == [f"data.{split}.encoding"]


# Found by a second reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["A qualidade não é boa, atenção", "Señor, la niña comió", "São Paulo", "Köln"])
def test_22_each_reading_has_its_own_advice(tmp_path: Path, text: str) -> None:
    """No single name is advised: cp1250 reads nearly every byte, and nothing would show that it is the wrong one."""
    (tmp_path / "a.csv").write_bytes(f"text\n{text}\n".encode("cp1252"))
    with pytest.raises(DataError, match=re.escape(f"or say what it is: encoding: cp1252 reads {text[-40:]!r}")):
        list(read_rows(Source(str(tmp_path / "a.csv")), ["text"]))


def test_22_the_line_itself_is_looked_at(tmp_path: Path) -> None:
    line = "会社の利益は大幅に増加した".encode("shift_jis")
    for content in (b"plain text\n" * 2000 + line + b"\n", b", ".join([line] * 8000) + b"\n"):
        (tmp_path / "a.csv").write_bytes(b"text\n" + content)
        with pytest.raises(DataError, match="encoding: cp932 reads"):
            list(read_rows(Source(str(tmp_path / "a.csv")), ["text"]))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_22_an_encoding_never_overrules_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("text\nMüller\n".encode("utf-8-sig"))
    with pytest.raises(DataError, match=r"a\.csv: it begins with the mark of UTF-8, and encoding says"):
        list(read_rows(Source(str(tmp_path / "a.csv"), encoding=encoding), ["text"]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", None])
def test_22_a_mark_of_the_same_encoding_is_no_text(tmp_path: Path, encoding: str | None) -> None:
    (tmp_path / "a.csv").write_bytes(codecs.BOM_UTF16_LE + "text\nMüller\n".encode("utf-16-le"))
    rows = list(read_rows(Source(str(tmp_path / "a.csv"), encoding=encoding), ["text"]))
    assert [row.values for row in rows] == [{"text": "Müller"}]


def test_21_an_empty_shard_of_any_format_has_no_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["Fine."]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").touch()
    (tmp_path / "c.xlsx").touch()
    skipped: list[str] = []
    for pattern in ("*.parquet", "c.xlsx"):
        list(read_rows(Source(str(tmp_path / pattern)), ["text"], skipped=skipped.append))
    assert [Path(one).name for one in skipped] == ["b.parquet", "c.xlsx"]


def test_22_a_sheet_that_breaks_off_is_no_bug(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text"], ["Fine."], ["Bad."]):
        book.active.append(row)
    book.save(tmp_path / "whole.xlsx")
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(tmp_path / "a.xlsx", "w") as broken:
        for entry in whole.infolist():
            content = whole.read(entry)
            broken.writestr(entry, content[: len(content) * 2 // 3] if "sheet1" in entry.filename else content)
    with pytest.raises(DataError, match=r"a\.xlsx: broken workbook: "):
        list(read_rows(Source(str(tmp_path / "a.xlsx")), ["text"]))


def test_22_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match="no such file, and no file matches"):
        list(read_rows(Source(str(tmp_path / "a.csv")), ["text"]))
