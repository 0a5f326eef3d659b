"""Parts of a prompt, cut into the tokens that they have within the whole.

A prompt is put together from parts that are encoded apart: what all rows share once, each text alone. Tokenizers of the
SentencePiece kind put a blank before whatever they are given, which within a prompt would stand there twice. Where a
tokenizer does so, a part is encoded behind an anchor, whose tokens are taken off again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

ANCHOR = "\n"
"""SentencePiece vocabularies have no token that joins a line end to what follows it."""


class PartTokenizer:
    """Encodes parts of prompts with a Hugging Face tokenizer; may be used by several threads at once."""

    def __init__(self, tokenizer: Any) -> None:
        # Whether control tokens are read as such is a setting of the tokenizer's own, which each call sets: of two
        # tokenizers that are always called alike, neither ever changes.
        self._control, self._plain = tokenizer, copy.deepcopy(tokenizer)
        self._anchor: list[int] = []
        self._anchor = self._needed_anchor()

    def whole(self, text: str) -> list[int]:
        """What begins a prompt, or is one: as the tokenizer encodes it."""
        return _encoded(self._control, [text], split=False)[0]

    def trusted(self, text: str) -> list[int]:
        """A part from within a prompt whose control tokens are meant."""
        return self._inner(self._control, [text], split=False)[0]

    def data(self, texts: Sequence[str]) -> list[list[int]]:
        """Parts from within prompts that are data: what looks like a control token is read as characters."""
        return self._inner(self._plain, texts, split=True)

    def _inner(self, tokenizer: Any, texts: Sequence[str], split: bool) -> list[list[int]]:
        if not texts:
            return []
        if not self._anchor:
            return _encoded(tokenizer, texts, split)
        size = len(self._anchor)
        found = _encoded(tokenizer, [ANCHOR + text for text in texts], split)
        return [
            ids[size:] if ids[:size] == self._anchor else _encoded(tokenizer, [text], split)[0]
            for ids, text in zip(found, texts, strict=True)
        ]

    def _needed_anchor(self) -> list[int]:
        """The anchor's tokens where a word has others at the beginning than behind it; else none."""
        anchor, alone, behind = _encoded(self._plain, [ANCHOR, "x", f"{ANCHOR}x"], split=True)
        size = len(anchor)
        return anchor if behind[:size] == anchor and behind[size:] != alone else []


@lru_cache(maxsize=4)
def part_tokenizer(tokenizer: Any) -> PartTokenizer:
    """The one for this tokenizer: prompts with examples of each row's own share it."""
    return PartTokenizer(tokenizer)


def _encoded(tokenizer: Any, texts: Sequence[str], split: bool) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=split, return_attention_mask=False
    )["input_ids"]
    return ids
