"""Cells of several labels: each form in which people write them, and what is refused, with its place."""

from __future__ import annotations

import json
import re

import pytest

from runner.tasks.multi_label import recorded, rules

LABELS = ("merger", "lawsuit", "results", "staff")
TASK = {"labels": list(LABELS)}


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('["lawsuit", "merger"]', ["merger", "lawsuit"]),
        ("['lawsuit', 'merger']", ["merger", "lawsuit"]),
        ("[]", []),
        (" [ ] ", []),
        ("merger;staff", ["merger", "staff"]),
        ("staff ; merger;", ["merger", "staff"]),
        ("Merger", ["merger"]),
        ("merger; merger", ["merger"]),
        ('{"labels": ["staff"], "reason": "a new chief"}', ["staff"]),
        ('{"merger": 1, "lawsuit": 0, "results": 0, "staff": 1}', ["merger", "staff"]),
        ('{"merger": "1.0", "lawsuit": "0", "results": "false", "staff": "True"}', ["merger", "staff"]),
        ('{"merger": false, "lawsuit": 0.0, "results": "0", "staff": "0"}', []),
    ],
)
def test_an_experts_cell_says_its_labels_in_the_tasks_order(cell: str, value: list[str]) -> None:
    assert recorded.labels_of(cell, LABELS) == value
    assert rules.wrong(TASK, cell, "") is None


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("", "empty, which says nothing: write []"),
        ("   ", "empty, which says nothing: write []"),
        ("merger,staff", "write ; between labels"),
        ("merger;acquisition", "'acquisition' is not among"),
        ("merger;;staff", "a label is empty"),
        ('["merger", null]', "holds null where a label"),
        ('[["merger"]]', "holds a list where a label"),
        ('["merger"', "begins as a list or an object of JSON"),
        ("none", "'none' is not among"),
        ('{"merger": 2, "lawsuit": 0, "results": 0, "staff": 1}', "column 'merger' holds '2', and must hold 0 or 1"),
        ('{"merger": "", "lawsuit": 0, "results": 0, "staff": 1}', "column 'merger' is empty, and must hold 0 or 1"),
        ('{"merger": 0.7, "lawsuit": 0, "results": 0, "staff": 1}', "column 'merger' holds '0.7'"),
        ('{"merger": 1, "lawsuit": 0}', "nothing is said of results, staff"),
        ('{"merger": 1, "sport": 0}', "'sport' is not among"),
        ('{"merger": 1, "MERGER": 0, "lawsuit": 0, "results": 0, "staff": 0}', "two answers for 'merger'"),
    ],
)
def test_a_cell_that_says_no_value_is_refused_with_the_reason(cell: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        recorded.labels_of(cell, LABELS)
    assert rules.wrong(TASK, cell, "")


def test_a_recorded_cell_may_hold_probabilities_and_says_what_is_above_one_half() -> None:
    cell = json.dumps({"merger": 0.9, "staff": 0.5, "lawsuit": 0.51})
    assert recorded.distribution(cell, LABELS) == [0.9, 0.51, 0.0, 0.5]
    assert recorded.said(cell, LABELS) == ["merger", "lawsuit"]
    assert recorded.distribution('["merger"]', LABELS) is None
    assert recorded.said('{"reason": "x", "score": 3}', LABELS) is None
    assert recorded.said("I would say merger", LABELS) is None
    assert recorded.said("", LABELS) is None
    assert recorded.said("[]", LABELS) == []


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ('{"merger": 1.2}', "the probability of 'merger' is 1.2"),
        ('{"merger": NaN}', "the probability of 'merger' is nan"),
        ('{"merger": 0.4, "sport": 0.6}', "'sport' is not among"),
        ('{"merger": 0.4, "Merger": 0.6}', "two probabilities of 'merger'"),
    ],
)
def test_numbers_that_are_no_probabilities_are_wrong_whatever_was_meant(cell: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        recorded.said(cell, LABELS)


def test_labels_that_a_cell_would_take_for_a_list_are_refused() -> None:
    found = list(rules.fields_fit({"labels": ["a;b", "[x]", "{y", "fine", "FINE"]}))
    assert [(path[-1], code) for path, code, _ in found] == [
        (4, "spec.labels-alike"),
        (0, "spec.label-is-a-list"),
        (1, "spec.label-is-a-list"),
        (2, "spec.label-is-a-list"),
    ]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (["merger", "lawsuit", "results", "staff"], None),
        (["Staff", "merger", "lawsuit", "results"], None),
        (["merger", "lawsuit"], "there is none for results, staff"),
        (["merger", "lawsuit", "results", "staf"], "which has no staf (did you mean 'staff'?)"),
        (["merger", "lawsuit", "results", "staff", "STAFF"], "two of the columns are the one label staff"),
    ],
)
def test_columns_are_one_for_each_label(columns: list[str], why: str | None) -> None:
    found = rules.label_columns(TASK, columns)
    assert found is None if why is None else why in (found or "")


def test_an_example_is_a_list_or_a_cell() -> None:
    assert rules.example(TASK, ["staff", "merger"], "") == ["merger", "staff"]
    assert rules.example(TASK, [], "") == []
    assert rules.example(TASK, "merger; staff", "") == ["merger", "staff"]
    assert rules.example(TASK, ["stuff"], "") is None
    assert "did you mean 'staff'" in rules.not_a_value(TASK, ["merger", "staf"], "")
    assert rules.example(TASK, "", "") is None
