"""How a text came back altered: what programs do to texts on the way, told apart so that people can mend it."""

from __future__ import annotations

import re
import unicodedata

EXCEL_CELL = 32_767
"""UTF-16 units that a cell of Excel holds."""

_NUMBER_OR_DATE = re.compile(r"[\s\d.,:/+%€$()-]*\d[\s\d.,:/+%€$()eE-]*|\w{3,9}[ -]?\d{1,4}|\d{1,2}[. -]?\w{3,9}")
_AROUND = 12
"""Characters shown of the place where texts begin to differ."""


def alteration(original: str, found: str) -> str | None:
    """What happened to ``original`` on the way; None where it came back as it was."""
    if found == original:
        return None
    for told, happened in _KNOWN:
        if happened(original, found):
            return told.format(found=len(found), original=len(original))
    at = next((at for at, (one, other) in enumerate(zip(original, found, strict=False)) if one != other), len(found))
    was, now = (ascii(text[max(0, at - _AROUND) : at + _AROUND]) for text in (original, found))
    return f"it differs from character {at + 1} on: {now} instead of {was}"


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded_wrongly(original: str, found: str) -> bool:
    for encoding in ("cp1252", "latin-1", "mac-roman"):
        try:
            if original.encode().decode(encoding) == found:
                return True
        except UnicodeDecodeError:
            continue
    return False


_KNOWN = (
    ("the text is gone", lambda original, found: not found),
    ("its line ends are others", lambda original, found: _line_ends(original) == _line_ends(found)),
    ("its blanks are others", lambda original, found: original.split() == found.split()),
    (
        "it was cut at {found:,} of {original:,} characters, as programs do whose cells hold no more",
        lambda original, found: original.startswith(found) or _line_ends(original).startswith(_line_ends(found)),
    ),
    (
        "its characters are composed in another way (Unicode normalization)",
        lambda original, found: unicodedata.normalize("NFKC", original) == unicodedata.normalize("NFKC", found),
    ),
    ("it was read in a wrong encoding: open the file as UTF-8", _decoded_wrongly),
    (
        "a spreadsheet program took it for a number or a date: format the column as text",
        lambda original, found: _NUMBER_OR_DATE.fullmatch(original.strip()) is not None and len(found) < 40,
    ),
)
"""The first that holds is told. A text that was cut may have lost its line ends as well."""
