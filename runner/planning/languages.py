"""A cheap guess at the language of texts: by their script, and of Latin script by a few frequent words.

Good enough to choose between an English and a multilingual student, and said to be a guess wherever it is shown.
Frequent words that several of these languages share are left out. Knows no files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

ENGLISH, UNKNOWN = "English", "unknown"

_SCRIPTS = (
    ("Japanese", re.compile("[\u3040-\u30ff]")),
    ("Korean", re.compile("[\uac00-\ud7af\u1100-\u11ff]")),
    ("Chinese", re.compile("[\u4e00-\u9fff\u3400-\u4dbf]")),
    ("Arabic script", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("Hebrew", re.compile("[\u0590-\u05ff]")),
    ("Devanagari script", re.compile("[\u0900-\u097f]")),
    ("Thai", re.compile("[\u0e00-\u0e7f]")),
    ("Greek", re.compile("[\u0370-\u03ff]")),
    ("Cyrillic script", re.compile("[\u0400-\u04ff]")),
)
"""Japanese stands before Chinese: its texts have Chinese characters too."""

SCRIPT_SHARE = 0.2
"""Of a text's letters, from which on the text counts as one of that script: names and quotes are fewer."""

_FREQUENT = {
    ENGLISH: "the of and is that it was with this you are they have from but at by to for in on as be do has no so an",
    "German": "der die das und ist nicht ein eine mit auf für von dem den sich auch wird im zum",
    "French": "le les des et est une pas dans pour qui sur avec au aux du ce cette ont nous vous",
    "Spanish": "el los las y es una por con para del se lo al como más pero muy su este",
    "Italian": "il gli che è non di della sono nel alla anche più questo ho ha dei delle mi",
    "Portuguese": "o os um uma não que em do da dos das com na ao mais muito foi eu são",
    "Dutch": "het een van en niet op te voor zijn ook maar bij wordt dat heb naar deze",
    "Swedish": "och att det är som på inte av ett har jag till om kan från vid",
    "Polish": "nie się na to jest w z do że jak po ale od przez był",
    "Turkish": "bir ve bu için çok da ile ne gibi daha olarak ama kadar değil",
}

_WORD = re.compile(r"[^\W\d_]+")
READ_CHARACTERS = 2000
"""Of each text: more says nothing new."""


def _telling() -> dict[str, str]:
    """Each frequent word that only one of the languages has, with that language."""
    owners: dict[str, list[str]] = {}
    for language, words in _FREQUENT.items():
        for word in words.split():
            owners.setdefault(word, []).append(language)
    return {word: languages[0] for word, languages in owners.items() if len(languages) == 1}


_TELLING = _telling()


def guess(text: str) -> str:
    """The language or the script of a text; ``unknown`` where nothing tells, as of numbers and of very short texts."""
    text = text[:READ_CHARACTERS]
    letters = sum(map(str.isalpha, text))
    if not letters:
        return UNKNOWN
    for language, script in _SCRIPTS:
        if len(script.findall(text)) >= SCRIPT_SHARE * letters:
            return language
    counts = Counter(_TELLING[word] for word in _WORD.findall(text.casefold()) if word in _TELLING)
    best = counts.most_common(2)
    if not best or (len(best) > 1 and best[0][1] == best[1][1]):
        return UNKNOWN
    return best[0][0]


def shares(texts: Iterable[str]) -> dict[str, float]:
    """The share of the texts that each language has, the most frequent first."""
    counts = Counter(map(guess, texts))
    total = counts.total()
    return {language: count / total for language, count in counts.most_common()}


def is_english(found: dict[str, float]) -> bool:
    """Whether an English vocabulary will do: of the texts of which anything can be told, nearly all are English."""
    told = sum(share for language, share in found.items() if language != UNKNOWN)
    return found.get(ENGLISH, 0.0) >= 0.9 * told
