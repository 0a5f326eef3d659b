"""``task.labels`` however it is written: names, names with descriptions, or a file; one form afterwards."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from runner.spec import load_spec
from runner.system.errors import SpecError
from runner.tasks.kinds import task_of
from runner.tasks.shared import label_list
from runner.teacher.request import prompt_task, teacher_key

SPEC = """\
version: 1
name: intents
task:
  labels: {labels}
data: {{train: {{path: texts.csv}}}}
teacher: {{model: "catalog:smollm2-135m-instruct"}}
"""
WRITTEN = "[card_arrival, {name: card_lost, description: says that a card is gone}, other]"


@pytest.fixture
def load(tmp_path: Path):
    def load_(labels: str, *overrides: str):
        (tmp_path / "spec.yaml").write_text(SPEC.format(labels=labels), encoding="utf-8")
        return load_spec(tmp_path / "spec.yaml", overrides)

    load_.folder = tmp_path
    return load_


def intents(folder: Path, name: str = "intents.csv") -> None:
    rows = [("card_arrival", ""), ("card_lost", "says that a card is gone"), ("other", "")]
    frame = pd.DataFrame(rows, columns=["label", "meaning"])
    if name.endswith(".parquet"):
        frame.to_parquet(folder / name)
    elif name.endswith(".jsonl"):
        frame.to_json(folder / name, orient="records", lines=True)
    else:
        frame.to_csv(folder / name, index=False)


def problems(load, labels: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as found:
        load(labels, *overrides)
    return [f"{each.line}:{each.column} {each.path} [{each.code}] {each.message}" for each in found.value.problems]


def test_names_alone_are_as_they_always_were(load):
    spec = load("[a, b]")
    assert (spec.task.labels, spec.task.descriptions, spec.task.label_file) == (("a", "b"), (), None)
    assert spec.to_dict()["task"]["labels"] == ["a", "b"]
    assert prompt_task(spec).answers.request("direct") == "Answer with exactly one label, and nothing else: a, b."


def test_a_description_is_told_to_the_teacher(load):
    spec = load(WRITTEN)
    assert spec.task.labels == ("card_arrival", "card_lost", "other")
    assert spec.task.descriptions == ("", "says that a card is gone", "")
    for form in ("direct", "cot"):
        said = prompt_task(spec).answers.request(form)
        assert "- card_arrival\n- card_lost: says that a card is gone\n- other\n" in said
        assert "exactly one of these labels" in said


@pytest.mark.parametrize("name", ["intents.csv", "intents.jsonl", "intents.parquet"])
def test_a_file_gives_the_same_task_with_the_same_fingerprint(load, name):
    intents(load.folder, name)
    written, read = load(WRITTEN), load(f"{{from: {name}, description: meaning}}")
    assert (read.task.labels, read.task.descriptions) == (written.task.labels, written.task.descriptions)
    assert teacher_key(read) == teacher_key(written)
    assert read.to_dict() == written.to_dict()
    assert read.task.label_file == name


def test_what_is_written_out_reads_back_as_the_same_spec(load):
    intents(load.folder)
    spec = load("{from: intents.csv, description: meaning}")
    (load.folder / "again.yaml").write_text(yaml.safe_dump(spec.to_dict()), encoding="utf-8")
    (load.folder / "intents.csv").unlink()
    again = load_spec(load.folder / "again.yaml")
    assert again.to_dict() == spec.to_dict()
    assert label_list.names(spec.to_dict()["task"]) == label_list.names(vars(spec.task)) == spec.task.labels
    assert label_list.descriptions(spec.to_dict()["task"]) == spec.task.descriptions
    assert label_list.descriptions(load("[a, b]").to_dict()["task"]) == ()


def test_a_template_shows_what_labels_mean(load):
    spec = load(WRITTEN, "teacher.template='{labels} // {text}'")
    from runner.teacher.prompt import messages

    assert "- card_lost: says that a card is gone\n- other // T" in messages(prompt_task(spec), "T")[0]["content"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("label\na\nb\nA \n", "[spec.label-twice] intents.csv:4: 'A' stands at intents.csv:2 already"),
        ("label\na\n\nb\n,\n", "intents.csv"),
        (f"label\na\n{'b' * 101}\n", "[spec.label-long] intents.csv:3: a label has at most 100 characters"),
        ("label\na\n", "[spec.labels-count] intents.csv: expected 2 to 1,000 labels, found 1"),
        ("label\n", "[spec.labels-count] intents.csv: expected 2 to 1,000 labels, found 0"),
        ("name\na\nb\n", "intents.csv: no column 'label' (it has: name)"),
        ('label\na\n"b\nc"\n', "[spec.label-lines] intents.csv:3: a label stands in one line"),
        ("label\n" + "\n".join(f"l{n}" for n in range(1001)) + "\n", "found 1,001"),
    ],
    ids=["twice", "ragged", "long", "one", "none", "column", "lines", "many"],
)
def test_a_file_that_is_wrong_is_named_with_its_line(load, content, said, monkeypatch):
    monkeypatch.chdir(load.folder)
    (load.folder / "intents.csv").write_text(content, encoding="utf-8")
    found = problems(load, "{from: intents.csv}")
    assert len(found) == 1 and found[0].startswith("4:18 task.labels.from ") and said in found[0], found


def test_many_problems_of_a_file_are_counted(load):
    (load.folder / "intents.csv").write_text("label\n" + "a\n" * 30, encoding="utf-8")
    found = problems(load, "{from: intents.csv}")
    assert len(found) == 5 and found[-1].endswith("(and 24 more)")


def test_a_long_description_and_a_missing_file(load):
    pd.DataFrame({"label": ["a", "b"], "why": ["x" * 1001, "y"]}).to_csv(load.folder / "intents.csv", index=False)
    (found,) = problems(load, "{from: intents.csv, description: why}")
    assert "a description has at most 1,000 characters, and this one 1,001" in found
    (found,) = problems(load, "{from: nowhere.csv}")
    assert "4:18 task.labels.from" in found and "nowhere.csv" in found
    (found,) = problems(load, "{from: '${TUTELAGE_NOT_SET}/x.csv'}")
    assert "TUTELAGE_NOT_SET is not set" in found
    (found,) = problems(load, "{from: 's3://bucket/x.csv'}")
    assert "name a file, not a URL" in found


def test_the_label_that_means_none_of_the_others_is_one_of_them(load):
    spec = load(WRITTEN, "task.out_of_scope=OTHER")
    assert spec.task.out_of_scope == "other"
    assert prompt_task(spec).answers.request("direct").endswith(" Where no other label fits, the label is other.")
    assert task_of(spec).scoring.key(spec) == {"out_of_scope": "other"}
    (found,) = problems(load, WRITTEN, "task.out_of_scope=othr")
    assert "[spec.label-unknown]" in found and "(did you mean 'other'?)" in found
