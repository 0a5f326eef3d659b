"""Checking the data files: real files on disk, every problem placed in the spec."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from runner.planning.files import check_files, check_spec
from runner.spec import Spec, load_spec, resolve_path
from runner.system.errors import SpecError

SPEC = """version: 1
name: reviews
task: {labels: [good, bad]}
data:
  train: {path: train.csv}
  test:
    path: test.csv
    label: label
teacher: {model: org/teacher}
"""
TRAIN = "text\nFine.\n"
TEST = "text,label\nFine.,good\nAwful.,bad\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC)
    Path("train.csv").write_text(TRAIN)
    Path("test.csv").write_text(TEST)
    return tmp_path


def load(*overrides: str) -> Spec:
    return load_spec("spec.yaml", overrides)


def problems(*overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        check_files(load(*overrides))
    return [str(problem) for problem in caught.value.problems]


def test_good_files_pass() -> None:
    check_files(load())


def test_both_files_missing_is_said_at_once() -> None:
    os.rename("train.csv", "trian.csv")
    os.remove("test.csv")
    assert problems() == [
        "spec.yaml:5:17: data.train.path: there is no file 'train.csv' (did you mean 'trian.csv'?)",
        "spec.yaml:7:11: data.test.path: there is no file 'test.csv'",
    ]


def test_of_a_field_that_is_missing_nothing_else_is_said() -> None:
    Path("half.yaml").write_text("version: 1\nname: x\ntask: {labels: [a, b]}\ndata: {train: {path: none.csv}}\n")
    with pytest.raises(SpecError) as caught:
        check_spec("half.yaml")
    assert [str(one) for one in caught.value.problems] == [
        "half.yaml:1:1: the key 'teacher' is missing",
        "half.yaml:4:22: data.train.path: there is no file 'none.csv' (did you mean 'test.csv'?)",
    ]


def test_missing_columns_stand_where_the_spec_names_them_or_where_the_default_comes_from() -> None:
    Path("train.csv").write_text("Text,id\nx,1\n")
    Path("test.csv").write_text("text,lable\nx,good\n")
    assert problems() == [
        "spec.yaml:5:3: data.train.text: train.csv has no column 'text' (did you mean 'Text'?)",
        "spec.yaml:8:12: data.test.label: test.csv has no column 'label' (did you mean 'lable'?)",
    ]
    Path("test.csv").write_text("id,body\n1,x\n")
    assert "test.csv has no column 'text' (it has: id, body)" in "".join(problems())


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_a_csv_file_without_commas_is_seen_as_such(mark: str, name: str) -> None:
    Path("train.csv").write_text(f"text{mark}n\nx{mark}1\n")
    assert f"train.csv has no column 'text' (the header looks {name}-separated: set delimiter: " in problems()[0]


def test_a_link_that_leads_nowhere_is_no_missing_name() -> None:
    os.rename("train.csv", "moved.csv")
    os.symlink("gone.csv", "train.csv")
    assert problems() == ["spec.yaml:5:17: data.train.path: 'train.csv' is a link that leads nowhere: to 'gone.csv'"]


def test_a_column_set_on_the_command_line_is_placed_there() -> None:
    assert problems("data.train.text=body") == [
        "--set data.train.text=body: data.train.text: train.csv has no column 'body' (it has: text)"
    ]


def test_vote_columns_must_be_in_train_and_test() -> None:
    Path("train.csv").write_text("text,anna\nx,good\n")
    found = problems("teacher={engine: recorded, model: us, columns: [anna, ben]}")
    assert [line.split(": teacher")[1] for line in found] == [
        ".columns.0: test.csv has no column 'anna' (it has: text, label)",
        ".columns.1: test.csv has no column 'ben' (it has: text, label)",
        ".columns.1: train.csv has no column 'ben' (it has: text, anna)",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "train.csv: there is no row of data in this file"),
        (b"text\n\n\n", "train.csv: there is no row of data in this file"),
        (
            b"text\nM\xfcller\n",
            "train.csv:2: not UTF-8 (byte 0xfc); save the file as UTF-8 (iconv -f NAME -t utf-8), or say what it is: "
            "encoding: cp1252 reads 'M\xfcller'",
        ),
        (b"text,id,text\nx,1,y\n", "train.csv: the column 'text' is there twice: rename one of them"),
    ],
)
def test_broken_csv(content: bytes, message: str) -> None:
    Path("train.csv").write_bytes(content)
    (only,) = {line.partition("data.train.path: ")[2] for line in problems()}
    assert only.startswith(message)


def test_a_byte_order_mark_and_a_split_character_do_no_harm() -> None:
    for shift in range(4):
        Path("train.csv").write_text("text\n" + "x" * shift + "ü€" * 40_000, encoding="utf-8-sig")
        check_files(load())


def test_unknown_labels_of_test_are_named_with_their_lines() -> None:
    rows = ['"two\nlines",good', "x,godo", "x,", "x, ", 'x,"good "', "x,neutral", "x,b ad", "x,1", "x,2"]
    Path("test.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    (only,) = problems()
    assert only == (
        "spec.yaml:8:12: data.test.label: test.csv: every row needs one of task.labels; "
        "line 4 has 'godo' (did you mean 'good'?), line 5 has none, line 6 has none, "
        "line 8 has 'neutral', line 9 has 'b ad' (did you mean 'bad'?), and 2 more"
    )


def test_a_cell_of_ten_megabytes_is_no_problem() -> None:
    Path("test.csv").write_text('text,label\n"' + "x " * 5_000_000 + '",good\ny,bda\n')
    (only,) = problems()
    assert only.endswith("line 3 has 'bda' (did you mean 'bad'?)")


def test_jsonl_columns_labels_and_broken_lines() -> None:
    rows = [{"text": "a", "label": "good"}, {"text": "b\u2028c", "label": None}, {"text": "c", "label": True}]
    Path("test.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    (only,) = problems("data.test.path=test.jsonl")
    assert only.endswith("line 2 has none, line 3 has 'true'")
    Path("test.jsonl").write_text('{"text": "a", "label": "good"}\n{"text": \n')
    (only,) = problems("data.test.path=test.jsonl")
    assert "data.test.path: test.jsonl:2: broken JSON: Expecting value" in only
    Path("test.jsonl").write_text('{"text": "a", "label": "good"}\n{"text": "b"}\n')
    (only,) = problems("data.test.path=test.jsonl")
    assert only.endswith("data.test.label: test.jsonl:2 has no column 'label' (it has: text)")
    Path("test.jsonl").write_text("[1]\n")
    assert "test.jsonl:1: expected a JSON object" in problems("data.test.path=test.jsonl")[0]
    Path("test.jsonl").write_text("[" * 10_000)
    assert "test.jsonl:1: broken JSON" in problems("data.test.path=test.jsonl")[0]


def test_number_labels_in_json_are_the_same_as_in_text() -> None:
    Path("test.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": "0"}\n')
    check_files(load("data.test.path=test.jsonl", "task.labels=['0', '1']"))


def test_true_in_json_is_the_label_of_that_name() -> None:
    Path("test.jsonl").write_text('{"text": "a", "label": "True"}\n{"text": "b", "label": true}\n')
    check_files(load("data.test.path=test.jsonl", "task.labels=['True', 'False']"))
    Path("test.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": true}\n')
    (only,) = problems("data.test.path=test.jsonl", "task.labels=['1', '0']")
    assert "every row needs one of task.labels; line 2 has 'true'" in only


def test_a_long_json_line_is_read() -> None:
    Path("train.jsonl").write_text(json.dumps({"body": "x" * 100_000}) + "\n")
    assert problems("data.train.path=train.jsonl")[0].endswith("train.jsonl:1 has no column 'text' (it has: body)")


def test_gz_is_read_and_a_false_gz_is_told() -> None:
    Path("train.csv.gz").write_bytes(gzip.compress(TRAIN.encode()))
    check_files(load("data.train.path=train.csv.gz"))
    Path("train.csv.gz").write_bytes(gzip.compress(TRAIN.encode())[:-9])
    assert "train.csv.gz: cannot be read" in problems("data.train.path=train.csv.gz")[0]
    Path("train.csv.gz").write_text(TRAIN)
    assert "train.csv.gz: cannot be read: Not a gzipped file" in problems("data.train.path=train.csv.gz")[0]


def test_parquet() -> None:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a"]}), "train.parquet")
    check_files(load("data.train.path=train.parquet"))
    parquet.write_table(pyarrow.table({"body": pyarrow.array([], pyarrow.string())}), "train.parquet")
    assert [line.partition(": data.train.")[2] for line in problems("data.train.path=train.parquet")] == [
        "text: train.parquet has no column 'text' (it has: body)",
    ]
    Path("train.parquet").write_text("PAR1 not really")
    assert "train.parquet: broken parquet: " in problems("data.train.path=train.parquet")[0]


def test_globs_take_every_file_and_say_when_there_is_none() -> None:
    for number in range(8):
        Path(f"part-{number}.csv").write_text(TRAIN if number == 0 else "body\nx\n")
    found = problems("data.train.path=part-?.csv")
    assert len(found) == 6 and "2 more files have problems like these" in "".join(found)
    assert problems("data.train.path=nothing*.csv")[0].endswith("no file matches 'nothing*.csv'")
    os.rename("train.csv", "train[1].csv")
    check_files(load("data.train.path=train[1].csv"))


def test_folders_and_devices_are_no_data_files() -> None:
    os.mkdir("texts.csv")
    assert (
        "'texts.csv' is a folder: name its files, such as 'texts.csv/*.csv'" in problems("data.train.path=texts.csv")[0]
    )
    os.mkfifo("pipe.csv")
    assert "'pipe.csv' is not a plain file" in problems("data.train.path=pipe.csv")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission() -> None:
    os.chmod("train.csv", 0)
    assert "train.csv: may not be read: its permissions forbid it" in problems()[0]


def test_what_is_not_on_this_machine_is_not_looked_at() -> None:
    check_files(load("data.train.path=s3://bucket/train.csv", "data.test={path: o/n, format: hub, label: y}"))


def test_a_file_url_is_looked_at(folder: Path) -> None:
    check_files(load(f"data.train.path={folder.as_uri()}/train.csv"))
    assert "there is no file" in problems(f"data.train.path={folder.as_uri()}/none.csv")[0]


def test_paths_start_at_the_folder_of_the_spec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir("sub")
    monkeypatch.chdir("sub")
    spec = load_spec("../spec.yaml", ["data.train.path=./sub/../train.csv"])
    check_files(spec)
    assert resolve_path(spec, "train.csv") == f"{folder}/sub/../train.csv"
    assert resolve_path(spec, "/abs/x.csv") == "/abs/x.csv"
    assert resolve_path(spec, "s3://bucket/x.csv") == "s3://bucket/x.csv"


def test_a_variable_names_the_folder_of_the_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    override = "data.test.path=${TUTELAGE_TEXTS}/deep/test.csv"
    monkeypatch.delenv("TUTELAGE_TEXTS", raising=False)
    assert problems(override) == [
        f"--set {override}: data.test.path: the environment variable TUTELAGE_TEXTS is not set: "
        "set it to the folder that holds deep/test.csv"
    ]
    os.mkdir("deep")
    os.rename("test.csv", "deep/test.csv")
    monkeypatch.setenv("TUTELAGE_TEXTS", str(folder))
    check_files(load(override))
    monkeypatch.setenv("TUTELAGE_TEXTS", "s3://bucket/${HOME}/")
    assert resolve_path(load(override), "${TUTELAGE_TEXTS}/a.csv") == "s3://bucket/${HOME}/a.csv"


def test_data_cannot_lead_to_other_files() -> None:
    Path("test.csv").write_text("text,label\n../../etc/passwd,good\n${TUTELAGE_DATA}/x,bad\n")
    check_files(load())
