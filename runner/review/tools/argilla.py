"""Argilla 2: a folder for ``rg.Dataset.from_disk``, and records as ``to_disk`` and ``to_list`` give them.

A record's id is the row's, and its list and order are metadata. What :func:`read` takes:

- the folder of ``dataset.to_disk``, or its ``records.json``, or ``dataset.records.to_list()`` as JSON;
- ``dataset.records.to_list(flatten=True)`` as JSON: the only one that says whether a response was submitted. In the
  others Argilla leaves the status out, so that drafts and discarded responses with an answer cannot be told apart.

Source: argilla 2.8, ``records/_resource.py``, ``records/_io`` and ``datasets/_io/_disk.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from runner.review.lists import Item
from runner.review.tools.answers import About, Answer, Unreadable, blind, chosen
from runner.review.tools.choices import Choices
from runner.review.tools.files import array, json_records, mapping, new, write

NAME = "argilla"

_QUESTION = "label"
_RESPONSES = f"{_QUESTION}.responses"


def export(items: Sequence[Item], target: Path, about: About) -> list[Path]:
    """Write the folder ``target``."""
    target = new(target, "")
    choices = Choices(about.question)
    records = [_record(order, item, choices, about) for order, item in enumerate(items, start=1)]
    settings = _settings(choices, about, reasons=not all(map(blind, items)))
    dataset = {"name": about.run, "status": "draft", "guidelines": settings["guidelines"], "allow_extra_metadata": True}
    files = {".argilla/settings.json": settings, ".argilla/dataset.json": dataset, "records.json": records}
    return [write(target / name, json.dumps(value, ensure_ascii=True)) for name, value in files.items()]


def read(path: Path) -> Iterator[Answer | Unreadable]:
    """The responses of each record. :raises DataError: when the file is broken or breaks off."""
    for place, record in json_records(path / "records.json" if path.is_dir() else path):
        flat = "fields" not in record
        fields = record if flat else mapping(record["fields"])
        metadata = record if flat else mapping(record.get("metadata"))
        if not isinstance(fields.get("text"), str) or not isinstance(metadata.get("list"), str):
            yield Unreadable(place, "no field 'text' or no metadata 'list': this record was not exported from a run")
            continue
        row = Answer(place, str(record.get("id")), metadata["list"], fields["text"])
        responses = _flat_responses(record) if flat else _responses(record)
        yield from [_answer(row, *response) for response in responses] or [row]


def says_status(path: Path) -> bool:
    """Whether the records of an export say if a response was submitted."""
    record = next(iter(json_records(path / "records.json" if path.is_dir() else path)), None)
    return record is None or "fields" not in record[1]


def _record(order: int, item: Item, choices: Choices, about: About) -> dict[str, Any]:
    fields = {"text": item.text}
    suggestions: dict[str, Any] = {}
    if not blind(item):
        fields |= {"reason": item.reason} if item.reason else {}
        names = choices.names_of(item.value)
        if names:
            value = names if choices.several else names[0]
            suggestions[_QUESTION] = {"value": value, "score": choices.probability(item), "agent": about.teacher}
    return {
        "id": item.id,
        "fields": fields,
        "metadata": {"order": order, "list": item.list},
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
    }


def _settings(choices: Choices, about: About, reasons: bool) -> dict[str, Any]:
    options = [{"value": name, "text": name} for name in choices.offered]
    settings: dict[str, Any] = {"type": "label_selection", "options": options, "visible_options": None}
    if choices.several:
        settings |= {"type": "multi_label_selection", "options_order": "natural"}
    question = {
        "name": _QUESTION,
        "title": "Labels" if choices.several else "Label",
        "description": None,
        "required": True,
        "settings": settings,
    }
    order = {"name": "order", "title": "order", "visible_for_annotators": True, "settings": {"type": "integer"}}
    list_ = {"name": "list", "title": "list", "visible_for_annotators": True, "settings": {"type": "terms"}}
    return {
        "guidelines": about.instructions or None,
        "questions": [question],
        "fields": [_field("text", required=True), *([_field("reason", required=False)] if reasons else [])],
        "vectors": [],
        "metadata": [order, list_],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _field(name: str, required: bool) -> dict[str, Any]:
    text = {"type": "text", "use_markdown": False}
    return {"name": name, "title": name.capitalize(), "required": required, "settings": text}


def _responses(record: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Value, user and status of the nested form, whose responses have no status."""
    for response in map(mapping, array(mapping(record.get("responses")).get(_QUESTION))):
        yield response.get("value"), response.get("user_id"), response.get("status")


def _flat_responses(record: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    columns = (array(record.get(name)) for name in (_RESPONSES, f"{_RESPONSES}.users", f"{_RESPONSES}.status"))
    yield from zip_longest(*columns)


def _answer(row: Answer, value: Any, user: Any, status: Any) -> Answer | Unreadable:
    row = replace(row, reviewer=None if user is None else str(user))
    if status == "draft":
        return row
    if status == "discarded":
        return row.answered("skip")
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        return Unreadable(row.place, f"the response {str(value)[:80]!r} is no answer to a question about labels")
    return row.answered("label", chosen(names))
