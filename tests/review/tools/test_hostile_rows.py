"""Ten thousand hostile rows through every form of every tool: all labels come back, and every altered text is found."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import pytest
from filled import ABOUT, FORMS, returned

from runner.review.lists import Item
from runner.review.tools.imports import import_answers
from runner.tasks.shared.shown import Choice, Question

ROWS, LONG = 10_000, 40
"""Rows, and those among them of 40,000 characters."""
LABELS = ("good", "=bad", 'so, "so"', "+1", "unclear", "\u0645\u062e\u062a\u0644\u0637 \U0001f642")
QUESTION = Question("choice", tuple(Choice(name, name) for name in LABELS))
NASTY = (
    "\U0001f469\u200d\U0001f680\U0001f1e9\U0001f1ea\U0001f44d\U0001f3fd {n}",
    "\u0645\u0631\u062d\u0628\u0627 \u202e{n}\u202c \u05e9\u05dc\u05d5\u05dd",
    "one\r\ntwo\r\n{n}\r\n",
    "one\rtwo\n{n}",
    'she said ""{n}"", \'no\'; a,b\t"',
    "=cmd|'/C calc'!A{n}",
    "+{n}",
    "-{n}",
    "@SUM(A1:A{n})",
    "\uff1d{n}",
    "'{n}",
    "\t=1+{n}",
    "  {n}  ",
    "\n\n{n}",
    "bell \x07 null \x00 escape \x1b[31m {n} \x7f\x85\u2028\ufeff\ufffe\uffff",
    "_x0007_ {n} _x005F_ _x",
    "{n}e5",
    "1/{n}",
    "00{n}",
    "#N/A {n}",
    "TRUE {n}",
    "<script>alert({n})</script> &amp; ]]> <!--",
    "cafe\u0301 caf\u00e9 \u212b {n}",
    '{{"json": [{n}]}}',
    "row-{n}",
    "\\n \\u0041 \\ {n}",
)


def hostile() -> list[Item]:
    texts = [text.format(n=number) for number, text in enumerate(islice(cycle(NASTY), ROWS - LONG))]
    texts += [(f"{number} \U0001f600\r\n_x000D_\x07 " * 4_000)[:40_000] for number in range(LONG)]
    lists = cycle(("sample", "queue", "queue"))
    return [
        Item(list=name, id=f"{number}e{number:05}", text=text, value="=bad", reason=text[:50])  # type: ignore[arg-type]
        for number, (name, text) in enumerate(zip(lists, texts, strict=False))
    ]


ITEMS = hostile()
ANSWERS = {item.id: label for item, label in zip(ITEMS, cycle(LABELS), strict=False)}


def alterations(text: str) -> Iterator[str]:
    """What programs make of a text, as far as it changes it."""
    changed = (
        text[:32_767],
        text.replace("\r\n", "\n"),
        text.replace("\r", ""),
        text.strip(),
        unicodedata.normalize("NFC", text),
        unicodedata.normalize("NFD", text),
        "".join(char for char in text if char >= " "),
        text.encode("ascii", "replace").decode(),
        text.replace("\x00", ""),
        text.removeprefix("'"),
        text.lstrip("=+-@"),
        text.replace('""', '"'),
        f"{text} ",
    )
    yield from (other for other in changed if other != text)


@cache
def altered() -> list[Item]:
    """Every second row as some program has changed it."""
    changed = list(ITEMS)
    for number in range(1, ROWS, 2):
        ways = list(alterations(ITEMS[number].text))
        changed[number] = replace(ITEMS[number], text=ways[number // 2 % len(ways)])
    return changed


@pytest.mark.slow("long")
@pytest.mark.parametrize("form", FORMS)
def test_all_labels_come_back(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path, ITEMS, ANSWERS, replace(ABOUT, question=QUESTION))
    found = import_answers(ITEMS, [path], QUESTION, "me")
    assert {decision.id: decision.value for decision in found.decisions} == ANSWERS
    assert len(ANSWERS) == ROWS and (found.open, found.refused) == (0, ())


@pytest.mark.slow("long")
@pytest.mark.parametrize("form", FORMS)
def test_every_altered_text_is_found(form: str, tmp_path: Path) -> None:
    path = returned(form, tmp_path, altered(), ANSWERS, replace(ABOUT, question=QUESTION))
    found = import_answers(ITEMS, [path], QUESTION, "me", skip_bad=True)
    assert {decision.id for decision in found.decisions} == {item.id for item in ITEMS[::2]}
    assert len(found.refused) == len({one.place for one in found.refused}) == ROWS // 2
    assert all("came back altered" in one.why for one in found.refused)
