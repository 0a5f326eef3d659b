"""A text seen in two ways, so that what is learned from one errs otherwise than what is learned from the other.

Its *vector* says what it means, as an encoder sees it; its *terms* say which words stand in it. Knows torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from runner.student.embed import Encoder
from runner.student.tokens import tokenize

MOST_TERMS = 20_000
"""The most frequent ones are counted."""

FEWEST_TEXTS = 2
"""A term of one text alone says nothing about another."""


def views(folder: Path, texts: Sequence[str], max_length: int) -> tuple[NDArray[np.float32], csr_array]:
    """Vectors ``(texts, width)`` and terms ``(texts, terms)`` by the encoder in ``folder``.

    :raises ModelError: when it holds none, or its vectors are not finite.
    """
    encoder = Encoder.load(folder)
    ids = tokenize(encoder.tokenizer, texts, max_length)
    return encoder.embed(texts, max_length), terms(ids, set(encoder.tokenizer.all_special_ids))


def terms(ids: Sequence[Sequence[int]], left_out: set[int]) -> csr_array:
    """How often tokens, and pairs of neighbours, stand in texts: TF-IDF with logarithmic counts, float32.

    Tokens and not words, so that texts in scripts without spaces have some. ``left_out`` are control tokens. No columns
    where no term is in two texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # scikit-learn takes a second to load

    documents = [[token for token in row if token not in left_out] for row in ids]
    base = 1 + max((max(row, default=0) for row in documents), default=0)

    def analysed(row: list[int]) -> list[int]:
        return [*row, *(base * (first + 1) + second for first, second in pairwise(row))]

    counter: Any = TfidfVectorizer(
        analyzer=analysed, sublinear_tf=True, min_df=FEWEST_TEXTS, max_features=MOST_TERMS, dtype=np.float32
    )
    try:
        return csr_array(counter.fit_transform(documents))
    except ValueError:  # no term is left
        return csr_array((len(documents), 0), dtype=np.float32)
