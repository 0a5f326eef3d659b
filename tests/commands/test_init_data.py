"""``tutelage init --data``: a spec that validates, from flags or from answers; nothing is overwritten or left half."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runner.commands import init_data
from runner.commands.cli import main
from runner.planning.files import check_spec
from runner.planning.propose import Machine

HOSTILE = ["=cmd|' /C calc'!A0", '"quoted", and a comma', "two\nlines", "# no comment: {a: b}", "emoji 😀 and \u202e"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and a machine without GPUs: what is proposed must not hang on where the tests run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init_data.Machine, "here", lambda: Machine((), 2, 16 << 30, frozenset({"avx512_bf16"})))
    return tmp_path


def texts(name: str = "texts.jsonl", labelled: int = 0) -> str:
    rows = [{"text": f"The parcel {n} was late. {HOSTILE[n % 5]}", "who": f"customer {n}"} for n in range(60)]
    for n, row in enumerate(rows):
        row["kind"] = ("praise", "complaint")[n % 2] if n < labelled else ""
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def rows_of(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").split("\n") if line]


def test_the_spec_of_a_labelled_file_validates_and_reads_the_same_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "parcels", "--data", texts(labelled=40), "--label", "kind"]) == 0
    said = capsys.readouterr().out
    assert "60 different texts" in said and "parcels.yaml: written" in said
    spec = check_spec("parcels.yaml")
    assert spec.task.labels == ("complaint", "praise")
    assert spec.teacher.model == "catalog:qwen2.5-coder-1.5b-instruct"
    split = {part: rows_of(f"parcels-{part}.jsonl") for part in ("train", "test")}
    assert (len(split["train"]), len(split["test"])) == (30, 30)
    both = [row["text"] for rows in split.values() for row in rows]
    assert sorted(both) == sorted(row["text"] for row in rows_of("texts.jsonl"))
    assert main(["validate", "parcels.yaml"]) == 0


def test_texts_that_nobody_has_labelled_get_a_spec_without_a_test_set(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--labels", 'praise,"a complaint, or a question"', "--instructions", "Say what the customer wants."]
    assert main(["init", "parcels", "--data", texts(), *words]) == 0
    assert "parcels.yaml: written; `tutelage try parcels.yaml` shows" in capsys.readouterr().out
    spec = check_spec("parcels.yaml")
    assert spec.data.test is None and spec.data.train.path == "texts.jsonl"
    assert spec.task.labels == ("praise", "a complaint, or a question")
    assert "`tutelage review runs/parcels` asks you for as many" in spec.text
    assert main(["validate", "parcels.yaml"]) == 0
    assert main(["init", "starter"]) == 0
    Path("data").mkdir()
    Path("data/train.csv").write_text("text\nNice.\nAwful.\n")
    assert main(["validate", "starter.yaml"]) == 0 and check_spec("starter.yaml").data.test is None


def test_nothing_is_overwritten_and_nothing_is_left_half(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts(labelled=40)
    Path("parcels-test.jsonl").write_text("mine")
    assert main(["init", "parcels", "--data", "texts.jsonl", "--label", "kind"]) == 1
    assert "parcels-test.jsonl: already exists" in capsys.readouterr().err
    assert sorted(os.listdir(here)) == ["parcels-test.jsonl", "texts.jsonl"]
    assert Path("parcels-test.jsonl").read_text() == "mine"
    words = ["--labels", "praise,complaint,PRAISE"]  # which the spec's own rules refuse
    assert main(["init", "other", "--data", "texts.jsonl", "--label", "kind", *words]) == 2
    assert "but for capitals and blanks" in capsys.readouterr().err
    assert sorted(os.listdir(here)) == ["parcels-test.jsonl", "texts.jsonl"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text", "txet"], "--text: texts.jsonl has no column 'txet' (did you mean 'text'?)"),
        (["--labels", "one"], "--labels: name what each text is to be called, two labels at least"),
        ([], "--labels good,bad; the column 'kind' has praise, complaint"),
        (["--label", "text"], "--label: 'text' is the column with the texts"),
        (["--label", "kind", "--labels", "praise,blame"], "has labels that --labels does not name: texts.jsonl:2"),
    ],
)
def test_what_is_missing_or_wrong_is_said_where_nobody_can_be_asked(
    here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "parcels", "--data", texts(labelled=40), *words]) != 0
    assert said in capsys.readouterr().err
    assert os.listdir(here) == ["texts.jsonl"]


def test_options_that_say_something_of_a_file_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "parcels", "--labels", "a,b"]) == 2
    assert "--labels says something of a file: name it with --data" in capsys.readouterr().err


def test_whoever_sits_at_a_terminal_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(init_data, "_asks", lambda: True)
    answers = iter(["", "kind", "Say whether a customer is content."])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert main(["init", "parcels", "--data", texts(labelled=40)]) == 0
    said = capsys.readouterr().out
    assert "Which column holds the texts? [text]" in said and "in one of the columns kind?" in said
    spec = check_spec("parcels.yaml")
    assert (spec.task.labels, spec.task.instructions) == (
        ("complaint", "praise"),
        "Say whether a customer is content.",
    )


@pytest.mark.parametrize("label", ["no", "12:30", "#1", "a: b", "{x}", 'say "x"', "true", "-", "é 😀", "a\\b"])
def test_labels_and_instructions_stay_as_they_are_whatever_they_look_like(label: str) -> None:
    rows = [{"text": f"Sentence {n} of the file.", "kind": (label, "other")[n % 2]} for n in range(20)]
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = f"First line: {label}\n  # second {{name}} 'line'\tend"
    assert main(["init", "x", "--data", "texts.jsonl", "--label", "kind", "--instructions", told]) == 0
    spec = check_spec("x.yaml")
    assert set(spec.task.labels) == {label, "other"}
    assert spec.task.instructions == told
