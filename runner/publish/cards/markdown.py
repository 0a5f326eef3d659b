"""Foreign text in Markdown stays text: three gates, and the front matter.

Instructions, labels, model names and reasons come from specs and data. Whatever they hold, they can neither end
the place in which they stand nor begin anything: no heading, table, link, HTML or front matter. The rules are those
of CommonMark 0.31 and of GitHub's tables.
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from runner.report import speed, text
from runner.report.templates import environment
from runner.system.sanitize import clean

_MEANT = re.compile(r"[\\`*_{}\[\]#|~$!]")
_FIRST = re.compile(r"[-+=]|\d+(?=[.)](?:\s|$))")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Readers make links of bare addresses after all escapes are gone: an invisible word joiner prevents it.
_ADDRESS = re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)")

EMPTY = "(empty)"


def prose(said: str) -> Markup:
    """A sentence of ours that may hold foreign words, on one line; it means nothing but its words."""
    line = text.flat(said)
    line = _ADDRESS.sub("\u2060", line)
    head = _FIRST.match(line)
    line = _MEANT.sub(r"\\\g<0>", line)
    line = "".join(_ENTITIES.get(letter, letter) for letter in line)
    if head:  # a dash, or a number with its dot, would begin a list
        end = head.end()
        line = f"{line[:end]}\\{line[end:]}" if head[0].isdigit() else f"\\{line}"
    return Markup(line)


def code(said: object, longest: int = text.LONGEST) -> Markup:
    """Foreign words as code, on one line: fit for a table's cell too.

    A cell ends at a pipe wherever it stands, and what a backslash before it does differs from reader to reader: pipes
    stand between pieces of code.
    """
    line = text.flat(text.cut(str(said), longest))
    return Markup("\\|".join(_span(piece) for piece in line.split("|")) or EMPTY)


def block(said: str, language: str = "text") -> Markup:
    """Foreign lines as a fenced block, with a fence longer than any that stands in them."""
    lines = clean(said).strip("\n")
    fence = "`" * max(3, 1 + _longest_run(lines))
    return Markup(f"{fence}{language}\n{lines}\n{fence}")


def card(data: Any, template: str, values: dict[str, Any]) -> str:
    """A whole card: ``data`` (the Hub's ``CardData``) as front matter, then the template. Every value that is put out
    passes :func:`prose` unless it passed another gate."""
    filters = {
        "code": code,
        "block": block,
        "percent": text.percent,
        "number": text.number,
        "moment": text.moment,
        "device": speed.device,
    }
    ours = environment("runner.publish.cards", _finalize, filters).overlay(keep_trailing_newline=True)
    body = ours.get_template(template).render(values)
    # The Hub's own writer, which is a YAML dumper: no value can leave its place.
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n\n{body.strip()}\n"


def _finalize(value: object) -> object:
    return value if isinstance(value, Markup) else prose(str(value))


def _span(piece: str) -> str:
    if not piece:
        return ""
    ticks = "`" * (1 + _longest_run(piece))
    blank = " " if piece.startswith((" ", "`")) or piece.endswith((" ", "`")) else ""
    # Blanks alone are shown as they are; elsewhere one at each end is taken off again.
    return f"{ticks}{'' if piece.isspace() else blank}{piece}{'' if piece.isspace() else blank}{ticks}"


def _longest_run(said: str) -> int:
    return max(map(len, re.findall("`+", said)), default=0)
