"""Votes: drawing stops early only where the rest cannot matter, and probabilities are what they claim."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from runner.tasks.single_label.votes import majority, probabilities, still_needed

LABELS: tuple[str | None, ...] = ("a", "b", "c", None)


def drawn(sequence: tuple[str | None, ...]) -> list[str | None]:
    """The votes that are drawn of ``sequence`` when drawing follows :func:`still_needed`."""
    votes: list[str | None] = []
    while need := still_needed(votes, len(sequence)):
        votes += sequence[len(votes) : len(votes) + need]
    return votes


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_early_stop_has_the_outcome_of_all_votes(total: int) -> None:
    labels = LABELS if total <= 7 else LABELS[:3]
    for sequence in itertools.product(labels, repeat=total):
        assert majority(drawn(sequence)) == majority(sequence), sequence


@pytest.mark.parametrize("total", [1, 3, 5])
def test_no_vote_is_drawn_that_cannot_matter(total: int) -> None:
    for sequence in itertools.product(("a", "b", None), repeat=total):
        votes = drawn(sequence)
        for count in range(len(votes)):
            # Before the last vote that was drawn the outcome was open: some rest would have changed it.
            rest = total - count
            outcomes = {
                majority([*votes[:count], *more]) for more in itertools.product(("a", "b", "c", None), repeat=rest)
            }
            assert len(outcomes) > 1, (sequence, count)


def test_agreeing_votes_need_a_bare_majority() -> None:
    assert [len(drawn(("a",) * total)) for total in (1, 3, 5, 7, 9)] == [1, 2, 3, 4, 5]


def test_unusable_answers_count_as_drawn_and_for_nobody() -> None:
    assert still_needed([None, None, None], 3) == 0
    assert majority([None, None, None]) is None
    assert majority([None, None, "a"]) == "a"


def test_a_tie_has_no_majority() -> None:
    assert majority(["a", "b"]) is None
    assert majority([]) is None


def test_probabilities_are_smoothed_shares() -> None:
    assert probabilities(["a", "a", "b"], ["a", "b", "c"], smoothing=0) == pytest.approx([2 / 3, 1 / 3, 0])
    assert probabilities(["a", "a", "b"], ["a", "b", "c"], smoothing=1) == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert probabilities([None], ["a", "b"]) == [0.5, 0.5]
    assert sum(probabilities(["a"], ["a", "b", "c"])) == pytest.approx(1)


def test_recorded_votes_of_the_published_case(data_dir: Path) -> None:
    """Mixtral's own votes: nothing changes, and about 31 % of the generations are not needed."""
    with open(data_dir / "financial_phrasebank" / "train.csv", encoding="utf-8", newline="") as file:
        rows = [tuple(row[f"sc_iter{n}"] for n in (1, 2, 3)) for row in csv.DictReader(file)]
    assert all(majority(drawn(votes)) == majority(votes) for votes in rows)
    generations = sum(len(drawn(votes)) for votes in rows) / (3 * len(rows))
    assert generations == pytest.approx(0.695, abs=0.01)
