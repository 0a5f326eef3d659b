"""Exports that the tools themselves have written of the rows of ``filled``, kept as they came.

Label Studio 1.23.2 by ``test_label_studio_live``, s3 skipped there; Argilla by the SDK 2.8.0: our folder read with
``JsonIO``, a ``Response`` added to each record, and ``GenericIO.to_list`` and ``JsonIO.to_json`` of that.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from filled import ANNA, ANSWERS, ITEMS, QUESTION

from runner.review.tools.imports import import_answers

RECORDED = Path(__file__).parent / "recorded"
REVIEWERS = {"label-studio": "label-studio-1", "argilla": ANNA}


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.iterdir()))
def test_an_export_of_the_tool_is_read(name: str) -> None:
    found = import_answers(ITEMS, [RECORDED / name], QUESTION, "me")
    said = {decision.id: decision.value for decision in found.decisions if decision.action == "label"}
    studio = name.startswith("label-studio")
    assert said == {row: value for row, value in ANSWERS.items() if not (studio and row == "s3")}
    skipped = [decision.id for decision in found.decisions if decision.action == "skip"]
    assert skipped == (["s3"] if name == "label-studio-1.23.2.json" else [])
    (tool,) = {decision.tool for decision in found.decisions}
    assert {decision.reviewer for decision in found.decisions} == {REVIEWERS[tool]}
    if studio:
        labels = [decision for decision in found.decisions if decision.action == "label"]
        assert {decision.seconds for decision in labels} == {3.25}
        assert labels[0].time == "2026-12-01T05:52:46.703+00:00"
