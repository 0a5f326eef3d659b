"""Label Studio: tasks with predictions and the labelling interface; its exports JSON, JSON-MIN, CSV and TSV.

Our fields lie in a task's ``data``, which every export gives back: ``row`` (its id; ``id`` is Label Studio's own),
``list``, ``text``, ``order`` (the free edition sorts by nothing else than a column), and for the queue ``reason``.
Only the JSON export has skipped tasks.

Sources: Label Studio's task format (https://labelstud.io/guide/task_format) and label_studio_sdk/converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from runner.review.lists import Item
from runner.review.tools.answers import About, Answer, Unreadable, blind, chosen
from runner.review.tools.choices import Choices
from runner.review.tools.files import array, csv_records, json_records, mapping, new, write

NAME = "label-studio"

_CONTROL = "label"
_ANNOTATION = (_CONTROL, "annotator", "lead_time", "created_at", "updated_at")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def export(items: Sequence[Item], target: Path, about: About) -> list[Path]:
    """Write the tasks, and the labelling interface beside them (``.xml``)."""
    target = new(target, ".json")
    choices = Choices(about.question)
    tasks = [_task(order, item, choices, about) for order, item in enumerate(items, start=1)]
    text = "[" + ",\n".join(json.dumps(task, ensure_ascii=False) for task in tasks) + "]\n"
    interface = _interface(choices, about, reasons=not all(map(blind, items)))
    return [write(target, text), write(target.with_suffix(".xml"), interface)]


def read(path: Path) -> Iterator[Answer | Unreadable]:
    """The annotations of an export. :raises DataError: when it is broken or breaks off."""
    if path.suffix.lower() in (".json", ".jsonl"):
        records = json_records(path)
    else:
        records = csv_records(path, ("text", "row", "list", "annotation_id"), _ANNOTATION)
    for place, record in records:
        whole = "annotations" in record
        data = mapping(record.get("data")) if whole else record
        if missing := [name for name in ("text", "row", "list") if not isinstance(data.get(name), str)]:
            yield Unreadable(place, f"no {missing[0]!r} in its data: this task was not exported from a run")
            continue
        row = Answer(place, data["row"], data["list"], data["text"])
        yield from _annotations(row, array(record["annotations"])) if whole else [_flat_annotation(row, record)]


def _task(order: int, item: Item, choices: Choices, about: About) -> dict[str, Any]:
    task: dict[str, Any] = {
        "data": {
            "text": item.text,
            "reason": "" if blind(item) else item.reason or "",
            "order": order,
            "list": item.list,
            "row": item.id,
        }
    }
    names = [] if blind(item) else choices.names_of(item.value)
    if names:
        result = {"from_name": _CONTROL, "to_name": "text", "type": "choices", "value": {"choices": names}}
        prediction: dict[str, Any] = {"model_version": about.teacher, "result": [result]}
        probability = choices.probability(item)
        task["predictions"] = [prediction if probability is None else prediction | {"score": probability}]
    return task


def _interface(choices: Choices, about: About, reasons: bool) -> str:
    lines = ["<View>"]
    if about.instructions:
        lines.append(f'  <Header value={_attribute(about.instructions)} size="5"/>')
    lines.append('  <Text name="text" value="$text" valueType="text"/>')
    how = "multiple" if choices.several else "single"
    lines.append(f'  <Choices name="{_CONTROL}" toName="text" choice="{how}" showInLine="true" required="true">')
    for choice in choices.question.choices:
        hint = f" hint={_attribute(choice.description)}" if choice.description else ""
        lines.append(f"    <Choice value={_attribute(choice.name)}{hint}/>")
    if choices.several:
        lines.append(f'    <Choice value={_attribute(choices.none)} hint="No label applies."/>')
    lines.append(f'    <Choice value={_attribute(choices.unclear)} hint="The text cannot be decided."/>')
    lines.append("  </Choices>")
    if reasons:
        lines.append('  <Text name="reason" value="$reason" valueType="text"/>')
    return "\n".join([*lines, "</View>", ""])


def _attribute(text: str) -> str:
    """Text as an attribute of XML 1.0, which cannot hold control characters: they become U+FFFD."""
    return quoteattr(_NOT_IN_XML.sub("\ufffd", text))


def _annotations(row: Answer, annotations: Sequence[Any]) -> Iterator[Answer | Unreadable]:
    """Every annotation of a task of the JSON export; a task without one is open."""
    if not annotations:
        yield row
    for annotation in map(mapping, annotations):
        told = _told(row, annotation, annotation.get("completed_by"))
        skipped = annotation.get("was_cancelled")
        yield told.answered("skip") if skipped else _answer(told, _chosen(annotation.get("result")))


def _chosen(result: Any) -> list[Any]:
    """The names in an annotation's results; what is no choice is another control's, which a user has added."""
    entries = [entry for entry in map(mapping, array(result)) if entry.get("type") == "choices"]
    return [name for entry in entries for name in array(mapping(entry.get("value")).get("choices"))]


def _flat_annotation(row: Answer, record: Mapping[str, Any]) -> Answer | Unreadable:
    """The annotation of a record of JSON-MIN, CSV or TSV, which has nothing else."""
    if record.get("annotation_id") in (None, ""):
        return row
    said = record.get(_CONTROL)
    return _answer(_told(row, record, record.get("annotator")), _flat_names(said))


def _flat_names(said: Any) -> list[Any]:
    """Several choices are an object with a list in JSON-MIN, and the JSON of that in CSV; one is its name."""
    if isinstance(said, str) and said.startswith("{"):
        try:
            said = json.loads(said)
        except ValueError:
            return [said]
    if isinstance(said, Mapping):
        said = said.get("choices")
    return said if isinstance(said, list) else [said] * bool(said)


def _told(row: Answer, annotation: Mapping[str, Any], annotator: Any) -> Answer:
    """The row with who annotated it, when, and how long that took."""
    time = annotation.get("updated_at") or annotation.get("created_at") or ""
    return replace(row, reviewer=_reviewer(annotator), seconds=_seconds(annotation.get("lead_time")), time=str(time))


def _answer(row: Answer, names: list[Any]) -> Answer | Unreadable:
    if not names:
        return Unreadable(row.place, "was submitted without an answer: answer it in Label Studio, or remove that")
    if not all(isinstance(name, str) for name in names):
        return Unreadable(row.place, f"has something else than names of choices ({str(names)[:80]}): answer it again")
    return row.answered("label", chosen(names))


def _reviewer(completed_by: Any) -> str | None:
    """A user's address where the export has it; else their number in Label Studio."""
    if isinstance(completed_by, Mapping):
        completed_by = completed_by.get("email") or completed_by.get("id")
    text = "" if completed_by in (None, "None") else str(completed_by).strip()  # csv has Python's word for nobody
    return f"label-studio-{text}" if text.isdecimal() else text or None


def _seconds(lead_time: Any) -> float | None:
    try:
        return float(lead_time)
    except (TypeError, ValueError, OverflowError):
        return None
