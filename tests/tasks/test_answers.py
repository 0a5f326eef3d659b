"""From raw answers to labels: what models really write, and what must never be taken for a label."""

from __future__ import annotations

import json
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.tasks.single_label.answers import read_label

LABELS = ("negative", "neutral", "positive")

READ = [
    "positive",
    " Positive.\n",
    '"positive"',
    "**positive**",
    "`POSITIVE`!",
    '{"label": "positive"}',
    '{"reason": "Sales {rose} by 5 %.", "label": "positive"}',
    '{"reason": "two\nlines", "label": " Positive. "}',
    '```json\n{"reason": "r", "label": "positive"}\n```',
    'Sure! Here it is:\n{"label": "positive"}\nI hope that helps.',
    'Here: {"reason": {"why": "x"}, "label": "positive"} - done',
    'Here: {"reason": "uses {braces}", "label": "positive"}',
    '{"answer": {"label": "positive"}}',
    '{"label": "negative"} Wait, no: {"label": "positive"}',
    '{"reason": "the template says label: negative", "label": "positive"}',
    '{broken} {"label": "positive"}',
    '{"label": "positive", "score": NaN}',
    "The label is positive.",
    '{"label": "positive"',
    '{"reason": "Sales rose", "label": "positive", "confid',
    "{'reason': 'It's up', 'label': 'positive'}",
    "```\n{'label': 'positive'}\n```",
    '{"Label": "positive"}',
    '["positive"]',
    "The sentiment of this text is positive",
    "Sales and profit rose, which investors like and which may go on for the whole of next year. Label: positive",
    "Reason: more orders came in than a year before, so that this is good news. **Answer:** **positive**",
]
UNUSABLE = [
    "",
    "   \n",
    "cannot be labeled",
    "none",
    "not positive, rather negative",
    "positive or negative",
    "positive negative",
    "un-positive",
    '{"label": "mixed"}',
    '{"label": "one of the labels"}',
    '{"label": null}',
    '{"label": ["positive"]}',
    '{"label": {"positive": 1}}',
    '{"sentiment": "positive"}',
    '{"reason": "This could be positive',
    '{"reason": "The label is positive if sales rise',
    "It is not positive.",
    "It isn\u2019t positive",
    "Rather positive than negative",
    "Label: positive. No, label: negative",
    "The text is about sales that rose in a year in which all others fell, so one may call it a positive one here",
    "positively",
    "non-positive",
    "If anything, positive",
    '{"label": "positive"} No: {"label": "cannot be labeled"}',
    "{}",
    "\x00",
    "\ud800",
]


@pytest.mark.parametrize("answer", READ)
def test_a_label_is_read(answer: str) -> None:
    assert read_label(answer, LABELS) == "positive"


@pytest.mark.parametrize("answer", UNUSABLE)
def test_what_names_no_label_is_none(answer: str) -> None:
    assert read_label(answer, LABELS) is None


@pytest.mark.parametrize(
    ("answer", "labels", "expected"),
    [
        ("Neutral  to positive", ("neutral", "neutral to positive"), "neutral to positive"),
        ("3)", ("1", "2", "3"), "3"),
        ("B)", ("A", "B"), "B"),
        ("\uff22\uff09", ("A", "B"), "B"),
        ("+1", ("-1", "0", "1"), "1"),
        ("-1", ("-1", "0", "1"), "-1"),
        (".1", ("0", "1"), None),
        ("\u0130yi", ("iyi", "k\u00f6t\u00fc"), "iyi"),
        ("\u6807\u7b7e\uff1a\uff13", ("1", "2", "3"), "3"),
        ("\uff13", ("1", "2", "3"), "3"),
        ("\uff13\uff09", ("1", "2", "3"), "3"),
        ("\uff30ositive\u3002", ("positive", "negative"), "positive"),
        ("3)", ("3)", "3"), "3)"),
        ("2\u00b2", ("2", "22"), None),
        ("-3)", ("1", "2", "3"), None),
        ("\uff0d\uff13", ("1", "2", "3"), None),
        ("1) 2)", ("1", "2"), None),
        ("neutral", ("neutral", "neutral to positive"), "neutral"),
        ('{"label": 4}', ("1", "2", "3", "4", "5"), "4"),
        ('{"label": true}', ("true", "false"), "true"),
        ("STRASSE", ("stra\u00dfe", "weg"), "stra\u00dfe"),
        ("**", ("*", "**", "***"), "**"),
        ("", ("*", "**", "***"), None),
        ("...", ("*", "yes"), None),
        ("C++.", ("C", "C++"), "C++"),
        ("a.", ("a", "a."), "a."),
        ("a", ("a", "a."), "a"),
        ("It is slightly neutral.", ("neutral", "slightly neutral"), "slightly neutral"),
        ("I would say: neutral.", ("neutral", "slightly neutral"), "neutral"),
        ("slightly neutral or neutral", ("neutral", "slightly neutral"), None),
        ("There is no doubt about it", ("yes", "no"), None),
        ("The answer is no.", ("yes", "no"), None),
        ("I cannot say", ("i", "cannot say"), None),
    ],
)
def test_labels_of_every_kind(answer: str, labels: tuple[str, ...], expected: str | None) -> None:
    assert read_label(answer, labels) == expected


RANKED = '[{"label": "positive", "score": 0.98}, {"label": "negative", "score": 0.005}]'


@pytest.mark.parametrize(
    "answer",
    [
        RANKED,
        f"```json\n{RANKED}\n```",
        '{"candidates": [{"label": "positive"}, {"label": "negative"}]}',
        '{"answer": {"label": "positive"}, "alternative": {"label": "negative"}}',
        '{"label": "positive" or "negative"}',
        '{"label": "positive" | "negative" | "neutral"}',
        '{"label": "positive"/"negative"}',
        '{"label": "positive", "negative"}',
        '{"label": "positive" if up else "negative"}',
        "The answer is not <answer>positive</answer>.",
        "It is not <label>positive</label>",
        "Anything but <label>positive</label>",
        "I cannot say that the\nlabel is positive.",
        "If sales rise,\nthe label is positive.",
    ],
)
def test_what_offers_several_or_denies_is_none(answer: str) -> None:
    assert read_label(answer, LABELS) is None


@pytest.mark.parametrize(
    "answer",
    [
        '[{"label": "positive", "score": 0.98}]',
        '{"result": {"label": "positive"}}',
        '{"label": "positive", "alternative": {"label": "negative"}}',
        '{"label": "positive", "reason": "sales rose and',
        "{'label': 'positive', 'reason': 'it\\'s up'}",
        "<strong>positive</strong>",
        "The label is <strong>positive</strong>.",
        "<code>positive</code>",
        "The answer is <answer>positive</answer>.",
        "Sales rose.\n<label>positive</label>",
    ],
)
def test_what_says_one_is_read(answer: str) -> None:
    assert read_label(answer, LABELS) == "positive"


@pytest.mark.parametrize("answer", ["Das ist zu positiv.", "Die Bewertung ist zu positiv.", "Das Label ist zu positiv"])
def test_too_much_of_it_is_no_label(answer: str) -> None:
    assert read_label(answer, ("negativ", "neutral", "positiv")) is None


@given(st.text() | st.text(alphabet='{}[]":, \nlabeposit'))
def test_no_answer_makes_it_fail_or_invent(answer: str) -> None:
    found = read_label(answer, LABELS)
    assert found is None or found in unicodedata.normalize("NFKC", answer).casefold()


@given(st.sampled_from(LABELS), st.text(max_size=200))
def test_json_with_any_reason_is_read(label: str, reason: str) -> None:
    assert read_label(json.dumps({"reason": reason, "label": label}), LABELS) == label


MANY = 100_000


@pytest.mark.parametrize(
    "answer",
    [
        "{" * MANY,
        "}" * MANY,
        "{}" * MANY,
        "[" * MANY,
        '{"a":' * MANY + "1" + "}" * MANY,
        '{"label":' * MANY,
        '{"label": "' + "{" * MANY,
        "{a" * MANY + "}",
        " " * MANY * 10,
        '{"label": ' + "1" * MANY + "}",
        "\\" * MANY,
    ],
    ids=lambda answer: f"{answer[:12]}..." if answer.strip() else "blanks",
)
def test_a_long_hostile_answer_is_read_quickly(answer: str) -> None:
    start = time.process_time()
    assert read_label(answer, LABELS) is None
    assert time.process_time() - start < 2.0
