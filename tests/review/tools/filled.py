"""Exports that come back filled in, as each tool writes them: the answers by row, as people would have given them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl

from runner.review.lists import Item
from runner.review.tools import TOOLS
from runner.review.tools.answers import About
from runner.tasks.shared.shown import Choice, Question

QUESTION = Question("choice", tuple(Choice(name, name) for name in ("good", "bad", "so-so")))
ABOUT = About("small", QUESTION, "Is it good?\nSay so.", "three people")
MANY = Question("choices", QUESTION.choices)
ITEMS = (
    Item(list="sample", id="s1", text="A fine day."),
    Item(list="sample", id="s2", text="Rain, and wind."),
    Item(list="sample", id="s3", text="Fog."),
    Item(
        list="queue",
        id="q1",
        text="It could be worse.",
        value="bad",
        probabilities={"good": 0.25, "bad": 0.625, "so-so": 0.125},
        reason="It says worse.",
        doubt=0.4,
    ),
    Item(list="queue", id="q2", text="=1+1 is two", reason="no vote had a majority", doubt=0.9),
)
ANSWERS = {"s1": "good", "s2": "bad", "s3": "so-so", "q1": "so-so", "q2": "bad"}
ANNA = "11111111-1111-1111-1111-111111111111"

Answers = Mapping[str, str | list[str]]
"""By row; of a question that takes several choices the names that were chosen in a list."""


def _listed(answer: str | list[str]) -> list[str]:
    return answer if isinstance(answer, list) else [answer]


def _cell(answer: str | list[str]) -> str:
    return "; ".join(_listed(answer))


def _tasks(exported: Path) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = json.loads(exported.read_text("utf-8"))
    return tasks


def label_studio_json(exported: Path, answers: Answers) -> Path:
    """The JSON export: tasks with annotations; nothing was skipped."""
    tasks = _tasks(exported)
    for number, task in enumerate(tasks, start=1):
        result = {"from_name": "label", "to_name": "text", "type": "choices", "origin": "manual", "id": f"r{number}"}
        name = answers.get(task["data"]["row"])
        annotation = {
            "id": 100 + number,
            "completed_by": 1,
            "result": [result | {"value": {"choices": _listed(name or "")}}],
            "was_cancelled": False,
            "created_at": "2026-12-01T05:00:00.123456Z",
            "updated_at": f"2026-12-01T05:{number // 60 % 60:02}:{number % 60:02}.000001Z",
            "lead_time": 4.5,
        }
        task |= {"id": number, "annotations": [annotation] if name is not None else [], "drafts": []}
    return _json(exported.with_name("export.json"), tasks)


def _flat(exported: Path, answers: Answers) -> list[dict[str, Any]]:
    records = []
    for number, task in enumerate(_tasks(label_studio_json(exported, answers)), start=1):
        if annotations := task["annotations"]:
            annotation = annotations[0]
            about = {key: annotation[key] for key in ("created_at", "updated_at", "lead_time")}
            names = _listed(answers[task["data"]["row"]])
            label: Any = names[0] if len(names) == 1 else {"choices": names}
            answer = {"label": label, "annotator": 1, "annotation_id": annotation["id"]}
            records.append(task["data"] | {"id": number} | answer | about)
    return records


def label_studio_json_min(exported: Path, answers: Answers) -> Path:
    return _json(exported.with_name("export-min.json"), _flat(exported, answers))


def label_studio_csv(exported: Path, answers: Answers) -> Path:
    """As its converter writes it: columns by name, texts in quotes, numbers not."""
    records = _flat(exported, answers)
    for record in records:
        if isinstance(record["label"], dict):
            record["label"] = json.dumps(record["label"])
    target = exported.with_name("export.csv")
    with open(target, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, sorted(records[0]), quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(records)
    return target


def argilla_disk(exported: Path, answers: Answers) -> Path:
    """The folder of ``to_disk``, whose responses have no status."""
    records = json.loads((exported / "records.json").read_text("utf-8"))
    for record in records:
        if record["id"] in answers:
            record["responses"] = {"label": [{"value": answers[record["id"]], "user_id": ANNA}]}
        record["_server_id"] = ANNA
    _json(exported / "records.json", records)
    return exported


def argilla_flattened(exported: Path, answers: Answers) -> Path:
    """``to_list(flatten=True)``, in which every record has every key."""
    flat = []
    for record in json.loads((exported / "records.json").read_text("utf-8")):
        said = [answers[record["id"]]] if record["id"] in answers else None
        suggestion = record["suggestions"].get("label", {})
        flat.append(
            {
                "id": record["id"],
                "_server_id": ANNA,
                **record["fields"],
                **record["metadata"],
                "label.responses": said,
                "label.responses.users": said and [ANNA],
                "label.responses.status": said and ["submitted"],
                "label.suggestion": suggestion.get("value"),
                "label.suggestion.score": suggestion.get("score"),
                "label.suggestion.agent": suggestion.get("agent"),
            }
        )
    return _json(exported.with_name("records-flat.json"), flat)


def prodigy(exported: Path, answers: Answers) -> Path:
    """``prodigy db-out``."""
    lines = []
    for number, line in enumerate(exported.read_text("utf-8").split("\n")[:-1]):
        task = json.loads(line)
        name = answers.get(task["tutelage"]["row"])
        if name is not None:
            about = {"_view_id": "choice", "_annotator_id": "set-anna", "_session_id": "set-anna"}
            about |= {"answer": "accept", "accept": _listed(name), "_timestamp": 1796101200 + number}
            lines.append(json.dumps(task | about))
    target = exported.with_name("annotations.jsonl")
    target.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return target


def workbook(exported: Path, answers: Answers) -> Path:
    """Opened, filled in and saved."""
    book = openpyxl.load_workbook(exported)
    sheet = book["review"]
    header = [cell.value for cell in sheet[1]]
    for row in sheet.iter_rows(min_row=2):
        cells = dict(zip(header, row, strict=True))
        if name := answers.get(cells["id"].value.removeprefix("row-")):
            cells["label"].value = _cell(name)
            cells["label"].data_type = "s"
    target = exported.with_name("filled.xlsx")
    book.save(target)
    return target


def csv_file(exported: Path, answers: Answers, delimiter: str = ",") -> Path:
    """Opened in a program that takes texts as they are, filled in and saved."""
    with open(exported, encoding="utf-8-sig", newline="") as handle:
        header, *rows = csv.reader(handle)
    label, id_ = header.index("label"), header.index("id")
    for row in rows:
        row[label] = _cell(answers.get(row[id_].removeprefix("row-"), ""))
    target = exported.with_name("filled.csv")
    with open(target, "w", encoding="utf-8-sig", newline="") as handle:
        csv.writer(handle, delimiter=delimiter).writerows([header, *rows])
    return target


def _json(target: Path, records: list[Any]) -> Path:
    target.write_text("[" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "]", "utf-8")
    return target


FORMS: dict[str, tuple[str, str, Callable[[Path, Answers], Path]]] = {
    "label-studio JSON": ("label-studio", "tasks.json", label_studio_json),
    "label-studio JSON-MIN": ("label-studio", "tasks.json", label_studio_json_min),
    "label-studio CSV": ("label-studio", "tasks.json", label_studio_csv),
    "argilla to_disk": ("argilla", "data-set", argilla_disk),
    "argilla flattened": ("argilla", "data-set", argilla_flattened),
    "prodigy": ("prodigy", "tasks.jsonl", prodigy),
    "xlsx": ("xlsx", "rows.xlsx", workbook),
    "csv": ("csv", "rows.csv", csv_file),
}
"""Of each form in which answers come back: the tool, the name of the export, and what fills it in."""


def returned(
    form: str, folder: Path, items: Sequence[Item] = ITEMS, answers: Answers = ANSWERS, about: About = ABOUT
) -> Path:
    """The rows exported to a tool, answered there, and exported by it in one of its forms."""
    tool, name, fill = FORMS[form]
    TOOLS[tool].export(items, folder / name, about)
    return fill(folder / name, answers)
