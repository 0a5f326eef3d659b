"""Divide out the teacher's bias towards some labels, without gold labels.

Content-free calibration asks the teacher about texts that say nothing (random words of the corpus) and
divides each row's distribution by the mean of those answers (Zhao et al. 2021, arXiv:2102.09690; random
in-domain words: Fei et al. 2023, arXiv:2305.19148). Batch calibration divides by the mean over the corpus
itself (Zhou et al. 2024, arXiv:2309.17249) and so assumes that all classes are equally common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONTENT_FREE_TEXTS = 44
WORDS = (8, 32)
LONGEST_WORD = 40
SMALLEST = 1e-9

STRENGTH = 0.25
"""The power of the bias that content-free calibration divides by. Random words look neutral to a teacher,
so that dividing by all of it trades too much of the commonest class away; a part of it keeps nearly all that
raw has on skewed data and gains elsewhere (docs/calibration.md)."""


def content_free_texts(corpus: Sequence[str]) -> list[str]:
    """Texts of random words of the corpus: the same corpus, in any order, gives the same texts."""
    words = sorted(word for text in corpus for word in text[:10_000].split() if len(word) <= LONGEST_WORD)
    if not words:
        return ["N/A"]
    rng = np.random.default_rng(0)
    sizes = rng.integers(WORDS[0], WORDS[1], size=CONTENT_FREE_TEXTS, endpoint=True)
    texts = (" ".join(words[i] for i in rng.integers(len(words), size=size)) for size in sizes)
    return list(dict.fromkeys(texts))


def divide(probabilities: NDArray[np.float64], bias: NDArray[np.float64], strength: float = 1.0) -> NDArray[np.float64]:
    """``probabilities`` ``(rows, labels)`` over ``bias ** strength`` ``(labels,)``; rows sum to one again."""
    weighted = np.maximum(probabilities, SMALLEST) / np.maximum(bias, SMALLEST) ** strength
    result: NDArray[np.float64] = weighted / weighted.sum(axis=1, keepdims=True)
    return result
