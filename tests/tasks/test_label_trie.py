"""The label trie against brute force: a label's probability is the product along its closed path."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.tasks.single_label.label_trie import Branch, LabelTrie, Path, softmax

END = 99
# Two labels, then what the trie must ask: "negative" [1], "neutral" [2], "neutral to positive" [2, 3, 4].
SHAPES = {
    "different first tokens": ([[1], [2], [3]], [()]),
    "shared first token": ([[7, 1], [7, 2], [5]], [(), (7,)]),
    "one is a prefix": ([[1], [2], [2, 3, 4]], [(), (2,)]),
    "shared to the last token": ([[8, 8, 1], [8, 8, 2]], [(8, 8)]),
    "a chain of prefixes": ([[1], [1, 1], [1, 1, 1]], [(1,), (1, 1)]),
}


@pytest.mark.parametrize(("ids", "prefixes"), SHAPES.values(), ids=SHAPES)
def test_the_engine_is_asked_only_where_labels_part(ids: list[list[int]], prefixes: list[Path]) -> None:
    trie = LabelTrie.build(ids, END)
    assert [branch.prefix for branch in trie.branches] == prefixes
    assert all(len(branch.choices) > 1 for branch in trie.branches)


def test_a_label_that_begins_another_is_closed_by_the_end_token() -> None:
    trie = LabelTrie.build([[1], [2], [2, 3, 4]], END)
    assert trie.branches == (Branch((), (1, 2)), Branch((2,), (3, END)))
    # Half on "neutral..."; of that a quarter ends there and three quarters go on to "to positive".
    found = trie.probabilities(
        {(): {1: math.log(0.5), 2: math.log(0.5)}, (2,): {3: math.log(0.75), END: math.log(0.25)}}
    )
    assert found == pytest.approx([0.5, 0.125, 0.375])


@pytest.mark.parametrize("ids", [[[1], [1]], [[1, 2], [1, 2], [3]], [[], [1]]])
def test_labels_that_cannot_be_told_apart_are_refused(ids: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="tokens of its own"):
        LabelTrie.build(ids, END)


tokens = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)
labels = st.lists(tokens, min_size=2, max_size=7, unique=True)
logprob = st.floats(-60, 0) | st.just(-math.inf)


@given(labels, st.data())
def test_probabilities_are_those_of_constrained_decoding(ids: list[Path], data: st.DataObject) -> None:
    trie = LabelTrie.build(ids, END)
    asked = {b.prefix: {token: data.draw(logprob) for token in b.choices} for b in trie.branches}
    found = trie.probabilities(asked)
    assert sum(found) == pytest.approx(1.0)
    assert found == pytest.approx([brute_force(path, ids, asked) for path in ids], abs=1e-12)


def brute_force(label: Path, ids: list[Path], asked: dict[Path, dict[int, float]]) -> float:
    """Walk the label token by token; where others would go elsewhere, take this one's share."""
    closed = [(*path, END) for path in ids]
    probability = 1.0
    for depth, token in enumerate((*label, END)):
        prefix = label[:depth]
        options = {path[depth] for path in closed if path[:depth] == prefix}
        if len(options) > 1:
            weight = {option: math.exp(asked[prefix][option]) for option in options}
            total = sum(weight.values())
            probability *= weight[token] / total if total else 1 / len(options)
    return probability


@given(labels, st.floats(-50, 50))
def test_a_shift_of_all_log_probabilities_changes_nothing(ids: list[Path], shift: float) -> None:
    trie = LabelTrie.build(ids, END)
    plain = {b.prefix: {token: -0.3 * rank for rank, token in enumerate(b.choices)} for b in trie.branches}
    moved = {prefix: {t: value + shift for t, value in row.items()} for prefix, row in plain.items()}
    assert trie.probabilities(moved) == pytest.approx(trie.probabilities(plain))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, -math.inf], [1.0, 0.0]),
        ([-math.inf, -math.inf, -math.inf], [1 / 3] * 3),
        ([-2000.0, -2000.0], [0.5, 0.5]),
        ([math.log(3), 0.0], [0.75, 0.25]),
        ([700.0, 0.0], [1.0, 0.0]),
    ],
)
def test_softmax(values: list[float], expected: list[float]) -> None:
    assert softmax(values) == pytest.approx(expected)


def test_softmax_keeps_the_order() -> None:
    found = softmax([-3.0, -1.0, -0.5, 2.0])
    assert all(low < high for low, high in pairwise(found))
