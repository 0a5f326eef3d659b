"""When two labels are the same: the one rule, wherever a label of the data or of an answer is looked up.

Two spellings are the same label where they differ in nothing but

- how their characters are composed (Unicode's canonical equivalence: ``é`` may be one character or two),
- blanks at the ends, or how many blanks stand between two words,
- capitals (Unicode's case folding: ``STRASSE`` is ``straße``).

Besides, a number without a fraction is its integer, since tools that meet a gap write 1 as ``1.0``; and the truth
values of JSON, Parquet and Python are the same two words. ``task.labels`` may not hold the same label twice, so that
what is found is never a choice. Knows no files and no specs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

LISTED = 12
"""So many labels are named in a message; the rest is counted."""

_WHOLE = re.compile(r"([+-]?\d+)(?:\.0+)?", re.ASCII)
# Letters of other scripts that most fonts draw as Latin ones.
_LOOK = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455\u03b1\u03bf\u03c1\u03bd\u0131",
    "abekmhopctyxijsaopvi",
)


def plain(text: str) -> str:
    """A label without what does not count: equal results, the same label."""
    folded = unicodedata.normalize("NFD", text).casefold()
    # The capital of the Turkish i, folded, keeps its dot apart.
    return " ".join(unicodedata.normalize("NFC", folded.replace("i\u0307", "i")).split())


def same(one: str, other: str) -> bool:
    """Whether two labels are the same."""
    return plain(one) == plain(other)


def find(value: object, labels: Sequence[str]) -> str | None:
    """The one of ``labels`` that a cell or an answer is, as the task writes it; None where it is none of them."""
    text = written(value)
    if text is None:
        return None
    exact, whole = _known(tuple(labels))
    key = plain(text)
    return exact[key] if key in exact else whole.get(_integer(key))


def written(value: object) -> str | None:
    """A value of a cell as text; None where it is no text, number or truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def listed(labels: Sequence[str], most: int = LISTED) -> str:
    """Labels for a message: the first of them, and how many more there are."""
    more = f", and {len(labels) - most:,} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def described(labels: Sequence[str], descriptions: Sequence[str]) -> str:
    """A line for each label with what it means, for a prompt; one without a description stands alone."""
    pairs = zip(labels, descriptions, strict=True)
    return "\n".join(f"- {label}: {description}" if description else f"- {label}" for label, description in pairs)


def shown(text: str, beside: Iterable[str], most: int = 60) -> str:
    """``text`` in quotes, in ASCII where it looks like one of ``beside`` and is not the same."""
    return (ascii if any(look_alike(text, other) for other in beside) else repr)(text[:most])


def unknown(value: object, labels: Sequence[str]) -> str:
    """What is wrong with a cell that is none of ``labels``."""
    text = (written(value) or "").strip()
    twins = [label for label in labels if look_alike(text, label)]
    hint = f"; it only looks like {twins[0]!a}" if twins else ""
    return f"the label {shown(text, twins)} is not among task.labels ({listed(labels)}){hint}"


def look_alike(one: str, other: str) -> bool:
    """Whether two different texts look the same to a person even in quotes, for more than their capitals."""
    return one.casefold() != other.casefold() and _look(one) == _look(other)


def _look(text: str) -> str:
    """A text as it looks: what is invisible is escaped, and what looks like a Latin letter is one."""
    return unicodedata.normalize("NFKC", repr(text)).casefold().translate(_LOOK)


@lru_cache(maxsize=16)
def _known(labels: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Labels by :func:`plain`, and those that are whole numbers by their integer, where that names only one."""
    exact = {plain(label): label for label in labels}
    counts = Counter(map(_integer, exact))
    return exact, {_integer(key): label for key, label in exact.items() if _integer(key) and counts[_integer(key)] == 1}


def _integer(key: str) -> str:
    """``1.0`` -> ``1``; a text that is no whole number is nothing."""
    match = _WHOLE.fullmatch(key)
    if match is None:
        return ""
    digits = match[1].lstrip("+-")
    return f"-{digits}" if match[1].startswith("-") and digits.strip("0") else digits
