"""PyYAML's syntax errors in plain words. Knows the parser's sentences, and nothing else."""

from __future__ import annotations

import yaml

# The parser's sentence (its beginning) and ours; {line} is where the thing that it belongs to starts.
_SENTENCES = (
    ("mapping values are not allowed", "a ':' is not expected here: put text that holds ': ' in quotes, "
     "or check the indentation"),
    ("could not find expected ':'", "a ':' is missing after the key that starts in line {line}"),
    ("found unexpected end of stream", "the quote that opens in line {line} is never closed"),
    ("found unexpected document separator", "the quote that opens in line {line} is never closed"),
    ("found unknown escape character", "this escape means nothing in double quotes: write '\\\\' for a "
     "backslash, or use single quotes"),
    ("expected escape sequence of", "this escape needs hexadecimal digits: write '\\\\' for a backslash, "
     "or use single quotes"),
    ("expected ',' or ']'", "a ',' or ']' is missing in the list that opens in line {line}; "
     "text that holds brackets or commas needs quotes"),
    ("expected ',' or '}'", "a ',' or '}' is missing in the mapping that opens in line {line}; "
     "text that holds brackets or commas needs quotes"),
    ("expected <block end>", "this does not fit in with what starts in line {line}: check the indentation"),
    ("sequence entries are not allowed", "a list entry ('- ') is not expected here: check the indentation"),
    ("block sequence entries are not allowed", "a list entry ('- ') is not expected here: check the "
     "indentation"),
    ("expected '<document start>'", "this does not belong to the spec above it: check the indentation"),
    ("found undefined tag handle", "tags ('!name') are not allowed: write plain values"),
    ("expected the node content", "a value is missing here"),
    ("expected alphabetic or numeric character", "text that starts with '&', '*' or '!' needs quotes"),
    ("expected chomping or indentation indicators", "text that starts with '|' or '>' needs quotes"),
    ("expected a comment or a line break", "text that starts with '|' or '>' needs quotes"),
)  # fmt: skip


def explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """What is wrong, as a sentence for somebody who does not know how YAML is parsed."""
    problem = error.problem or ""
    mark = error.problem_mark or error.context_mark
    if mark is not None and _tab_indents(text, mark.line):
        return "a tab cannot indent a line: use spaces"
    opened = error.context_mark or mark
    if problem.startswith("found character") and mark is not None:
        return _wrong_start(text, mark.index)
    for sentence, ours in _SENTENCES:
        if problem.startswith(sentence):
            return ours.replace("{line}", str(opened.line + 1 if opened else 1))
    return "this is not valid YAML: check quotes, brackets and indentation"


def _tab_indents(text: str, line: int) -> bool:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = lines[line] if line < len(lines) else ""
    return "\t" in start[: len(start) - len(start.lstrip(" \t"))]


def _wrong_start(text: str, index: int) -> str:
    char = text[index] if index < len(text) else ""
    if char == "\t":
        return "a tab is not allowed here: use spaces"
    return f"text cannot start with {char!r}: put it in quotes"
