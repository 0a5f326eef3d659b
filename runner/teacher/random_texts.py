"""Texts of random words of a corpus, which say nothing: what a teacher answers to them is its bias.

Random in-domain words look like the corpus and mean nothing (Fei et al. 2023, arXiv:2305.19148). Knows no engine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

CONTENT_FREE_TEXTS = 44
WORDS = (8, 32)
LONGEST_WORD = 40


CUT_WORDS = 5_000
"""Different words that are cut at the most: so many hold every common piece."""

_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u1aaf\u1b00-\u1b7f\u2e80-\u30ff\u3105-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua980-\ua9df\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)
"""Scripts that put no blanks between words: Thai, Lao, Tibetan, Burmese, Khmer, Tai, Balinese, Javanese, Chinese,
Japanese, Bopomofo, Yi."""

Cut = Callable[[list[str]], list[list[str]]]
"""From words to the pieces of each."""


def content_free_texts(corpus: Sequence[str], cut: Cut | None = None, seed: int = 0) -> list[str]:
    """Texts of random words of the corpus: the same corpus, in any order, gives the same texts.

    What stands between two blanks is a word, but in scripts without blanks it is a sentence, which says something.
    Such are cut into the teacher's tokens by ``cut`` (None: into characters), and so are words of more than
    :data:`LONGEST_WORD` characters where most words are such; a few are left out.
    """
    cut = cut or characters
    words: Counter[str] = Counter()
    long: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    for text in corpus:
        for word in text[:10_000].split():
            kind = sentences if _UNSPACED.search(word) else long if len(word) > LONGEST_WORD else words
            kind[word] += 1
    if long.total() > words.total() + sentences.total():
        sentences |= long
    units = sorted([*(f" {word}" for word in words.elements()), *_pieces(sentences, cut)])
    if not units:
        return ["N/A"]
    rng = np.random.default_rng(seed)
    sizes = rng.integers(WORDS[0], WORDS[1], size=CONTENT_FREE_TEXTS, endpoint=True)
    texts = ("".join(units[i] for i in rng.integers(len(units), size=size)).strip() for size in sizes)
    return list(dict.fromkeys(texts))


def _pieces(words: Counter[str], cut: Cut) -> list[str]:
    """The pieces of the words as often as they occur, from a sample where there are very many."""
    step = -(-len(words) // CUT_WORDS) or 1
    sample = sorted(words)[::step]
    cuts = cut(sample) if sample else []
    return [piece for word, pieces in zip(sample, cuts, strict=True) for piece in pieces * (words[word] * step)]


def characters(words: Sequence[str]) -> list[list[str]]:
    """Each word cut into characters."""
    return [list(word) for word in words]


def tokens(tokenizer: Any, words: Sequence[str]) -> list[list[str]]:
    """Each word cut where the tokenizer cuts it, but never within a character."""
    if not getattr(tokenizer, "is_fast", False):
        return characters(words)
    spans = tokenizer(list(words), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [_cut_at(word, found) for word, found in zip(words, spans, strict=True)]


def _cut_at(word: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    places, end = [0], 0
    for first, last in sorted(spans):
        if 0 < end <= first:
            places.append(end)
        end = max(end, last)
    return [word[first:last] for first, last in pairwise([*dict.fromkeys(places), len(word)]) if first < last]
