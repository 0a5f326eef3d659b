"""What a teacher is asked about several labels, and what its answers say: never a guess."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.tasks.multi_label.answers import read_labels
from runner.tasks.multi_label.asking import LabelsAnswer
from runner.tasks.multi_label.votes import agreement, majority, next_votes, still_needed
from runner.tasks.multi_label.yes_or_no import YesOrNo, YesOrNoScorer
from runner.teacher.engines.protocol import Reply, ScoreTokens
from runner.teacher.protocol import NotFiniteError

LABELS = ("merger", "lawsuit", "results", "staff, board")


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"reason": "Both.", "labels": ["lawsuit", "merger"]}', ["merger", "lawsuit"]),
        ('{"reason": "Nothing fits.", "labels": []}', []),
        ('```json\n{"reason": "x", "labels": ["Merger"]}\n```', ["merger"]),
        ('Sure! {"reason": "x", "labels": ["merger", "merger"]}', ["merger"]),
        ('{"labels": ["merger"]} No: {"labels": ["results"]}', ["results"]),
        ('{"reason": "x", "label": "results"}', ["results"]),
        ('{"labels": "merger, results"}', ["merger", "results"]),
        ('["results"]', ["results"]),
        ("[]", []),
        ('The labels are ["results", "merger"].', ["merger", "results"]),
        ("merger, results", ["merger", "results"]),
        ("- merger\n- results\n", ["merger", "results"]),
        ("staff, board", ["staff, board"]),
        ('<think>maybe lawsuit</think>["merger"]', ["merger"]),
    ],
)
def test_an_answer_that_can_be_read_in_one_way_is(answer: str, value: list[str]) -> None:
    assert read_labels(answer, LABELS) == value


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "none",
        "It is about a merger.",
        "not merger",
        '{"reason": "x", "labels": ["merger", "takeover"]}',
        '{"reason": "x", "labels": ["merger", "law',
        '{"reason": "x", "labels": null}',
        '{"reason": "x"}',
        '["merger"] or ["results"]',
        "merger, takeover",
        '<think>["merger"]',
    ],
)
def test_an_answer_that_says_no_value_is_none(answer: str) -> None:
    assert read_labels(answer, LABELS) is None


def test_what_the_schema_allows_is_read_and_every_value_is_allowed() -> None:
    form = LabelsAnswer(LABELS)
    schema = json.loads(form.schema(128))
    for value in ([], ["merger"], list(LABELS)):
        answer = form.example("cot", value, "Because.", "")
        jsonschema.validate(json.loads(answer), schema)
        assert form.read(answer) == value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"reason": "", "labels": ["takeover"]}, schema)
    assert form.example("direct", ["lawsuit"], "", "") == "merger: no\nlawsuit: yes\nresults: no\nstaff, board: no"
    shown = [form.example("direct", ["lawsuit"], "", str(number)).split("\n") for number in range(40)]
    assert {lines[0].split(":")[0] for lines in shown} == set(LABELS)
    assert all("lawsuit: yes" in lines and len(lines) == len(LABELS) for lines in shown)


def _letters(answers: Sequence[str]) -> list[list[int]]:
    """Words as tokens with the blank before them, as byte-pair encodings have it."""
    known: dict[str, int] = {}
    return [
        [known.setdefault(word, len(known)) for word in answer.replace(": ", " : ").split(" ")] for answer in answers
    ]


def test_each_label_is_asked_about_behind_the_whole_prompt() -> None:
    scorer = LabelsAnswer(LABELS).scorer(_letters, [99])
    talk = scorer.conversation([1000, 1001], [])
    asks = talk.begin()
    assert len(asks) == len(LABELS)
    assert all(list(ask.prompt[:2]) == [1000, 1001] for ask in asks)
    assert all(isinstance(ask.request, ScoreTokens) and len(ask.request.tokens) == 6 for ask in asks)
    chances = (0.9, 0.2, 0.5, 0.0)
    for ask, chance in reversed(list(zip(asks, chances, strict=True))):
        question = scorer.questions[ask.vote]
        said = {
            question.yes[0]: math.log(chance / 2) if chance else -math.inf,
            question.no[0]: math.log((1 - chance) / 2),
        }
        others = dict.fromkeys((*question.yes[1:], *question.no[1:]), -math.inf)
        assert talk.on_reply(ask, Reply(tokens=1, logprobs=said | others)) == []
    (record,) = talk.records
    assert record["label_probabilities"] == pytest.approx(chances)
    assert record["output_tokens"] == len(LABELS)
    assert scorer.conversation([1], [record]).begin() == []


def test_the_spellings_of_yes_and_no_are_added_up() -> None:
    question = YesOrNo((7,), (1, 2), (3,))
    logs = {1: math.log(0.2), 2: math.log(0.1), 3: math.log(0.1)}
    assert question.probability(logs) == pytest.approx(0.75)
    assert question.probability(dict.fromkeys((1, 2, 3), -math.inf)) is None
    with pytest.raises(NotFiniteError):
        question.probability({1: math.nan, 2: 0.0, 3: 0.0})


def test_tokens_that_do_not_tell_yes_from_no_are_refused_with_the_label() -> None:
    with pytest.raises(ValueError, match="'merger: yes' and 'merger: no' do not part"):
        LabelsAnswer(LABELS).scorer(lambda answers: [[1, 2] for _ in answers], [])


def test_a_model_without_numbers_gives_no_answer() -> None:
    scorer = YesOrNoScorer((YesOrNo((7,), (1,), (2,)),))
    talk = scorer.conversation([0], [])
    (ask,) = talk.begin()
    with pytest.raises(NotFiniteError):
        talk.on_reply(ask, Reply(tokens=1, logprobs={1: -math.inf, 2: -math.inf}))


VOTES = st.lists(st.one_of(st.none(), st.lists(st.sampled_from("abc"), unique=True).map(sorted)), max_size=7)


@given(VOTES, VOTES)
def test_no_further_vote_changes_an_outcome_that_stands(
    votes: list[list[str] | None], rest: list[list[str] | None]
) -> None:
    total = len(votes) + len(rest)
    need = still_needed(votes, total)
    assert 0 <= need <= len(rest)
    if not need:
        assert majority(votes, "abc") == majority([*votes, *rest], "abc")


@given(VOTES, st.integers(1, 7))
def test_fewer_votes_than_are_needed_never_settle_it(votes: list[list[str] | None], more: int) -> None:
    total = len(votes) + more
    need = still_needed(votes, total)
    for label in "abc":  # even where all of them say the same
        for vote in ([label], []):
            for count in range(need):
                assert still_needed([*votes, *[vote] * count], total) > 0


def test_votes_that_matter_are_drawn_and_no_others() -> None:
    assert next_votes([], 5, early_stop=True) == 3
    assert next_votes([], 5, early_stop=False) == 5
    assert next_votes([["a"], ["a"], ["a"]], 5, early_stop=True) == 0
    assert next_votes([["a"], ["a", "b"], ["a"]], 5, early_stop=True) == 1
    assert next_votes([None, None, None], 5, early_stop=True) == 1
    assert majority([["a"], ["b"]], "ab") == []
    assert majority([None, None], "ab") is None


def test_agreement_is_the_mean_overlap_with_the_value() -> None:
    assert agreement([["a"], ["a", "b"], None], ["a"]) == pytest.approx(0.75)
    assert agreement([[], []], []) == 1.0
    assert agreement([["b"]], ["a"]) == 0.0


def test_what_stands_in_for_a_model_gives_none_one_and_several() -> None:
    form = LabelsAnswer(LABELS)
    given = [form.read(form.made_up(number)) for number in range(256)]
    assert None not in given
    assert {len(value or ()) for value in given} >= {0, 1, 2}
