"""``validate`` and ``run`` read with the same code: what one accepts the other reads, and the reverse.

``train`` and ``test`` are looked at whole, so there the two agree on every file. Of a larger corpus than
``BEGINNING_BYTES`` validate reads the beginning alone, so there it accepts whatever begins well. What load says of rows
that it has read (none is left, a leak) is no question of reading.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from runner.data import preview
from runner.data.splits import read_split
from runner.planning.files import check_files
from runner.spec import Spec, load_spec
from runner.system.errors import DataError, SpecError

SPEC = """
version: 1
name: one-reader
task: {{labels: [good, bad]}}
data:
  train: {{path: train.{kind}}}
  test: {{path: test.{kind}, label: label}}
teacher: {{engine: noop, model: none}}
"""
GOOD = {
    "csv": b"text,label\nfine,good\n",
    "jsonl": b'{"text": "fine", "label": "good"}\n',
    "parquet": b"",  # filled in below
}
BOUNDED = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

LABELS = st.sampled_from(["good", "bad", " GOOD "] * 5 + ["ugly", ""])
TEXTS = st.text(st.sampled_from('abé,;"\r\n\t\x00\ufeff \u2028'), max_size=6)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
HEADERS = st.sampled_from(
    [["text", "label"], ["label", "text"], ["text", "label", "more"]] * 5
    + [["text"], ["text", "label", "label"], ["Text", "label"], []]
)


def stored(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


GOOD["parquet"] = stored(pa.table({"text": ["fine"], "label": ["good"]}))


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    header, end = draw(HEADERS), draw(LINE_ENDS)
    write = draw(st.sampled_from([quoted, quoted, quoted, lambda cell: cell]))
    lines = [",".join(header)]
    for _ in range(draw(st.integers(0, 3))):
        cells = [draw(TEXTS if name.startswith("t") else LABELS) for name in header]
        if draw(st.integers(0, 15)) == 0:
            cells = cells[:-1] if draw(st.booleans()) else [*cells, "more"]
        lines.append(",".join(map(write, cells)))
        lines += [""] * draw(st.sampled_from([0, 0, 0, 1]))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return damaged(draw, (draw(st.sampled_from(["", "", "\ufeff"])) + text).encode())


CELLS = st.one_of(TEXTS, LABELS, st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.just([]), st.just({}))


@st.composite
def jsonl_files(draw: st.DrawFn) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        row = {"text": draw(TEXTS), "label": draw(LABELS)}
        kind = draw(st.sampled_from(["good"] * 6 + ["missing", "cell", "array", "twice", "blank"]))
        if kind == "missing":
            del row[draw(st.sampled_from(["text", "label"]))]
        elif kind == "cell":
            row[draw(st.sampled_from(["text", "label"]))] = draw(CELLS)
        line = json.dumps([row] if kind == "array" else row, ensure_ascii=draw(st.booleans()))
        lines.append({"twice": line[:-1] + ', "text": "again"}', "blank": " "}.get(kind, line))
    end = draw(LINE_ENDS)
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return damaged(draw, (draw(st.sampled_from(["", "", "\ufeff"])) + text).encode())


def columns(rows: int) -> st.SearchStrategy[pa.Array]:
    def many(cells: st.SearchStrategy[Any], kind: pa.DataType) -> st.SearchStrategy[pa.Array]:
        return st.lists(cells, min_size=rows, max_size=rows).map(lambda found: pa.array(found, kind))

    texts = many(LABELS, pa.string())
    return st.one_of(
        *[texts] * 12,
        texts.map(lambda array: array.dictionary_encode()),
        many(st.none() | LABELS, pa.large_string()),
        many(st.integers(0, 9), pa.int64()),
        many(st.integers(0, 9), pa.int64()).map(lambda array: array.dictionary_encode()),
        many(st.floats(), pa.float64()),
        many(st.binary(max_size=2), pa.binary()),
        many(st.dates(), pa.date32()),
        many(st.lists(st.text(max_size=1)), pa.list_(pa.string())),
        many(st.fixed_dictionaries({"a": st.integers(0, 1)}), pa.struct([("a", pa.int64())])),
        many(st.none(), pa.null()),
    )


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    header = draw(HEADERS)
    rows = draw(st.integers(0, 3))
    return damaged(draw, stored(pa.Table.from_arrays([draw(columns(rows)) for _ in header], names=header)))


def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content, now and then cut off, with a byte that is no UTF-8, or with nothing left of it."""
    how = draw(st.sampled_from(["whole"] * 15 + ["cut", "byte", "empty"]))
    at = draw(st.integers(0, len(content)))
    return {"cut": content[:at], "byte": content[:at] + b"\xff" + content[at:], "empty": b""}.get(how, content)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Spec]:
    folder, found = tmp_path_factory.mktemp("one-reader"), {}
    for kind in GOOD:
        (folder / f"{kind}.yaml").write_text(SPEC.format(kind=kind), encoding="utf-8")
        found[kind] = load_spec(folder / f"{kind}.yaml")
    return found


def write(spec: Spec, kind: str, split: str, content: bytes) -> None:
    for name in ("train", "test"):
        (Path(spec.base) / f"{name}.{kind}").write_bytes(content if name == split else GOOD[kind])


def accepted(spec: Spec) -> str:
    """What validate has against the files; empty where it accepts them."""
    try:
        check_files(spec)
    except SpecError as error:
        return str(error)
    return ""


def read(spec: Spec, split: str) -> str:
    """What load has against a split's rows as it reads them; empty where it reads some."""
    try:
        return "" if read_split(spec, split, getattr(spec.data, split)).read else "there is no row"
    except DataError as error:
        return str(error)


def both(specs: dict[str, Spec], kind: str, split: str, content: bytes) -> None:
    spec = specs[kind]
    write(spec, kind, split, content)
    of_validate, of_run = accepted(spec), read(spec, split)
    event("refused" if of_run else "read")
    assert bool(of_validate) == bool(of_run), f"validate: {of_validate or 'fine'}\nrun: {of_run or 'fine'}\n{content!r}"


SPLITS = st.sampled_from(["train", "test"])


@BOUNDED
@given(split=SPLITS, content=csv_files())
@example(split="train", content=b"text\n\n\n")
@example(split="train", content=b"\xef\xbb\xbf")
@example(split="test", content=b'text,label\n"open,good\n')
@example(split="test", content=b"text,label\rone,good\rtwo,bad\r")
def test_csv(specs: dict[str, Spec], split: str, content: bytes) -> None:
    both(specs, "csv", split, content)


@BOUNDED
@given(split=SPLITS, content=jsonl_files())
@example(split="train", content=b'{"text": "a", "text": "b"}\n')
@example(split="train", content=b"\n\n")
def test_jsonl(specs: dict[str, Spec], split: str, content: bytes) -> None:
    both(specs, "jsonl", split, content)


@BOUNDED
@given(split=SPLITS, content=parquet_files())
@example(split="train", content=b"PAR1")
def test_parquet(specs: dict[str, Spec], split: str, content: bytes) -> None:
    both(specs, "parquet", split, content)


@pytest.mark.parametrize("kind", GOOD)
def test_both_read_good_files_and_refuse_bad_ones(specs: dict[str, Spec], kind: str) -> None:
    """The property would hold as well for readers that refuse everything, or nothing."""
    write(specs[kind], kind, "train", GOOD[kind])
    assert accepted(specs[kind]) == read(specs[kind], "train") == ""
    write(specs[kind], kind, "train", b"")
    assert accepted(specs[kind]) and read(specs[kind], "train")


def test_of_a_large_corpus_validate_reads_the_beginning_alone(
    specs: dict[str, Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "BEGINNING_BYTES", 100)
    monkeypatch.setattr(preview, "BEGINNING_ROWS", 10)
    folder = Path(specs["csv"].base)
    spec = load_spec(folder / "csv.yaml", ["data.corpus={path: corpus.csv}"])
    write(spec, "csv", "train", GOOD["csv"])
    lines = ["text", *["fine"] * 100]
    for at, expected in ((5, True), (50, False)):
        broken = [*lines[:at], "a,b", *lines[at:]]
        (folder / "corpus.csv").write_text("\n".join(broken), encoding="utf-8")
        assert bool(accepted(spec)) is expected
        assert spec.data.corpus is not None
        with pytest.raises(DataError, match="fields"):
            read_split(spec, "corpus", spec.data.corpus)
