"""Texts as token ids: cut to a length, control tokens as text, and what was cut or is unknown counted.

Knows Hugging Face tokenizers; does not know torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from runner.student import vocabulary

CHARACTERS_PER_TOKEN = 100
"""What lies beyond this many characters for each token that is kept is cut off before tokenising."""

# NULs and lone surrogates cannot be encoded; tokenizers refuse or mangle them.
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """The text without what cannot be encoded; everything else stays as it is."""
    return _UNENCODABLE.sub(" ", text)


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids per text, cut to ``max_length``, unpadded. Control tokens in a text stay text."""
    if not texts:
        return []
    encoded = tokenizer(
        [clean(text[: max_length * CHARACTERS_PER_TOKEN]) for text in texts],
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
        split_special_tokens=True,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def count_cut(tokenizer: Any, texts: Sequence[str], ids: Sequence[Sequence[int]], max_length: int) -> int:
    """How many of the texts that :func:`tokenize` made ``ids`` of lost their end."""
    full = [text for text, row in zip(texts, ids, strict=True) if len(row) >= max_length]
    return sum(len(row) > max_length for row in tokenize(tokenizer, full, max_length + 1))


def count_unknown(tokenizer: Any, ids: Sequence[Sequence[int]]) -> vocabulary.Unknown:
    """What of texts, given as token ids, the tokenizer has no token for."""
    return vocabulary.count(ids, tokenizer.unk_token_id, tokenizer.all_special_ids)
