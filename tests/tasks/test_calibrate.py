"""Calibration: what is divided out, and the content-free texts that it is measured with."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runner.tasks.single_label.calibrate import divide
from runner.teacher.random_texts import CONTENT_FREE_TEXTS, WORDS, content_free_texts

CORPUS = [f"Company {i} sold its unit {i % 7} in May for EUR {i * 3} million ." for i in range(60)]
rows = arrays(np.float64, (5, 3), elements=st.floats(1e-6, 1.0))
bias = arrays(np.float64, (3,), elements=st.floats(1e-3, 1.0))


def test_an_even_bias_changes_nothing() -> None:
    given_ = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    assert divide(given_, np.full(3, 1 / 3)) == pytest.approx(given_, abs=1e-8)


def test_a_known_bias_is_divided_out() -> None:
    true = np.array([[0.6, 0.4], [0.1, 0.9]])
    leaning = np.array([0.8, 0.2])
    biased = true * leaning / (true * leaning).sum(axis=1, keepdims=True)
    assert divide(biased, leaning) == pytest.approx(true)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 0.8), (0.5, 2 / 3), (1.0, 0.5)])
def test_strength_is_a_power_of_the_bias(strength: float, expected: float) -> None:
    found = divide(np.array([[0.8, 0.2]]), np.array([0.8, 0.2]), strength)
    assert found[0, 0] == pytest.approx(expected)


@given(rows, bias, st.floats(0, 1))
def test_rows_sum_to_one_and_the_favoured_label_never_gains(p: np.ndarray, b: np.ndarray, s: float) -> None:
    p = p / p.sum(axis=1, keepdims=True)
    found = divide(p, b, s)
    assert found.sum(axis=1) == pytest.approx(np.ones(5))
    favoured = int(b.argmax())
    assert (found[:, favoured] <= p[:, favoured] + 1e-9).all()


def test_zeros_do_not_divide() -> None:
    found = divide(np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([0.0, 1.0]))
    assert np.isfinite(found).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(2))


def test_content_free_texts_are_words_of_the_corpus_and_the_same_in_any_order() -> None:
    texts = content_free_texts(CORPUS)
    shuffled = list(CORPUS)
    random.Random(1).shuffle(shuffled)
    assert texts == content_free_texts(shuffled)
    assert len(texts) == len(set(texts)) == CONTENT_FREE_TEXTS
    known = {word for text in CORPUS for word in text.split()}
    assert all(set(text.split()) <= known for text in texts)
    assert all(WORDS[0] <= len(text.split()) <= WORDS[1] for text in texts)
    assert not set(texts) & set(CORPUS)


def test_common_words_are_drawn_more_often() -> None:
    drawn = " ".join(content_free_texts(["common " * 99 + "rare"])).split()
    assert drawn.count("common") > 20 * drawn.count("rare")


@pytest.mark.parametrize("corpus", [[], [""], [" \n "]])
def test_a_corpus_without_words(corpus: list[str]) -> None:
    assert content_free_texts(corpus) == ["N/A"]


def test_a_corpus_of_one_word_gives_texts_that_differ() -> None:
    texts = content_free_texts(["word"])
    assert len(texts) == len(set(texts)) > 10


@pytest.mark.slow("long")
def test_a_large_corpus_takes_no_time() -> None:
    start = time.process_time()
    assert len(content_free_texts(CORPUS * 5000)) == CONTENT_FREE_TEXTS
    assert time.process_time() - start < 5.0
