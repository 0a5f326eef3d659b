"""Conversations about a row: what is asked, how often, with which seed, and what a resumed run still asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from runner.tasks.single_label.asking import LabelAnswer
from runner.teacher.conversation import Ask, Ballot, Votes, counted, missing, readings
from runner.teacher.engines.noop import NoopTokenizer
from runner.teacher.engines.protocol import Reply, Sample, Sampling
from runner.teacher.prompt import Task
from runner.teacher.renderer import Renderer

LABELS = ("negative", "neutral", "positive")
ANSWERS = LabelAnswer(LABELS)
TASK = Task(ANSWERS, "Label it.", (), "cot")
SAMPLING = Sampling(temperature=0.8, top_p=1.0, top_k=20, max_tokens=64)
Says = Callable[[Ask], str]


def ballot(votes: int, early_stop: bool = True, seed: int = 0, context: int = 512) -> Ballot:
    return Ballot(Renderer(NoopTokenizer(), TASK), votes, early_stop, SAMPLING, seed, context)


def talk(says: Says, ballot: Ballot, earlier: Sequence[dict[str, Any]] = (), row: str = "r") -> tuple[Votes, list[Ask]]:
    """Have the whole conversation; replies come in the reverse of the order of asking."""
    votes = Votes(row, ballot.renderer.text_ids("Sales rose."), ballot, earlier)
    asked = list(open_ := votes.begin())
    while open_:
        ask = open_.pop()
        more = votes.on_reply(ask, Reply(says(ask), 3))
        asked += more
        open_ += more
    return votes, asked


def script(*answers: str, again: str = "") -> Says:
    return lambda ask: again if ask.attempt else answers[ask.vote]


def labels_of(votes: Votes, total: int, early_stop: bool = True) -> list[str | None]:
    return counted(votes.records, ANSWERS, total, early_stop)


def test_agreeing_votes_are_asked_for_no_longer_than_needed() -> None:
    votes, asked = talk(script("positive", "positive", "neutral"), ballot(3))
    assert [ask.vote for ask in asked] == [0, 1]
    assert labels_of(votes, 3) == ["positive", "positive"]
    votes, asked = talk(script("positive", "neutral", "neutral"), ballot(3))
    assert [ask.vote for ask in asked] == [0, 1, 2]
    assert labels_of(votes, 3) == ["positive", "neutral", "neutral"]


def test_all_votes_are_drawn_where_that_is_wanted() -> None:
    votes, asked = talk(script("positive", "positive", "neutral"), ballot(3, early_stop=False))
    assert [ask.vote for ask in asked] == [0, 1, 2]
    assert labels_of(votes, 3, early_stop=False) == ["positive", "positive", "neutral"]


def test_an_unusable_answer_is_asked_about_once_more() -> None:
    votes, asked = talk(script("Hm.", again="neutral"), ballot(1))
    assert [(ask.vote, ask.attempt) for ask in asked] == [(0, 0), (0, 1)]
    assert len(asked[1].prompt) > len(asked[0].prompt)
    assert isinstance(asked[1].request, Sample) and asked[1].request.sampling.max_tokens == ANSWERS.second_answer_tokens
    assert labels_of(votes, 1) == ["neutral"]
    assert [record["text"] for record in votes.records] == ["Hm.", "neutral"]


def test_after_the_second_unusable_answer_the_vote_is_none() -> None:
    votes, asked = talk(script("Hm.", again="Hm again."), ballot(1))
    assert len(asked) == 2
    assert labels_of(votes, 1) == [None]
    assert missing(votes.records, ANSWERS, 1, early_stop=True) == []


def test_seeds_differ_by_row_vote_and_attempt_and_come_back() -> None:
    says = script("positive", "neutral", "Hm.", again="neutral")

    def seeds(**more: Any) -> list[int]:
        return [ask.request.seed for ask in talk(says, ballot(3, seed=more.pop("seed", 0)), **more)[1] if ask.request]  # type: ignore[union-attr]

    first = seeds()
    assert len(set(first)) == 4
    assert seeds() == first
    assert not set(first) & (set(seeds(row="other")) | set(seeds(seed=1)))


@pytest.mark.parametrize("kept", range(5))
def test_a_resumed_row_asks_what_it_would_have_asked(kept: int) -> None:
    says = script("positive", "neutral", "Hm.", "neutral", "positive", again="neutral")
    whole, asked = talk(says, ballot(5))
    ordered = sorted(whole.records, key=lambda record: (record["vote"], record["attempt"]))
    rest, more = talk(says, ballot(5), earlier=ordered[:kept])
    assert counted([*ordered[:kept], *rest.records], ANSWERS, 5, True) == labels_of(whole, 5)
    keys = {(ask.vote, ask.attempt, ask.request.seed) for ask in asked if isinstance(ask.request, Sample)}
    assert {(ask.vote, ask.attempt, ask.request.seed) for ask in more if isinstance(ask.request, Sample)} <= keys
    assert len(more) + kept == len(asked)


def test_more_votes_ask_only_for_the_new_ones_and_fewer_for_none() -> None:
    says = script("positive", "positive", "neutral", "neutral", "neutral")
    votes, _ = talk(says, ballot(3))
    rest, more = talk(says, ballot(5), earlier=votes.records)
    assert [ask.vote for ask in more] == [2, 3, 4]
    both = [*votes.records, *rest.records]
    assert counted(both, ANSWERS, 5, True) == ["positive", "positive", "neutral", "neutral", "neutral"]
    assert counted(both, ANSWERS, 3, True) == ["positive", "positive"]
    assert missing(both, ANSWERS, 3, True) == []


def test_a_second_question_fits_into_the_context() -> None:
    _, asked = talk(script("word " * 300, again="neutral"), ballot(1, context=200))
    assert len(asked[1].prompt) + ANSWERS.second_answer_tokens <= 200


def test_readings_are_by_vote() -> None:
    records = [
        {"vote": 1, "attempt": 1, "text": "neutral"},
        {"vote": 0, "attempt": 0, "text": "positive"},
        {"vote": 1, "attempt": 0, "text": "Hm."},
    ]
    found = readings(records, ANSWERS)
    assert (found[0].value, found[1].value, found[1].answer) == ("positive", "neutral", "Hm.")
    assert found[0].settled and found[1].settled
