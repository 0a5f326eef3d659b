"""Rows from files: every format, every kind of damage, the place of each row, and never a guess."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.cells import text_of
from runner.data.reading import Row, Source, files_of, read_rows
from runner.system.errors import DataError

ROWS = [{"text": "Fine, \u00e9", "n": "1"}, {"text": 'two\nlines "quoted"', "n": "2"}, {"text": "\U0001f600", "n": "3"}]


def read(path: Path | str, *columns: str, **more: Any) -> list[Row]:
    return list(read_rows(Source(str(path), **more), columns or ("text",)))


def texts(path: Path | str, **more: Any) -> list[Any]:
    return [row.values["text"] for row in read(path, **more)]


def csv_bytes(rows: list[dict[str, str]]) -> bytes:
    cells = [('"' + row["text"].replace('"', '""') + '"', row["n"]) for row in rows]
    return ("text,n\n" + "".join(f"{text},{n}\n" for text, n in cells)).encode()


def jsonl_bytes(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet_bytes(rows: list[dict[str, str]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("name", "made", "places"),
    [
        ("a.csv", csv_bytes(ROWS), ["a.csv:2", "a.csv:3", "a.csv:5"]),
        ("a.jsonl", jsonl_bytes(ROWS), ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]),
        ("a.ndjson", jsonl_bytes(ROWS), ["a.ndjson:1", "a.ndjson:2", "a.ndjson:3"]),
        ("a.parquet", parquet_bytes(ROWS), ["a.parquet:row 1", "a.parquet:row 2", "a.parquet:row 3"]),
        ("a.csv.gz", gzip.compress(csv_bytes(ROWS), mtime=0), ["a.csv.gz:2", "a.csv.gz:3", "a.csv.gz:5"]),
        ("A.CSV", csv_bytes(ROWS), ["A.CSV:2", "A.CSV:3", "A.CSV:5"]),
        ("a [1].csv", csv_bytes(ROWS), ["a [1].csv:2", "a [1].csv:3", "a [1].csv:5"]),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, made: bytes, places: list[str]) -> None:
    (tmp_path / name).write_bytes(made)
    found = read(tmp_path / name, "text", "n")
    assert [row.values for row in found] == ROWS
    assert [row.place for row in found] == places


def test_a_format_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(jsonl_bytes(ROWS))
    assert len(read(tmp_path / "rows.txt", format="jsonl")) == 3
    with pytest.raises(DataError, match="cannot tell the format from the name: let it end"):
        read(tmp_path / "rows.txt")


def test_a_glob_reads_its_files_in_order_and_a_limit_counts_over_all(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.jsonl"):
        (tmp_path / name).write_bytes(jsonl_bytes(ROWS) if name.endswith("l") else csv_bytes(ROWS))
    places = [row.place for row in read(tmp_path / "*.csv", limit=2)]
    assert places == ["a.csv:2", "a.csv:3", "b.csv:2", "b.csv:3"]  # two texts, wherever they stand
    assert len(read(tmp_path / "?.*")) == 9


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.csv", "no such file, and no file matches"),
        ("no*.csv", "no such file, and no file matches"),
        ("folder", r"is a folder; say which files of it, such as .*folder/\*\.csv"),
    ],
)
def test_a_file_that_is_not_there(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=said):
        files_of(Source(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\xef\xbb\xbftext\r\nFine.\r\nGood.\r\n", [("a.csv:2", "Fine."), ("a.csv:3", "Good.")]),
        (b"text\n\n\nFine.\n\nGood.", [("a.csv:4", "Fine."), ("a.csv:6", "Good.")]),
        (b"\n\ntext\nFine.\n", [("a.csv:4", "Fine.")]),
        (b'text\n"a\nb\r\nc"\n"d"\n', [("a.csv:2", "a\nb\r\nc"), ("a.csv:5", "d")]),
        (b'"text"\n"say ""hi"""\n', [("a.csv:2", 'say "hi"')]),
        (b"text\na\x00b\n", [("a.csv:2", "a\x00b")]),
        (b"x,text,y\n1,\xe2\x82\xac,\n", [("a.csv:2", "\u20ac")]),
        (b"text\n=cmd|' /C calc'!A0\n", [("a.csv:2", "=cmd|' /C calc'!A0")]),
        (b"text\n", []),
        (b"", []),
        (b"\xef\xbb\xbf\n", []),
        (b"text\rFine.\r\rGood.\r", [("a.csv:2", "Fine."), ("a.csv:4", "Good.")]),
        (b"n,text,n\n1,Fine.,2\n", [("a.csv:2", "Fine.")]),
        ("text\nFine.\n".encode("utf-16"), [("a.csv:2", "Fine.")]),
    ],
)
def test_csv_as_it_comes(tmp_path: Path, raw: bytes, expected: list[tuple[str, str]]) -> None:
    (tmp_path / "a.csv").write_bytes(raw)
    assert [(row.place, row.values["text"]) for row in read(tmp_path / "a.csv")] == expected


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.csv", b"text,n\nFine.,1\nGood.\n", r"a.csv:3: the row has 1 fields, the header has 2"),
        ("a.csv", b'text,n\n"two\nlines",1\na,b,c\n', r"a.csv:4: the row has 3 fields, the header has 2"),
        (
            "a.csv",
            b"text\nFine.\ncaf\xe9\n",
            r"a.csv:3: not UTF-8 \(byte 0xe9\); save the file as UTF-8 .*, or say what it is",
        ),
        ("a.csv", "text\nFine.\n".encode("utf-16-le"), r"a.csv: this is UTF-16 without its mark: say so"),
        ("a.csv", b'text\nFine.\n"never closed\nFine.\n', r"a.csv:3: broken csv in the row .*: unexpected end"),
        ("a.csv", b'text\n"a" b\n', r"a.csv:2: broken csv in the row that starts here: "),
        ("a.csv", b"txet,n\nFine.,1\n", r"a.csv: no column 'text' \(did you mean 'txet'\?\)"),
        ("a.csv", b"sentence,n\nFine.,1\n", r"a.csv: no column 'text' \(it has: sentence, n\)"),
        (
            "a.csv",
            b"text;n\nFine.;1\n",
            r"a.csv: no column 'text' \(the header looks semicolon-separated: set delimiter: \";\", or write commas\)",
        ),
        ("a.jsonl", b'{"a;b": "a"}\n', r"a.jsonl:1: no column 'text' \(it has: a;b\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a.jsonl:2: broken JSON: "),
        ("a.jsonl", b'{"text": "a"}\n\n["text"]\n', r"a.jsonl:3: expected a JSON object with the columns text"),
        ("a.jsonl", b'{"text": "a"}\n{"Text": "b"}\n', r"a.jsonl:2: no column 'text' \(did you mean 'Text'\?\)"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', r"a.jsonl:1: not UTF-8 \(byte 0xe9\)"),
        ("a.jsonl", b'{"text":' + b"[" * 100_000, r"a.jsonl:1: broken JSON: "),
        ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}", r"a.jsonl:1: broken JSON: "),
        ("a.parquet", b"PAR1 this is none", r"a.parquet: broken parquet: "),
        ("a.parquet", parquet_bytes([{"Text": "a"}]), r"a.parquet: no column 'text' \(did you mean 'Text'\?\)"),
        ("a.csv.gz", b"text\nFine.\n", r"a.csv.gz: cannot be read: "),
        (
            "a.csv.gz",
            gzip.compress(csv_bytes(ROWS * 99), mtime=0)[:-20],
            r"a.csv.gz: cannot be read after a.csv.gz:\d+: ",
        ),
    ],
)
def test_damage_is_an_error_with_its_place(tmp_path: Path, name: str, raw: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_parquet_pages_that_are_damaged(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {i}" for i in range(5000)]})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    raw = bytearray((tmp_path / "a.parquet").read_bytes())
    raw[4:2000] = b"\xff" * 1996
    (tmp_path / "a.parquet").write_bytes(raw)
    with pytest.raises(DataError, match=r"a.parquet: broken parquet: "):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("as it is \x00\n", "as it is \x00\n"),
        (None, ""),
        (3, "3"),
        (2.5, "2.5"),
        (True, "true"),
        (float("nan"), ""),
        (b"caf\xc3\xa9", "caf\u00e9"),
        ("half \ud800 a pair \udfff", "half \ufffd a pair \ufffd"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_a_cell_as_text(value: object, expected: str) -> None:
    assert text_of(value) == expected


def test_half_a_pair_in_jsonl_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800 b"}\n{"text": "\\ud83d\\ude00"}\n')
    cells = [text_of(text) for text in texts(tmp_path / "a.jsonl")]
    assert cells == ["a \ufffd b", "\U0001f600"]
    assert pa.array(cells, pa.string()).to_pylist() == cells


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.csv", csv_bytes), ("a.jsonl", jsonl_bytes), ("a.parquet", parquet_bytes)],
)
def test_ten_megabytes_in_one_cell(tmp_path: Path, name: str, write: Callable[[list[dict[str, str]]], bytes]) -> None:
    long = 'word "and"\n' * (10 * 2**20 // 11)
    (tmp_path / name).write_bytes(write([ROWS[0], {"text": long, "n": "9"}, ROWS[2]]))
    start = time.process_time()
    found = texts(tmp_path / name)
    assert time.process_time() - start < 5.0
    assert found == [ROWS[0]["text"], long, ROWS[2]["text"]]


LOOKS_LIKE_A_PATH = ["../../etc/passwd", "file:///etc/passwd", "${HOME}", "~/.ssh/id_rsa", "memory://x", "a*.csv", "-"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_cell_that_looks_like_a_path_stays_text(tmp_path: Path, name: str) -> None:
    rows = [{"text": text, "n": "1"} for text in LOOKS_LIKE_A_PATH]
    write = {"csv": csv_bytes, "jsonl": jsonl_bytes, "parquet": parquet_bytes}[name.split(".")[1]]
    (tmp_path / name).write_bytes(write(rows))
    assert texts(tmp_path / name) == LOOKS_LIKE_A_PATH


@given(st.lists(st.text().filter(lambda text: text.encode("utf-8", "ignore").decode() == text), max_size=8))
def test_jsonl_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "given.jsonl"
    path.write_bytes(jsonl_bytes([{"text": cell, "n": ""} for cell in cells]))
    assert texts(path) == cells


def test_a_server_that_refuses_is_the_users_to_mend() -> None:
    with pytest.raises(DataError, match=r"http://127.0.0.1:1/\*.csv: cannot be read: .*Connect call failed"):
        list(read_rows(Source("http://127.0.0.1:1/*.csv"), ["text"]))
