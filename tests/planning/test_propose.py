"""What a data file is seen to be, and the teacher and the student that are proposed for it and a machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.planning import languages
from runner.planning.inspection import Texts, inspect, look_at_texts
from runner.planning.labelled_rows import TEST_MOST, part
from runner.planning.propose import (
    FAST_STUDENT,
    LONGER_CONTEXT,
    MOST_TEXTS,
    MULTILINGUAL,
    MULTILINGUAL_ON_GPUS,
    ON_PROCESSORS,
    STUDENT,
    Machine,
    propose,
)
from runner.system.errors import DataError, UserError
from runner.system.nvml import Gpu

TEXTS = Texts(
    texts=3000, empty=0, duplicates=0, median=100, p95=300, longest=400, mean=120.0, languages={"English": 1.0}
)
TWO_CORES = Machine((), 2, 24 << 30, frozenset({"avx512_bf16", "amx_bf16"}))


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def with_gpus(product: str, count: int, memory: int = 0) -> Machine:
    return replace(TWO_CORES, gpus=(Gpu(product, memory),) * count)


def test_columns_lengths_and_duplicates_are_those_of_the_file(tmp_path: Path) -> None:
    lines = ["id,message,kind,price"]
    lines += [f'{n},"The parcel {n % 30} was late, and nobody wrote to us.",{"ab"[n % 2]},{n}.25' for n in range(40)]
    lines += ["40,,a,1.5"]
    found = inspect(write(tmp_path / "x.csv", "\n".join(lines) + "\n"))
    assert (found.rows, found.text_column, found.whole) == (41, "message", True)
    assert [column.name for column in found.label_columns("message")] == ["kind"], "neither ids nor prices"
    kind = found.column("kind")
    assert kind and kind.values == (("a", 21), ("b", 20))
    texts = look_at_texts(found, "message")
    assert (texts.texts, texts.duplicates, texts.empty) == (30, 10, 1)
    assert texts.languages == {"English": 1.0}
    assert (texts.longest, texts.median) == (47, 47)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_delimiter_is_found_out(tmp_path: Path, mark: str) -> None:
    rows = [["text", "label"], ["A long sentence, with a comma.", "yes"], ["Another one here.", "no"]]
    found = inspect(write(tmp_path / "x.csv", "\n".join(mark.join(row) for row in rows)))
    assert (found.source.delimiter, [column.name for column in found.columns]) == (mark, ["text", "label"])


def test_columns_that_are_no_text_are_left_out_with_their_reason(tmp_path: Path) -> None:
    table = pa.table({"text": ["One text.", "Another text."], "tags": [["a"], ["b"]], "n": [1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    found = inspect(str(tmp_path / "x.parquet"))
    assert [column.name for column in found.columns] == ["text", "n"]
    assert list(found.left_out) == ["tags"] and "no text: cast it to string first" in found.left_out["tags"]
    rows = [{"text": "One text.", "note": "x"}, {"text": "Another text."}]
    found = inspect(write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [column.name for column in found.columns] == ["text"], "a key that not all objects have is no column"
    assert "x.jsonl:2" in found.left_out["note"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"", "no row of data"),
        ("x.csv", b"text\n", "no row of data"),
        ("x.txt", b"text\n", "does not tell how rows are stored"),
        ("x.csv", "text\nGrüße\n".encode("cp1252"), "encoding: cp1252 reads"),
        ("x.csv", b"text,text\na,b\n", "all its columns have the same name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        inspect(str(tmp_path / name))


def test_no_file_and_no_local_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        inspect(str(tmp_path))
    with pytest.raises(UserError, match="only a file on this machine"):
        inspect("s3://bucket/x.csv")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The parcel was late and nobody wrote to us.", "English"),
        ("Das Paket ist nicht angekommen und niemand hat sich gemeldet.", "German"),
        ("Le colis est arrivé avec une semaine de retard.", "French"),
        ("El paquete llegó muy tarde y no hay respuesta.", "Spanish"),
        ("荷物が遅れて届きました。", "Japanese"),
        ("包裹来晚了。", "Chinese"),
        ("Посылка опоздала.", "Cyrillic script"),
        ("وصل الطرد متأخرا", "Arabic script"),
        ("12 345", "unknown"),
        ("OK", "unknown"),
    ],
)
def test_languages_are_guessed(text: str, language: str) -> None:
    assert languages.guess(text) == language


def test_english_is_what_nearly_all_texts_are() -> None:
    assert languages.is_english({"English": 0.6, "unknown": 0.38, "German": 0.02})
    assert not languages.is_english({"English": 0.6, "German": 0.4})
    assert languages.is_english({"unknown": 1.0}), "nothing speaks against it"


def test_a_processor_gets_the_largest_teacher_that_it_holds_and_that_is_done_in_a_night() -> None:
    ours = propose(TEXTS, TWO_CORES)
    assert (ours.teacher, ours.student, ours.limit) == ({"model": ON_PROCESSORS[0]}, {"model": STUDENT}, None)
    assert propose(TEXTS, replace(TWO_CORES, memory=3 << 30)).teacher == {"model": ON_PROCESSORS[1]}
    slow = propose(replace(TEXTS, mean=6000.0, texts=9000), replace(TWO_CORES, flags=frozenset()))
    assert slow.teacher["model"] == ON_PROCESSORS[1] and slow.limit == 2200


def test_more_texts_than_a_student_learns_from_are_not_labelled() -> None:
    many = propose(replace(TEXTS, texts=2_000_000), with_gpus("NVIDIA H200", 1))
    assert (many.limit, many.why["limit"]) == (MOST_TEXTS, "a student learns little from more")
    assert many.teacher["model"] == "mistralai/Mixtral-8x7B-Instruct-v0.1"
    night = propose(replace(TEXTS, texts=2_000_000, mean=2000.0), TWO_CORES)
    assert night.limit and night.limit < MOST_TEXTS and "in 8 hours" in night.why["limit"]
    assert night.student["model"] == FAST_STUDENT


@pytest.mark.parametrize(
    ("product", "count", "model", "resources"),
    [
        ("NVIDIA L4", 1, "Qwen/Qwen2.5-7B-Instruct", {"accelerator": "L4", "gpus": 1}),
        ("NVIDIA L4", 4, "TheBloke/Mixtral-8x7B-Instruct-v0.1-AWQ", {"accelerator": "L4", "gpus": 2}),
        ("NVIDIA H100 80GB HBM3", 2, "mistralai/Mixtral-8x7B-Instruct-v0.1", {"accelerator": "H100", "gpus": 2}),
        ("NVIDIA A100-SXM4-80GB", 1, "TheBloke/Mixtral-8x7B-Instruct-v0.1-AWQ", {"accelerator": "A100-80G", "gpus": 1}),
        ("Tesla T4", 1, "catalog:qwen2.5-coder-1.5b-instruct", {"accelerator": "T4", "gpus": 1}),
    ],
)
def test_gpus_get_the_largest_teacher_that_they_hold(product: str, count: int, model: str, resources: object) -> None:
    ours = propose(TEXTS, with_gpus(product, count))
    assert (ours.teacher["model"], ours.teacher["resources"]) == (model, resources)
    assert ours.student["resources"]["gpus"] == 1


def test_a_gpu_of_an_unknown_kind_is_judged_by_its_memory() -> None:
    assert propose(TEXTS, with_gpus("NVIDIA Z9", 1, 24 << 30)).teacher["model"] == "Qwen/Qwen2.5-7B-Instruct"
    small = propose(TEXTS, with_gpus("NVIDIA Z9", 1, 8 << 30))
    assert small.teacher == {"model": "catalog:qwen2.5-coder-1.5b-instruct", "resources": {"gpus": 1}}


def test_long_texts_and_other_languages_are_provided_for() -> None:
    long = propose(replace(TEXTS, longest=50_000), TWO_CORES)
    assert long.teacher == {"model": ON_PROCESSORS[0], "truncate": True}
    longer = propose(replace(TEXTS, longest=50_000, p95=20_000, mean=9000.0), TWO_CORES)
    assert longer.teacher["max_context"] == LONGER_CONTEXT and longer.student["max_length"] == 512
    german = replace(TEXTS, languages={"German": 0.7, "English": 0.3})
    assert propose(german, TWO_CORES).student["model"] == MULTILINGUAL
    assert propose(german, with_gpus("NVIDIA L4", 1)).student["model"] == MULTILINGUAL_ON_GPUS
    assert "German" in propose(german, TWO_CORES).why["languages"]


def labelled(tmp_path: Path, rows: list[tuple[str, str]]) -> str:
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    return write(tmp_path / "x.jsonl", "\n".join(lines) + "\n")


def test_labelled_rows_are_parted_and_no_text_is_in_both(tmp_path: Path) -> None:
    rows = [(f"Sentence number {n}", ("good", "bad")[n % 2] if n < 300 else "") for n in range(400)]
    rows += [("  SENTENCE number 1", "bad"), ("sentence NUMBER 2", "bad"), ("", "good"), ("Sentence number 399", "")]
    parts = part(inspect(labelled(tmp_path, rows)), "text", "label", ["good", "bad"])
    assert len(parts.test) == 199, "half of those that are left"
    assert not {text.casefold() for text, _ in parts.test} & {text.casefold() for text in parts.train}
    assert all(label == ("good", "bad")[int(text.split()[-1]) % 2] for text, label in parts.test)
    assert parts.dropped == {"duplicate": 3, "empty": 1, "conflicting labels": 1}
    assert len(parts.test) + len(parts.train) == 399
    assert not {"Sentence number 2", "sentence NUMBER 2"} & {*parts.train, *(text for text, _ in parts.test)}


def test_no_more_rows_measure_than_are_of_use(tmp_path: Path) -> None:
    rows = [(f"Sentence number {n}", ("good", "bad")[n % 2]) for n in range(2000)]
    found = inspect(labelled(tmp_path, rows))
    parts = part(found, "text", "label", ["good", "bad"])
    assert (len(parts.test), len(parts.train)) == (TEST_MOST, 1500)
    assert parts.test == part(found, "text", "label", ["good", "bad"]).test, "the same ones each time"


def test_labels_that_are_not_named_and_too_few_are_refused(tmp_path: Path) -> None:
    found = inspect(labelled(tmp_path, [("One sentence.", "good"), ("Another one.", "godo")]))
    with pytest.raises(DataError, match=r"x.jsonl:2: 'godo' \(did you mean 'good'\?\)"):
        part(found, "text", "label", ["good", "bad"])
    found = inspect(labelled(tmp_path, [("One sentence.", "good"), ("Another one.", ""), ("A third.", "")]))
    with pytest.raises(DataError, match="too few to measure with"):
        part(found, "text", "label", ["good", "bad"])
