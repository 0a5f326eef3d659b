"""A real Label Studio: rows imported, annotated through its API, exported in its forms, and imported back.

It runs where ``label-studio`` is on the PATH, such as from a virtual environment of its own (its pins are not ours):
``python -m venv ls && ls/bin/pip install label-studio && PATH=$PATH:$PWD/ls/bin make test``. Tried with 1.23.2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from filled import ABOUT, QUESTION
from processes import free_ports
from test_hostile_rows import NASTY

from runner.review.lists import Item
from runner.review.tools import TOOLS
from runner.review.tools.imports import import_answers

pytestmark = [
    pytest.mark.slow("subprocess"),
    pytest.mark.skipif(
        shutil.which("label-studio") is None,
        reason="label-studio is not on the PATH: install it in a virtual environment of its own",
    ),
]

START_SECONDS = 300
TOKEN = "0123456789abcdef0123456789abcdef01234567"
LONG = "\U0001f600 long \r\n" * 5_000
NAMES = ("good", "bad", "so-so")
TEXTS = [text.format(n=number) for number, text in enumerate(NASTY)] + [LONG]
ITEMS = [Item(list="sample", id=f"s{number}", text=text) for number, text in enumerate(TEXTS)] + [
    Item(list="queue", id=f"q{number}", text=f"queue {text}", value=name, probabilities={name: 0.75}, reason=text[:40])
    for number, (text, name) in enumerate(zip(TEXTS, cycle(NAMES), strict=False))
]
ANSWERS = {item.id: name for item, name in zip(ITEMS, cycle((*NAMES, "unclear")), strict=False)}
SKIPPED = "s3"


class LabelStudio:
    """A server with a database of its own, and what this test asks of its API."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / "label-studio.log"
        quiet = {"COLLECT_ANALYTICS": "0", "LABEL_STUDIO_BASE_DATA_DIR": str(folder), "HOME": str(folder)}
        user = ["--username", "anna@example.org", "--password", "not-a-secret-1", "--user-token", TOKEN]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["label-studio", "start", "--no-browser", "--port", str(port), *user, "--enable-legacy-api-token"],
                cwd=folder,
                env={**os.environ, **quiet, "PYTHONPATH": ""},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/health")
        except (OSError, ValueError):
            return False
        return True

    def raw(self, method: str, path: str, value: Any = None) -> bytes:
        request = urllib.request.Request(self.address + path, method=method)
        request.add_header("Authorization", f"Token {TOKEN}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, None if value is None else json.dumps(value).encode(), 60) as answer:
                data: bytes = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:2000]!r}") from error
        return data

    def ask(self, method: str, path: str, value: Any = None) -> Any:
        return json.loads(self.raw(method, path, value))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    studio = LabelStudio(tmp_path_factory.mktemp("label-studio"))
    yield studio
    studio.process.terminate()
    studio.process.wait(30)


@pytest.fixture(scope="module")
def project(server: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A project in which everything is annotated, but for one task that was skipped."""
    tasks, interface = TOOLS["label-studio"].export(ITEMS, tmp_path_factory.mktemp("out") / "tasks.json", ABOUT)
    made = server.ask("POST", "/api/projects", {"title": "small", "label_config": interface.read_text("utf-8")})
    number: int = made["id"]
    taken = server.ask("POST", f"/api/projects/{number}/import", json.loads(tasks.read_text("utf-8")))
    predicted = sum(item.value is not None for item in ITEMS)
    assert (taken["task_count"], taken["prediction_count"]) == (len(ITEMS), predicted)
    found = server.ask("GET", f"/api/tasks?project={number}&page_size=1000&fields=all")["tasks"]
    assert sorted(task["data"]["order"] for task in found) == list(range(1, len(ITEMS) + 1))
    for task in found:
        row = task["data"]["row"]
        choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [ANSWERS[row]]}}
        annotation = {"result": [choice], "lead_time": 3.25, "was_cancelled": False}
        if row == SKIPPED:
            annotation = {"result": [], "was_cancelled": True}
        server.ask("POST", f"/api/tasks/{task['id']}/annotations", annotation)
    return number


@pytest.mark.parametrize(("form", "ending"), [("JSON", "json"), ("JSON_MIN", "json"), ("CSV", "csv"), ("TSV", "tsv")])
def test_annotations_come_back(form: str, ending: str, server: LabelStudio, project: int, tmp_path: Path) -> None:
    exported = tmp_path / f"export.{ending}"
    exported.write_bytes(server.raw("GET", f"/api/projects/{project}/export?exportType={form}"))
    found = import_answers(ITEMS, [exported], QUESTION, "me")
    said = {decision.id: decision.value or decision.action for decision in found.decisions}
    expected = ANSWERS | ({SKIPPED: "skip"} if form == "JSON" else {})
    if form != "JSON":  # the others leave skipped tasks out
        del expected[SKIPPED]
    assert said == expected and found.refused == ()
    timed = [decision for decision in found.decisions if decision.id != SKIPPED]
    assert {decision.seconds for decision in timed} == {3.25}
    assert {decision.tool for decision in timed} == {"label-studio"}
    assert len({decision.reviewer for decision in timed}) == 1


def test_an_annotator_has_one_name_in_every_form(server: LabelStudio, project: int, tmp_path: Path) -> None:
    names = set()
    for form, ending in (("JSON", "json"), ("JSON_MIN", "json"), ("CSV", "csv")):
        exported = tmp_path / f"{form}.{ending}"
        exported.write_bytes(server.raw("GET", f"/api/projects/{project}/export?exportType={form}"))
        names |= {decision.reviewer for decision in import_answers(ITEMS, [exported], QUESTION, "me").decisions}
    assert len(names) == 1


def test_every_form_is_the_same_import(server: LabelStudio, project: int, tmp_path: Path) -> None:
    paths = []
    for form, ending in (("JSON", "json"), ("JSON_MIN", "json"), ("CSV", "csv")):
        paths.append(tmp_path / f"{form}.{ending}")
        paths[-1].write_bytes(server.raw("GET", f"/api/projects/{project}/export?exportType={form}"))
    first = import_answers(ITEMS, paths[:1], QUESTION, "me").decisions
    again = import_answers(ITEMS, paths, QUESTION, "me", stored=first)
    assert again.decisions == () and again.known == len(ITEMS)
