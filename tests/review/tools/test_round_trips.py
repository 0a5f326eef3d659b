"""Rows out to each tool and answers back, in every form that a tool gives them in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import filled
import openpyxl
import pytest
from filled import ABOUT, ANNA, ANSWERS, FORMS, ITEMS, MANY, QUESTION, returned

from runner.commands.review import TOOLS as OFFERED
from runner.review.decisions import Decision, text_digest
from runner.review.lists import Item
from runner.review.tools import TOOLS
from runner.review.tools.imports import Imported, import_answers
from runner.system.errors import UserError
from runner.tasks.shared.shown import Choice, Question

REVIEWERS = {"label-studio": "label-studio-1", "argilla": ANNA, "prodigy": "set-anna", "xlsx": "me", "csv": "me"}
EXPORTS = {tool: name for tool, name, _ in FORMS.values()}


def test_the_command_offers_every_tool() -> None:
    assert set(OFFERED) == set(TOOLS)


def take(*paths: Path, stored: tuple[Decision, ...] = (), skip_bad: bool = False) -> Imported:
    return import_answers(ITEMS, paths, QUESTION, "me", stored, skip_bad)


@pytest.mark.parametrize("form", FORMS)
def test_answers_come_back(form: str, tmp_path: Path) -> None:
    found = take(returned(form, tmp_path))
    tool = FORMS[form][0]
    assert {decision.id: decision.value for decision in found.decisions} == ANSWERS
    by_id = {item.id: item for item in ITEMS}
    for decision in found.decisions:
        assert decision.list == by_id[decision.id].list and decision.action == "label"
        assert decision.digest == text_digest(by_id[decision.id].text)
        assert (decision.tool, decision.reviewer) == (tool, REVIEWERS[tool])
        assert decision.time.endswith("+00:00") and decision.seconds == (4.5 if tool == "label-studio" else None)
    assert (found.open, found.known, found.refused) == (0, 0, ())
    assert bool(found.notes) == (form == "argilla to_disk")  # it does not say what was submitted


@pytest.mark.parametrize("form", FORMS)
def test_the_same_file_again_changes_nothing(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path)
    first = take(path)
    again = take(path, stored=first.decisions)
    assert again.decisions == () and again.known == len(ANSWERS)
    assert len({decision.decision for decision in first.decisions}) == len(ANSWERS)


@pytest.mark.parametrize("form", FORMS)
def test_a_part_of_the_answers_is_taken_and_the_rest_is_open(form: str, tmp_path: Path) -> None:
    found = take(returned(form, tmp_path, answers={"s1": "good", "q1": "bad"}))
    assert {decision.id for decision in found.decisions} == {"s1", "q1"}
    listed = "JSON-MIN" not in form and "CSV" not in form and form != "prodigy"  # the others have answered rows alone
    assert found.open == (3 if listed else 0)


@pytest.mark.parametrize("form", FORMS)
def test_unclear_comes_back(form: str, tmp_path: Path) -> None:
    found = take(returned(form, tmp_path, answers={"s1": "unclear"}))
    assert [(decision.action, decision.value) for decision in found.decisions] == [("unclear", None)]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_sample_is_exported_blind(tool: str, tmp_path: Path) -> None:
    """Even where something of the teacher's stands in an item of the sample."""
    seen = Item(list="sample", id="s9", text="Sun.", value="so-so", probabilities={"so-so": 0.875}, reason="It shines.")
    paths = TOOLS[tool].export([seen, *ITEMS[:3]], tmp_path / EXPORTS[tool], ABOUT)
    if tool == "xlsx":
        sheet = openpyxl.load_workbook(paths[0])["review"]
        exported = " ".join(str(cell.value) for row in sheet.iter_rows() for cell in row)
    else:
        exported = " ".join(path.read_text("utf-8") for path in paths if path.suffix not in (".xml",))
    assert "It shines" not in exported and "875" not in exported and '"predictions"' not in exported
    assert '"accept"' not in exported and '"score"' not in exported and "teacher" not in exported


@pytest.mark.parametrize("tool", TOOLS)
def test_the_queue_shows_what_the_teacher_said(tool: str, tmp_path: Path) -> None:
    paths = TOOLS[tool].export(ITEMS, tmp_path / EXPORTS[tool], ABOUT)
    if tool == "xlsx":
        sheet = openpyxl.load_workbook(paths[0])["review"]
        exported = " ".join(str(cell.value) for row in sheet.iter_rows() for cell in row)
    else:
        exported = " ".join(path.read_text("utf-8") for path in paths)
    assert "It says worse." in exported and "no vote had a majority" in exported
    assert "0.625" in exported or "0.62" in exported


def test_label_studio_gets_predictions_the_interface_and_the_order(tmp_path: Path) -> None:
    tasks, interface = TOOLS["label-studio"].export(ITEMS, tmp_path / "tasks.json", ABOUT)
    read = json.loads(tasks.read_text("utf-8"))
    assert [task["data"]["order"] for task in read] == [1, 2, 3, 4, 5]
    assert [len(task.get("predictions", ())) for task in read] == [0, 0, 0, 1, 0]
    prediction = read[3]["predictions"][0]
    assert (prediction["model_version"], prediction["score"]) == ("three people", 0.625)
    assert prediction["result"][0]["value"] == {"choices": ["bad"]}
    view = ElementTree.parse(interface).getroot()
    assert [choice.get("value") for choice in view.iter("Choice")] == ["good", "bad", "so-so", "unclear"]
    header = view.find("Header")
    assert header is not None and header.get("value") == "Is it good?\nSay so."


def test_label_studio_shows_no_reason_where_all_is_blind(tmp_path: Path) -> None:
    _, interface = TOOLS["label-studio"].export(ITEMS[:3], tmp_path / "tasks.json", ABOUT)
    assert "$reason" not in interface.read_text("utf-8")


def test_skipped_tasks_of_label_studio_are_skips(tmp_path: Path) -> None:
    path = returned("label-studio JSON", tmp_path)
    tasks = json.loads(path.read_text("utf-8"))
    tasks[0]["annotations"][0] |= {"was_cancelled": True, "result": []}
    tasks[1]["annotations"].insert(0, tasks[1]["annotations"][0] | {"was_cancelled": True, "result": []})
    path.write_text(json.dumps(tasks))
    said = {decision.id: decision.action for decision in take(path).decisions}
    assert said["s1"] == "skip" and said["s2"] == "label"  # skipped first, answered later


def test_annotators_of_label_studio_are_told_apart(tmp_path: Path) -> None:
    path = returned("label-studio JSON", tmp_path)
    tasks = json.loads(path.read_text("utf-8"))
    ben = json.loads(json.dumps(tasks[0]["annotations"][0]))
    ben["completed_by"] = {"id": 2, "email": "ben@example.org"}
    ben["result"][0]["value"]["choices"] = ["bad"]
    tasks[0]["annotations"].append(ben)
    path.write_text(json.dumps(tasks))
    said = {decision.reviewer: decision.value for decision in take(path).decisions if decision.id == "s1"}
    assert said == {"label-studio-1": "good", "ben@example.org": "bad"}


def test_drafts_and_discarded_responses_of_argilla(tmp_path: Path) -> None:
    path = returned("argilla flattened", tmp_path)
    records = json.loads(path.read_text("utf-8"))
    records[0]["label.responses.status"] = ["draft"]
    records[1]["label.responses.status"] = ["discarded"]
    path.write_text(json.dumps(records))
    found = take(path)
    assert {decision.id: decision.action for decision in found.decisions if decision.action != "label"} == {
        "s2": "skip"
    }
    assert "s1" not in {decision.id for decision in found.decisions} and found.open == 1


def test_what_prodigy_ignores_is_a_skip_and_what_it_rejects_is_unclear(tmp_path: Path) -> None:
    path = returned("prodigy", tmp_path)
    tasks = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    tasks[0]["answer"], tasks[1]["answer"] = "ignore", "reject"
    path.write_text("\n".join(map(json.dumps, tasks)))
    said = {decision.id: decision.action for decision in take(path).decisions}
    assert (said["s1"], said["s2"], said["s3"]) == ("skip", "unclear", "label")


def test_prodigy_asks_about_equal_texts_once_for_each_row(tmp_path: Path) -> None:
    items = [Item(list="queue", id=f"r{number}", text="the same") for number in range(1000)]
    (path,) = TOOLS["prodigy"].export(items, tmp_path / "tasks.jsonl", ABOUT)
    hashes = [json.loads(line)["_task_hash"] for line in path.read_text().splitlines()]
    assert len(set(hashes)) == 1000 and all(0 <= number < 2**31 for number in hashes)


def test_a_workbook_has_a_drop_down_a_header_that_stays_and_hidden_ids(tmp_path: Path) -> None:
    (path,) = TOOLS["xlsx"].export(ITEMS, tmp_path / "rows.xlsx", ABOUT)
    book = openpyxl.load_workbook(path)
    sheet = book["review"]
    assert sheet.freeze_panes == "A2"
    header = {cell.value: cell.column_letter for cell in sheet[1]}
    assert sheet.column_dimensions[header["id"]].hidden and not sheet.column_dimensions[header["text"]].hidden
    (offered,) = sheet.data_validations.dataValidation
    assert str(offered.sqref) == f"{header['label']}2:{header['label']}6" and offered.formula1 == "answers!$A$1:$A$5"
    assert [cell.value for cell in book["answers"]["A"]] == ["good", "bad", "so-so", "unclear", "skip"]
    cells = [cell for row in sheet.iter_rows(min_row=2) for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s"} and {cell.number_format for cell in cells} == {"@"}


def test_cells_of_csv_files_are_no_formulas(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@sum", "'=1", " =1", "\t=1", "plain"]
    items = [Item(list="queue", id=str(number), text=text) for number, text in enumerate(texts)]
    (path,) = TOOLS["csv"].export(items, tmp_path / "rows.csv", ABOUT)
    written = path.read_text("utf-8-sig")
    assert not any(line.startswith(("=", "+", "-", "@", " =", '"\t', '"=')) for line in written.splitlines())
    answers = dict.fromkeys(map(str, range(len(texts))), "bad")
    found = import_answers(items, [filled.csv_file(path, answers)], QUESTION, "me")
    assert len(found.decisions) == len(texts)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_files_that_another_country_saved(delimiter: str, tmp_path: Path) -> None:
    (path,) = TOOLS["csv"].export(ITEMS, tmp_path / "rows.csv", ABOUT)
    assert len(take(filled.csv_file(path, ANSWERS, delimiter)).decisions) == len(ANSWERS)


def test_labels_that_are_called_as_the_words_for_no_label(tmp_path: Path) -> None:
    question = Question("choice", (Choice("unclear", "unclear"), Choice("skip", "Skip"), Choice(3, "three")))
    about = replace(ABOUT, question=question)
    answers = {"s1": "unclear", "s2": "Skip", "s3": "three", "q1": "(unclear)", "q2": "(skip)"}
    path = returned("csv", tmp_path, answers=answers, about=about)
    found = import_answers(ITEMS, [path], question, "me")
    assert {decision.id: (decision.action, decision.value) for decision in found.decisions} == {
        "s1": ("label", "unclear"),
        "s2": ("label", "skip"),
        "s3": ("label", 3),
        "q1": ("unclear", None),
        "q2": ("skip", None),
    }


def test_labels_are_read_as_labels_of_data_are(tmp_path: Path) -> None:
    found = take(returned("csv", tmp_path, answers={"s1": " GOOD ", "s2": "So-So"}))
    assert {decision.id: decision.value for decision in found.decisions} == {"s1": "good", "s2": "so-so"}


def test_a_question_of_another_kind_is_not_asked_elsewhere(tmp_path: Path) -> None:
    spans = Question("spans", ())  # type: ignore[arg-type]  # a kind to come
    with pytest.raises(UserError, match="review them in the page"):
        TOOLS["csv"].export(ITEMS, tmp_path / "rows.csv", replace(ABOUT, question=spans))


MANY_ABOUT = replace(ABOUT, question=MANY)
MANY_ITEMS = (*ITEMS[:3], replace(ITEMS[3], value=["good", "bad"]), replace(ITEMS[4], value=[]))


@pytest.mark.parametrize("form", FORMS)
def test_several_choices_and_none_come_back(form: str, tmp_path: Path) -> None:
    several: dict[str, str | list[str]] = {"s1": ["so-so", "good"], "s2": ["none"], "s3": ["unclear"], "q1": ["bad"]}
    path = returned(form, tmp_path, MANY_ITEMS, several, MANY_ABOUT)
    found = import_answers(MANY_ITEMS, [path], MANY, "me")
    assert {one.id: (one.action, one.value) for one in found.decisions} == {
        "s1": ("label", ["good", "so-so"]),
        "s2": ("label", []),
        "s3": ("unclear", None),
        "q1": ("label", ["bad"]),
    }


@pytest.mark.parametrize("form", FORMS)
def test_none_or_unclear_beside_a_label_is_refused(form: str, tmp_path: Path) -> None:
    mixed: dict[str, str | list[str]] = {"s1": ["none", "good"], "s2": ["good", "unclear"], "q1": ["bad"]}
    path = returned(form, tmp_path, MANY_ITEMS, mixed, MANY_ABOUT)
    found = import_answers(MANY_ITEMS, [path], MANY, "me", skip_bad=True)
    assert [one.id for one in found.decisions] == ["q1"]
    assert len(found.refused) == 2


@pytest.mark.parametrize("tool", TOOLS)
def test_what_the_teacher_chose_is_shown_as_several(tool: str, tmp_path: Path) -> None:
    paths = TOOLS[tool].export(MANY_ITEMS, tmp_path / EXPORTS[tool], MANY_ABOUT)
    if tool == "xlsx":
        sheet = openpyxl.load_workbook(paths[0])["review"]
        exported = " ".join(str(cell.value) for row in sheet.iter_rows() for cell in row)
    else:
        exported = " ".join(path.read_text("utf-8") for path in paths)
    assert "good; bad" in exported or '["good", "bad"]' in exported
    assert "none" in exported
    if tool == "label-studio":
        assert 'choice="multiple"' in exported and json.loads(paths[0].read_text("utf-8"))[4]["predictions"]
    if tool == "argilla":
        assert "multi_label_selection" in exported


def test_names_that_cannot_be_parted_in_a_cell_are_refused(tmp_path: Path) -> None:
    question = Question("choices", (Choice("a;b", "a;b"), Choice("c", "c")))
    with pytest.raises(UserError, match="'a;b' holds ';'"):
        TOOLS["csv"].export(ITEMS[:1], tmp_path / "rows.csv", replace(ABOUT, question=question))
