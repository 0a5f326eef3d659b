"""The label that a few sentences say, where every word around it is known to be harmless.

An answer is read as statements: its sentences and lines. A statement says a label where it names one, once, and all
else in it is on the list of one language (:mod:`runner.tasks.single_label.harmless`). It counts

- where the whole answer is made of statements that say the same label, or of harmless words alone; or
- where it calls the label one (*Label: X*, *the answer is X*), whatever reasoning goes before, and nothing follows but
  harmless words, or an explanation (*Reason: ...*) that names no other label.

A question says nothing, and neither does a statement with any other mark or word in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from runner.tasks.shared.labels import find, plain
from runner.tasks.single_label.harmless import DENY, LANGUAGES, Language

LONGEST = 10_000
"""Characters of an answer that is read as prose."""

_HERE = "\ue000"
"""Stands for a label; private use, so that no language has it."""

QUOTES = (
    "'\"`*\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f\u300a\u300b"
    "\u3008\u3009\u3010\u3011\uff02\uff07"
)
STOPS = ".\u3002\uff0e\uff61\u0964\u0965\u06d4\u0589\u1362\u104b\u17d4"
PAUSES = ",;:\uff0c\u3001\uff1b\uff1a\u060c\u061b\u2026\u00b7"
CRIES = "!\uff01"
PAIRS = {"(": ")", "[": "]", "\uff08": "\uff09", "\uff3b": "\uff3d", "_": "_"}

# Han, kana, Hangul, Thai, Lao, Burmese, Khmer: words stand side by side, or carry their particles.
_NO_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007"
    "\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
)
_WORD = rf"[^\W_{_NO_BLANKS}]"
_HYPHEN = "[-\u2010\u2011\u00ad]"
_DASHES = "-\u2013\u2014"

_MARKS = re.compile(rf"[\s{re.escape(QUOTES + STOPS + PAUSES)}#=\u2192]+")
_DASH = re.compile(rf"(?:^|(?<=\s))[{_DASHES}\u2022](?=\s)|\u2014")
_CRY = re.compile(rf"(?<=[\w{_HERE}{re.escape(QUOTES)}])[{CRIES}]+(?=[\s{re.escape(QUOTES)}]|$)|(?<=\w|{_HERE})\uff01+")
_STOP = re.compile(rf"\.+(?=[{re.escape(QUOTES)}]*(?:\s|$))|[{STOPS[1:]}]+")
_ASKED = re.compile("([?\uff1f\u061f]+)")
_OVER_LINES = re.compile(r"([:\uff1a][*_`]*)\s*\n\s*")
_POINTS = re.compile(rf"(?:^|[:\uff1a])[\s{re.escape(QUOTES)}]*$")
_TAG = re.compile(r"<(/?)([A-Za-z]{1,20})>")
_FENCE = re.compile(r"^\s*```\w{0,20}\s*$", re.MULTILINE)
_LAST_TOKEN = re.compile(r"(?:\s*(?:</s>|<\|[a-z_]{1,20}\|>|<end_of_turn>|<eos>))+\s*$")
_TAGS = re.compile("label|answer|sentiment|class|category|classification|output|result|response|b|i|em|strong|code|p")
_LOOKS = frozenset({"b", "i", "em", "strong", "code"})
"""Tags that say how a word looks, and end no sentence."""
_GOES_ON = re.compile(r"(?<=[^\W\d_A-Z])[ \t]*\n[ \t]*(?=[a-z]+\b(?![^\n]{0,30}[:=]))|(?<=,)[ \t]*\n[ \t]*(?=[a-z])")
"""A line's end within a sentence."""


@dataclass(frozen=True)
class Statement:
    """A sentence: the ``label`` that it says, and whether it is ``called`` one; ``harmless`` may stand anywhere."""

    label: str | None = None
    called: bool = False
    harmless: bool = False
    explains: bool = False
    names: frozenset[str] = frozenset()


def said_in_prose(answer: str, labels: Sequence[str]) -> str | None:
    """The one label that the answer says, or None."""
    if len(answer) > LONGEST or _HERE in answer:
        return None
    text = _without_tags(_FENCE.sub("", _LAST_TOKEN.sub("", unicodedata.normalize("NFC", answer))))
    places = list(_mentions(text, tuple(labels)))
    if not places or any(_may_be_minus(text, start, label) for label, start, _ in places):
        return None
    said = list(_statements(text, places))
    labels_said = {one.label for one in said if one.label is not None}
    if all(one.label is not None or one.harmless for one in said):
        return labels_said.pop() if len(labels_said) == 1 else None
    called = [place for place, one in enumerate(said) if one.called]
    if len({said[place].label for place in called}) != 1:
        return None
    label = said[called[-1]].label
    return label if label is not None and _nothing_against(label, said[called[-1] + 1 :]) else None


def _nothing_against(label: str, after: Sequence[Statement]) -> bool:
    """Whether what follows a label leaves it standing: harmless words, and then perhaps an explanation."""
    explained = False
    for one in after:
        explained = explained or one.explains
        if not (one.harmless or one.label == label or explained) or one.names - {label}:
            return False
    return True


def _without_tags(text: str) -> str:
    """``<label>X</label>`` -> ``label: X``; a tag of another name, such as that of struck-out text, stays."""

    def named(tag: re.Match[str]) -> str:
        name = tag[2].lower()
        if name in _LOOKS or not _TAGS.fullmatch(name):
            return "" if name in _LOOKS else tag[0]
        before = text[: tag.start()].rpartition("\n")[2].rstrip()
        # Whatever begins a sentence belongs to it: "it is not <label>".
        parted = " " if before and not tag[1] and before[-1] not in f"{STOPS}{CRIES}:\uff1a>" else "\n"
        return parted if tag[1] or len(name) <= 3 else f"{parted}{tag[2]}: "

    return _TAG.sub(named, text)


def _may_be_minus(text: str, start: int, label: str) -> bool:
    """Whether a number may have a sign, or be what follows a point: neither ``- 1`` nor ``.1`` is 1."""
    return label[:1].isdigit() and (
        text[:start].rstrip()[-1:] in (*_DASHES, "\u2212", "+") or text[max(0, start - 1) : start] in (".", ",")
    )


def _mentions(text: str, labels: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Each label that is named, with its place; the longest of labels that begin alike.

    A harmless word that is a label but for its capitals ("It", where a label is "IT") is taken for the word.
    """
    lower = "".join(_lower(char) for char in text)
    for found in _pattern(labels).finditer(lower):
        start, end = found.span()
        if (label := find(text[start:end], labels)) is None:
            continue
        if text[start:end] != label and plain(label) in _all_words():
            continue
        while text[start - 1 : start] in PAIRS and start and text[end : end + 1] == PAIRS[text[start - 1]]:
            start, end = start - 1, end + 1
        yield label, start, end


@lru_cache(maxsize=16)
def _pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(labels, key=len, reverse=True)
    either = "|".join(
        r"\s+".join(re.escape("".join(map(_lower, word))) for word in unicodedata.normalize("NFC", label).split())
        for label in longest_first
    )
    return re.compile(rf"(?<!{_WORD})(?<!{_HYPHEN})(?:{either})(?!{_WORD})(?!{_HYPHEN})")


def _lower(char: str) -> str:
    """One character for one, so that places stay."""
    lower = char.lower()
    return lower if len(lower) == 1 else char


@cache
def _all_words() -> frozenset[str]:
    return frozenset().union(*(one.words for one in LANGUAGES.values()))


def _statements(text: str, places: Sequence[tuple[str, int, int]]) -> Iterator[Statement]:
    pieces, end = [], 0
    for _, start, stop in places:
        pieces.append(text[end:start])
        end = stop
    marked = _HERE.join([*pieces, text[end:]])
    for mark, by in ((_OVER_LINES, r"\1 "), (_GOES_ON, " "), (_ASKED, r"\1\n"), (_CRY, "\n"), (_STOP, "\n")):
        marked = mark.sub(by, marked)
    labels = iter([label for label, _, _ in places])
    for line in marked.split("\n"):
        if line.strip():
            yield _statement(line, [next(labels) for _ in range(line.count(_HERE))])


def _statement(line: str, labels: list[str]) -> Statement:
    parts = line.casefold().split(_HERE)
    before, *after = map(_words, parts)
    first = before[0] if before else ""
    explains = any(first in one.reasons or _begins_with(first, one.reasons) for one in LANGUAGES.values())
    names = frozenset(labels)
    if not labels:
        return Statement(harmless=any(_made_of(before, one.words) for one in LANGUAGES.values()), explains=explains)
    if len(labels) > 1:
        return Statement(explains=explains, names=names)
    readings = [one for one in LANGUAGES.values() if _says(before, after[0], one, labels[0])]
    # "The answer is no" may go on, in another line too: a label that denies must be pointed at.
    if not readings or (plain(labels[0]) in DENY and not _POINTS.search(parts[0])):
        return Statement(explains=explains, names=names)
    called = any(_holds(before, one.names) for one in readings)
    return Statement(labels[0], called, explains=False, names=names)


def _words(text: str) -> list[str]:
    return [word for word in _MARKS.split(_DASH.sub(" ", text)) if word]


def _says(before: Sequence[str], after: Sequence[str], language: Language, label: str) -> bool:
    if not _made_of(before, language.words):
        return False
    if before and not after and not _holds(before, language.says | language.names):
        return False
    if _made_of(after, language.ends):
        return True
    if plain(label) in DENY or plain(label) in _all_words():  # "no label" says nothing of a label "no"
        return False
    if after[0] in language.says:
        return _made_of(after, language.words)
    return _made_of(after, language.names | language.ends)


def _made_of(words: Sequence[str], known: frozenset[str]) -> bool:
    """Whether each of ``words`` is one of ``known``, or, in scripts without blanks, made of them."""
    return all(word in known or _pieces(word, known) is not None for word in words)


def _holds(words: Sequence[str], known: frozenset[str]) -> bool:
    return any(word in known or any(piece in known for piece in _pieces(word, _every_piece()) or ()) for word in words)


@cache
def _every_piece() -> frozenset[str]:
    return frozenset().union(*(LANGUAGES[name].words | LANGUAGES[name].ends for name in ("zh", "ja", "ko")))


def _begins_with(word: str, known: frozenset[str]) -> bool:
    return bool(re.match(f"[{_NO_BLANKS}]", word)) and any(word.startswith(one) for one in known)


def _pieces(word: str, known: frozenset[str]) -> list[str] | None:
    """A word of a script without blanks as pieces that are all ``known``, the longest first; None where it is not."""
    if not re.fullmatch(f"[{_NO_BLANKS}]+", word):
        return None
    ends: dict[int, list[str]] = {0: []}
    for start in range(len(word)):
        if start in ends:
            for size in range(min(8, len(word) - start), 0, -1):
                if (piece := word[start : start + size]) in known:
                    ends.setdefault(start + size, [*ends[start], piece])
    return ends.get(len(word))
