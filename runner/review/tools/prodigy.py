"""Prodigy: JSON Lines for the interface ``choice``, and what ``prodigy db-out`` gives of them.

Prodigy leaves tasks out whose ``_task_hash`` it has seen; they are given here, so that no row is lost where texts are
equal. Keys that it does not know (``tutelage``) come back untouched. ``accept`` is an answer, ``ignore`` a skip, and
``reject`` says that the text cannot be decided.

Source: https://prodi.gy/docs/api-interfaces#choice and https://prodi.gy/docs/api-loaders (hashes).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.review.lists import Item
from runner.review.tools.answers import About, Answer, Unreadable, blind, chosen
from runner.review.tools.choices import Choices
from runner.review.tools.files import json_records, new, write

NAME = "prodigy"


def export(items: Sequence[Item], target: Path, about: About) -> list[Path]:
    """Write the tasks: ``prodigy mark DATASET FILE --view-id choice`` asks them."""
    target = new(target, ".jsonl")
    choices = Choices(about.question)
    options = [{"id": name, "text": name} for name in choices.offered]
    hashes = _hashes(items)
    tasks = (
        json.dumps(_task(order, item, choices, options, hashes[order - 1]), ensure_ascii=False)
        for order, item in enumerate(items, start=1)
    )
    return [write(target, "".join(f"{task}\n" for task in tasks))]


def read(path: Path) -> Iterator[Answer | Unreadable]:
    """The annotations of a data set. :raises DataError: when it is broken or breaks off."""
    for place, record in json_records(path):
        ours = record.get("tutelage")
        if not isinstance(ours, dict) or not isinstance(record.get("text"), str):
            yield Unreadable(place, "no 'tutelage' or no 'text': this task was not exported from a run")
            continue
        reviewer = str(record.get("_annotator_id") or record.get("_session_id") or "") or None
        row = Answer(place, str(ours.get("row")), str(ours.get("list")), record["text"], reviewer=reviewer)
        yield _answer(replace(row, time=_time(record)), record.get("answer"), record.get("accept"))


def _task(order: int, item: Item, choices: Choices, options: list[dict[str, str]], hash_: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"order": order}
    task: dict[str, Any] = {"text": item.text, "options": options, "meta": meta}
    names = [] if blind(item) else choices.names_of(item.value)
    if names:
        task["accept"] = names  # chosen already, to be kept or changed
        meta |= {"teacher": choices.name(item.value), "probability": choices.probability(item)}
    if not blind(item) and item.reason:
        meta["reason"] = item.reason
    task["config"] = {"choice_style": "multiple" if choices.several else "single"}
    task["tutelage"] = {"row": item.id, "list": item.list, "order": order}
    return task | {"_input_hash": hash_, "_task_hash": hash_}


def _hashes(items: Sequence[Item]) -> list[int]:
    """A number of 31 bits for each row, as Prodigy's are, always the same for a row as far as none is taken."""
    taken: dict[int, None] = {}
    for item in items:
        number = int.from_bytes(hashlib.sha256(item.id.encode()).digest()[:4], "big") >> 1
        while number in taken:
            number = (number + 1) % 2**31
        taken[number] = None
    return list(taken)


def _answer(row: Answer, answer: Any, accepted: Any) -> Answer | Unreadable:
    if answer is None:
        return row
    if answer in ("ignore", "reject"):
        return row.answered("skip" if answer == "ignore" else "unclear")
    if answer != "accept":
        return Unreadable(row.place, f"the answer {str(answer)[:40]!r} is none of Prodigy's (accept, reject, ignore)")
    if not isinstance(accepted, list) or not accepted:
        return Unreadable(row.place, "was accepted with none of the options: answer it again, with one")
    return row.answered("label", chosen([str(name) for name in accepted]))


def _time(record: Mapping[str, Any]) -> str | None:
    stamp = record.get("_timestamp")
    try:
        return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="milliseconds")  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):  # it is none, or of no year that there is
        return None
