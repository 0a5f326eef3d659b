"""What comes from elsewhere, made fit to be shown: in a message, on a terminal, in a file that others read.

Texts, column names, file names, labels of a model and the words of a server may hold control characters, which a
terminal obeys, and addresses may hold passwords.
"""

from __future__ import annotations

import re

_BROKEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane * 0x10000 + low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# A name alone is no secret, but for http, where it is often a token. What is signed is open to whoever has the address.
_USER = re.compile(r"(https?://)[^/?#\s@'\"]*@|([a-z][a-z0-9+.-]*://)[^/?#\s@:'\"]*:[^/?#\s@'\"]*@", re.IGNORECASE)
_SIGNED = re.compile(
    r"([?&](?:[\w-]*(?:signature|credential|token|secret|password)|sig|key|api[_-]?key)=)[^&#\s'\"]+", re.IGNORECASE
)


def clean(text: str) -> str:
    """The text with control characters made visible; line ends and tabs stay."""
    return _BROKEN.sub(_visible, text.replace("\r\n", "\n").replace("\r", "\n"))


def one_way(text: str) -> str:
    """The text without marks that turn the direction of writing."""
    return _BIDI.sub("\ufffd", text)


def without_secrets(text: str) -> str:
    """The text with the addresses in it as they are without user, password and signature."""
    return _SIGNED.sub(r"\1...", _USER.sub(r"\1\2", text)) if "://" in text else text


def has_secret(address: str) -> bool:
    """Whether an address lets in whoever knows it: a user's password or token stands in it, or a signature."""
    return without_secrets(address) != address


def for_terminal(text: str) -> str:
    """What is put out to a person: nothing that a terminal obeys, and no password of an address."""
    return one_way(clean(without_secrets(text)))


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the pictures that Unicode has for them: NUL, ESC, ...
    return "\u2421" if code == 0x7F else "\ufffd"
