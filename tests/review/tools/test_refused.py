"""What is not taken: each answer that is wrong is named with its place, and nothing of the files is imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest
from filled import ABOUT, ANSWERS, FORMS, ITEMS, QUESTION, returned

from runner.review.decisions import Decision
from runner.review.lists import Item
from runner.review.tools import TOOLS
from runner.review.tools.alterations import alteration
from runner.review.tools.checks import RefusedError
from runner.review.tools.imports import Imported, import_answers
from runner.system.errors import DataError, UserError


def take(*paths: Path, skip_bad: bool = False, stored: tuple[Decision, ...] = ()) -> Imported:
    return import_answers(ITEMS, paths, QUESTION, "me", stored, skip_bad)


def refused(*paths: Path) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        take(*paths)
    assert str(caught.value).endswith(
        "nothing was imported: correct the files, or import the other answers with --skip-bad"
    )
    return [str(one) for one in caught.value.refused]


@pytest.mark.parametrize("form", FORMS)
def test_an_unknown_label_is_named_with_its_place_and_the_nearest(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path, answers=ANSWERS | {"q1": "bud"})
    (said,) = refused(path)
    assert "'bud' is none of the answers (good, bad, so-so, unclear) (did you mean 'bad'?)" in said
    if form == "xlsx":
        assert said.startswith("filled.xlsx, row 5: ")
    else:
        place = said.partition(": ")[0]
        file, _, line = place.removesuffix(" (row 4)").rpartition(":")
        lines = (path / file if path.is_dir() else path.with_name(file)).read_text("utf-8").splitlines()
        assert [number for number, text in enumerate(lines, start=1) if "bud" in text] == [int(line)]
        assert place.endswith(" (row 4)") == ("JSON" in form or "argilla" in form)


@pytest.mark.parametrize("form", FORMS)
def test_with_skip_bad_the_others_are_taken_and_the_bad_are_counted(form: str, tmp_path: Path) -> None:
    found = take(returned(form, tmp_path, answers=ANSWERS | {"q1": "bud"}), skip_bad=True)
    assert {decision.id for decision in found.decisions} == ANSWERS.keys() - {"q1"} and len(found.refused) == 1


@pytest.mark.parametrize("form", FORMS)
def test_an_altered_text_is_found(form: str, tmp_path: Path) -> None:
    others = [replace(item, text="It could be verse.") if item.id == "q1" else item for item in ITEMS]
    (said,) = refused(returned(form, tmp_path, items=others))
    assert "came back altered" in said and "'It could be verse.' instead of 'It could be worse.'" in said


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_another_run(form: str, tmp_path: Path) -> None:
    others = [replace(item, id=f"other-{item.id}") for item in ITEMS]
    (said,) = refused(returned(form, tmp_path, items=others, answers={f"other-{k}": v for k, v in ANSWERS.items()}))
    assert said.endswith("none of its 5 answered rows is in this run: it was exported from another one")


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_no_longer_exist(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path)
    with pytest.raises(RefusedError) as caught:
        import_answers([item for item in ITEMS if item.id not in ("s2", "q2")], [path], QUESTION, "me")
    assert len(caught.value.refused) == 2
    assert all("this row is not in the run, or no longer" in one.why for one in caught.value.refused)


@pytest.mark.parametrize("form", FORMS)
def test_half_a_file(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path)
    file = path / "records.json" if path.is_dir() else path
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex(b"ood")] if form.endswith(("csv", "CSV")) else whole[: len(whole) // 2])
    if form in ("csv", "label-studio CSV"):  # the last row is cut in its text
        rows = whole.rstrip().rsplit(b"\r\n" if b"\r\n" in whole else b"\n", 1)
        file.write_bytes(rows[0] + b"\n" + rows[1][:6])
    with pytest.raises(DataError, match=r"broken|the row has \d+ fields|does not end"):
        take(path)
    with pytest.raises(DataError):
        take(path, skip_bad=True)


def test_two_files_that_contradict_each_other(tmp_path: Path) -> None:
    one = returned("csv", tmp_path / "1")
    other = returned("xlsx", tmp_path / "2", answers=ANSWERS | {"s2": "good"})
    (said,) = refused(one, other)
    assert said.startswith("filled.xlsx, row 3: me says 'good' here and 'bad' at filled.csv:3: keep one of them")
    assert "--reviewer" in said
    found = take(one, other, skip_bad=True)
    assert {decision.id for decision in found.decisions} == ANSWERS.keys() - {"s2"}


def test_two_rows_that_contradict_each_other(tmp_path: Path) -> None:
    path = returned("csv", tmp_path)
    lines = path.read_text("utf-8-sig").splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("good", "unclear")]), "utf-8")
    (said,) = refused(path)
    assert said == "filled.csv:7: me says unclear here and 'good' at filled.csv:2: keep one of them"


def test_two_files_that_agree_are_one(tmp_path: Path) -> None:
    found = take(returned("csv", tmp_path / "1"), returned("xlsx", tmp_path / "2"))
    assert len(found.decisions) == len(ANSWERS)


def test_reviewers_may_differ(tmp_path: Path) -> None:
    found = take(returned("csv", tmp_path / "1"), returned("prodigy", tmp_path / "2", answers={"s1": "bad"}))
    assert sorted(one.reviewer for one in found.decisions if one.id == "s1") == ["me", "set-anna"]


def test_the_sample_is_not_taken_from_a_file_that_showed_the_teachers_value(tmp_path: Path) -> None:
    shown = [replace(item, list="queue") for item in ITEMS]
    said = refused(returned("csv", tmp_path, items=shown))
    assert len(said) == 3 and all("where the teacher's value is in sight" in one for one in said)


def test_a_sample_that_was_cut_is_taken_and_said(tmp_path: Path) -> None:
    found = take(returned("csv", tmp_path, answers={"s1": "good", "s3": "bad"}))
    (note,) = found.notes
    assert note.startswith("the sample: 2 of its first 3 rows are answered.")


def test_a_sample_that_ends_early_is_a_smaller_sample(tmp_path: Path) -> None:
    assert take(returned("csv", tmp_path, answers={"s1": "good", "s2": "bad"})).notes == ()


@pytest.mark.parametrize("form", ["csv", "prodigy", "label-studio CSV"])
def test_a_sample_that_was_reordered_is_the_same(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path)
    head, *rows = path.read_text("utf-8").splitlines()
    if form == "prodigy":
        head, rows = "", [head, *rows]
    path.write_text("\n".join([*([head] if head else []), *reversed(rows)]), "utf-8")
    found = take(path)
    assert {decision.id: decision.value for decision in found.decisions} == ANSWERS and found.notes == ()


def test_dates_that_a_spreadsheet_made_of_texts_are_found(tmp_path: Path) -> None:
    items = [Item(list="queue", id="r1", text="1/2"), Item(list="queue", id="r2", text="007"), ITEMS[3]]
    path = returned("csv", tmp_path, items=items, answers={"r1": "good", "r2": "bad", "q1": "bad"})
    written = path.read_text("utf-8-sig")
    path.write_text(written.replace("\n1/2,", "\n02. Jan,").replace("\n007,", "\n7,"), "utf-8-sig")
    with pytest.raises(RefusedError) as caught:
        import_answers(items, [path], QUESTION, "me")
    assert [one.place for one in caught.value.refused] == ["filled.csv:2", "filled.csv:3"]
    assert all("took it for a number or a date" in one.why for one in caught.value.refused)


def test_cells_that_a_spreadsheet_converted_are_found(tmp_path: Path) -> None:
    import datetime

    items = [Item(list="queue", id=f"r{number}", text=text) for number, text in enumerate(["1/2", "2e3", "1", "x"])]
    path = returned("xlsx", tmp_path, items=items, answers=dict.fromkeys(("r0", "r1", "r2", "r3"), "good"))
    book = openpyxl.load_workbook(path)
    cells = book["review"]["A"][1:]
    cells[0].value, cells[1].value, cells[2].value = datetime.datetime(2026, 1, 2), 2000, 1
    cells[3].value, cells[3].data_type = "=A1", "f"
    book.save(path)
    with pytest.raises(RefusedError) as caught:
        import_answers(items, [path], QUESTION, "me")
    assert [str(one) for one in caught.value.refused] == [
        "filled.xlsx, row 2: column 'text' holds a date with time, which is no text: write it as text, in the form "
        "that shall be read (a spreadsheet program has converted it)",
        "filled.xlsx, row 3: the text came back altered, so that nobody knows what was answered: a spreadsheet program "
        "took it for a number or a date: format the column as text",
        "filled.xlsx, row 5: column 'text' holds a formula: write what it stands for",
    ]


@pytest.mark.parametrize(
    ("original", "found", "said"),
    [
        ("a\r\nb", "a\nb", "its line ends are others"),
        ("a  b ", "a b", "its blanks are others"),
        ("x" * 40_000, "x" * 32_767, "it was cut at 32,767 of 40,000 characters"),
        ("caf\u00e9", "cafe\u0301", "composed in another way"),
        ("na\u00efve \u20ac", "na\u00c3\u00afve \u00e2\u201a\u00ac", "wrong encoding"),
        ("3-4", "03. Apr", "a number or a date"),
        ("a text", "", "the text is gone"),
        (
            "the quick brown fox",
            "the quick brown fix",
            "from character 18 on: 'uick brown fix' instead of 'uick brown fox'",
        ),
    ],
)
def test_what_happened_to_a_text_is_told(original: str, found: str, said: str) -> None:
    assert said in str(alteration(original, found))


def test_a_text_that_came_back_is_not_altered() -> None:
    assert alteration("a\r\nb", "a\r\nb") is None and alteration("", "") is None


def _spoil_json(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        tasks = json.loads(path.read_text("utf-8"))
        change(tasks[0])
        path.write_text(json.dumps(tasks), "utf-8")

    return spoil


@pytest.mark.parametrize(
    ("form", "change", "said"),
    [
        ("label-studio JSON", lambda task: task["annotations"][0].update(result=[]), "submitted without an answer"),
        (
            "label-studio JSON",
            lambda task: task["annotations"][0]["result"][0]["value"].update(choices=["good", "bad"]),
            "has several answers",
        ),
        ("label-studio JSON", lambda task: task["data"].pop("row"), "no 'row' in its data"),
        ("label-studio JSON-MIN", lambda task: task.pop("label"), "submitted without an answer"),
        ("label-studio JSON-MIN", lambda task: task.update(label={"choices": ["good", "bad"]}), "has several answers"),
        ("argilla flattened", lambda task: task.update({"label.responses": [[7]]}), "is no answer to a question"),
        ("argilla flattened", lambda task: task.pop("list"), "no metadata 'list'"),
    ],
)
def test_answers_that_say_nothing(
    form: str, change: Callable[[dict[str, object]], object], said: str, tmp_path: Path
) -> None:
    path = returned(form, tmp_path)
    _spoil_json(change)(path)
    (found,) = refused(path)
    assert said in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accept": []}, "none of the options"),
        ({"accept": ["good", "bad"]}, "has several answers (good, bad)"),
        ({"answer": "maybe"}, "'maybe' is none of Prodigy's"),
        ({"tutelage": None}, "was not exported from a run"),
    ],
)
def test_answers_of_prodigy_that_say_nothing(change: dict[str, object], said: str, tmp_path: Path) -> None:
    path = returned("prodigy", tmp_path)
    first, *rest = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]), "utf-8")
    (found,) = refused(path)
    assert found.startswith("annotations.jsonl:1: ") and said in found


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.pdf", b"%PDF-1.7", "none of the tools that are known"),
        ("labels.json", b'[{"a": 1}]', "none of the tools that are known"),
        ("labels.json", b"[1]", "expected an object"),
        ("labels.csv", b"a,b\n1,2\n", "no column 'text'"),
        ("labels.csv", b"text,label,list,id\n\xff,good,queue,row-q1\n", "not UTF-8"),
        ("labels.xlsx", b"PK\x03\x04 and no more", "labels.xlsx: broken workbook"),
        ("labels.xlsx", b"text,label", "labels.xlsx: this is no workbook"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        take(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there; check the path"):
        take(tmp_path / "none.csv")


def test_a_workbook_without_its_id_column(tmp_path: Path) -> None:
    path = returned("xlsx", tmp_path)
    book = openpyxl.load_workbook(path)
    book["review"].delete_cols(len(list(book["review"].columns)))
    book.save(path)
    with pytest.raises(DataError, match=r"filled.xlsx: no column 'id'"):
        take(path)


def test_a_reviewer_who_changed_their_mind_in_between(tmp_path: Path) -> None:
    """The file's answer is new, replaces the other, and is said to."""
    first = take(returned("csv", tmp_path / "1")).decisions
    found = take(returned("csv", tmp_path / "2", answers=ANSWERS | {"s1": "bad"}), stored=first)
    assert [(one.id, one.value) for one in found.decisions] == [("s1", "bad")]
    assert (found.known, found.changed, found.older) == (4, 1, 0)


def test_an_older_answer_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    stored = Decision(list="sample", id="s1", digest="", action="label", value="bad", reviewer="label-studio-1")
    stored = replace(stored, time="2026-12-01T06:00:00.000+00:00")
    found = take(returned("label-studio JSON", tmp_path), stored=(stored,))
    assert (found.changed, found.older) == (0, 1)
    assert next(one for one in found.decisions if one.id == "s1").time < stored.time


def test_an_old_file_does_not_come_back_after_a_change_elsewhere(tmp_path: Path) -> None:
    path = returned("csv", tmp_path)
    first = take(path).decisions
    changed = replace(first[0], value="bad", tool="page", time="2999-01-01T00:00:00.000+00:00", decision="f" * 32)
    assert take(path, stored=(*first, changed)).decisions == ()


def test_an_answer_that_was_undone_stays_undone(tmp_path: Path) -> None:
    path = returned("csv", tmp_path)
    first = take(path).decisions
    undo = replace(first[0], action="undo", value=None, undoes=first[0].decision, decision="f" * 32)
    assert take(path, stored=(*first, undo)).decisions == ()


def test_many_problems_are_counted_and_the_first_are_said(tmp_path: Path) -> None:
    items = [Item(list="queue", id=str(number), text=f"text {number}") for number in range(100)]
    path = returned("csv", tmp_path, items=items, answers={str(number): "bud" for number in range(100)})
    with pytest.raises(RefusedError) as caught:
        import_answers(items, [path], QUESTION, "me")
    assert len(caught.value.refused) == 100 and "... and 60 more" in str(caught.value)


def test_a_target_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for tool, name, _ in FORMS.values():
        with pytest.raises(UserError, match="may not be written"):
            TOOLS[tool].export(ITEMS, tmp_path / "file" / name, ABOUT)


def test_what_was_filled_in_is_not_written_over(tmp_path: Path) -> None:
    for tool, name, _ in {form[0]: form for form in FORMS.values()}.values():
        TOOLS[tool].export(ITEMS, tmp_path / name, ABOUT)
        with pytest.raises(UserError, match="is there already, and answers in it would be lost"):
            TOOLS[tool].export(ITEMS, tmp_path / name, ABOUT)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_name_that_says_something_else(tool: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="what is exported to this tool"):
        TOOLS[tool].export(ITEMS, tmp_path / "rows.xml", ABOUT)


JUNK = (None, True, 0, -1.5, 10**400, "", "x", "\ud800", [], [None], ["good", "bad"], {}, {"a": [1]})


@pytest.mark.slow("long")
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("xlsx", "csv", "label-studio CSV")])
def test_whatever_stands_in_a_file_of_json_is_read_or_refused(form: str, tmp_path: Path) -> None:
    """Each value of a record in turn is replaced by values of every kind: no crash, and no answer that nobody gave."""
    path = returned(form, tmp_path, items=ITEMS[:4], answers={"s1": "good", "q1": "bad"})
    file = path / "records.json" if path.is_dir() else path
    text = file.read_text("utf-8")
    records = [json.loads(line) for line in text.splitlines()] if form == "prodigy" else json.loads(text)
    for target in _places(records[0]):
        for junk in JUNK:
            spoiled = json.loads(json.dumps(records))
            *way, last = target
            node = spoiled[0]
            for step in way:
                node = node[step]
            node[last] = junk
            lines = [json.dumps(record) for record in spoiled]
            file.write_text("\n".join(lines) if form == "prodigy" else f"[{', '.join(lines)}]", "utf-8")
            try:
                found = take(path, skip_bad=True)
            except DataError:
                continue
            assert {one.value for one in found.decisions if one.id == "s1"} <= {"good", "bad", None}
            for decision in found.decisions:
                json.dumps(decision.reviewer), json.dumps(decision.seconds, allow_nan=False)
                assert isinstance(decision.reviewer, str) and decision.time.endswith("+00:00")


def _places(value: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to each value within a value of JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in inner for place in ((*way, key), *_places(part, (*way, key)))]
