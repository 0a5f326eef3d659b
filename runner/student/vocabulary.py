"""What a student's tokenizer has no token for: it reads ``[UNK]`` there, whatever the word.

An English WordPiece vocabulary knows few Chinese characters; a student trained on them sees the same token again and
again. Tokenizers that fall back to bytes have a token for everything. Knows tokenizers, not torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import models
from runner.spec import Spec
from runner.system.errors import ModelError

SAMPLE = 200
"""Texts that are looked at before a training."""
MOST_UNKNOWN = 0.1
"""The share of unknown tokens above which a student is warned of."""
MOST_UNREADABLE = 0.05
"""The same of texts more than half of whose tokens are unknown: a second language hides in the sum of all."""
MULTILINGUAL = "intfloat/multilingual-e5-small or FacebookAI/xlm-roberta-base"


@dataclass(frozen=True)
class Unknown:
    """``unknown`` of ``tokens`` are unknown, and most are in ``unreadable`` of ``texts``; special tokens apart."""

    tokens: int
    unknown: int
    texts: int
    unreadable: int

    @property
    def too_many(self) -> bool:
        many = self.unknown > MOST_UNKNOWN * self.tokens
        return many or self.unreadable > MOST_UNREADABLE * self.texts

    def words(self, what: str) -> str:
        """The shares of the tokens of ``what`` (train texts, ...) in words."""
        share, texts = self.unknown / max(1, self.tokens), self.unreadable / max(1, self.texts)
        return f"{100 * share:.0f} % of the tokens of the {what} (more than half in {100 * texts:.0f} % of them)"


def count(texts: Iterable[Sequence[int]], unknown: int | None, special: Iterable[int]) -> Unknown:
    """Count in token ids; ``special`` are tokens that stand for no text, ``unknown`` is None where all are known."""
    aside = set(special) - {unknown}
    lengths, unknowns = [], []
    for ids in texts:
        lengths.append(sum(token not in aside for token in ids))
        unknowns.append(0 if unknown is None else list(ids).count(unknown))
    unreadable = sum(2 * missing > length for missing, length in zip(unknowns, lengths, strict=True))
    return Unknown(sum(lengths), sum(unknowns), len(lengths), unreadable)


def count_before(spec: Spec, texts: Sequence[str]) -> Unknown | None:
    """Of a sample of ``texts``, before anything is learned; None where the student's tokenizer is not here."""
    student = spec.student
    try:
        if not models.describe(student.model, student.revision, spec.base).present:
            return None
        folder = models.ensure(student.model, student.revision, spec.base)
    except ModelError:  # said elsewhere
        return None
    if (tokenizer := tokenizer_in(folder)) is None:
        return None
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    readable = [text[:20_000].encode("utf-8", "replace").decode() for text in sample]
    encoded = [one.ids[: student.max_length] for one in tokenizer.encode_batch(readable, add_special_tokens=False)]
    return count(encoded, _unknown_id(json.loads(tokenizer.to_str()), tokenizer), ())


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer of a model folder, that neither pads nor cuts; None where ``tokenizer.json`` is missing or broken.

    A broken one is said where the model is loaded.
    """
    from tokenizers import Tokenizer

    file = Path(folder) / "tokenizer.json"
    if not file.exists():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the library raises nothing more special
        return None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _unknown_id(settings: dict[str, Any], tokenizer: Any) -> int | None:
    model = settings.get("model") or {}
    if model.get("byte_fallback"):
        return None
    found = model["unk_id"] if "unk_id" in model else tokenizer.token_to_id(model.get("unk_token") or "")
    return found if isinstance(found, int) else None


def warning(model: str, found: Unknown | None, what: str) -> str | None:
    """What to say of ``what`` (train texts, ...), and what to take instead; None where most is known."""
    if found is None or not found.too_many:
        return None
    return (
        f"{model} does not know {found.words(what)}: they are not in its vocabulary, and all alike to it. Take "
        f"a multilingual student, or one of their language: student.model: {MULTILINGUAL}"
    )
