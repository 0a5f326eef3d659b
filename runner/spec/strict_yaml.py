"""YAML, the part of it that cannot surprise: text in, plain data and the place of every key and value out.

PyYAML's constructors read YAML 1.1: ``no`` is false, ``12:30`` is 750, ``2e-5`` is text, and of two
equal keys the last one silently wins. Only PyYAML's parser is used here; its events are built into
dicts and lists by our own rules (the core of YAML 1.2). Events come one at a time, so that an alias
bomb ends at its first alias, and deep nesting at its first level too many. Anchors, aliases, tags
and merge keys are refused. Knows nothing of the spec's fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from runner.spec import yaml_errors
from runner.system.errors import Problem, SpecError

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
# What is not text: control characters, halves of surrogate pairs, and the separators that YAML 1.1
# takes for line ends and editors do not (their line numbers would differ from ours).
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})")
_FLOAT = re.compile(r"[-+]?(?=[0-9.])(0|[1-9][0-9]{0,29})?(\.[0-9]*)?([eE][-+]?[0-9]{1,9})?")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "false": False}


class Mark(NamedTuple):
    """A place in the text; both count from 1."""

    line: int
    column: int


@dataclass
class Document:
    """What was read: the data, where each key and value stands, and what had to be refused."""

    data: Any = None
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def dotted(path: KeyPath) -> str:
    """The path as people write it, such as ``task.examples.0.label``."""
    return ".".join(str(part) for part in path)


def decode(raw: bytes, file: str) -> str:
    """The text in ``raw``. Raises SpecError when it is too big, not UTF-8, or holds control characters."""
    if len(raw) > MAX_BYTES:
        raise SpecError(
            [Problem(file, 0, 0, "", "spec.file-too-large", "the file is larger than 1 MiB: that is no spec")]
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        wrong = error.object[error.start]
        message = f"the byte 0x{wrong:02x} is not UTF-8: save the file with the encoding UTF-8"
        raise SpecError([_at(file, _mark_of(before), "", "spec.not-utf8", message)]) from None
    if found := NOT_TEXT.search(text):
        raise SpecError([_at(file, _mark_of(text[: found.start()]), "", "spec.not-text", _not_text(found[0]))])
    return text


def parse(text: str, file: str) -> Document:
    """Build ``text`` into plain data; an empty text gives ``None``.

    What can be stepped over (a key given twice, a tag, an anchor, a second document) is noted in
    ``Document.problems``, so that the rest is checked too. Raises SpecError for what cannot.
    """
    if found := NOT_TEXT.search(text):
        raise SpecError([_at(file, _mark_of(text[: found.start()]), "", "spec.not-text", _not_text(found[0]))])
    builder = _Builder(file)
    try:
        for event in _events(text, file):
            if not builder.feed(event):
                break
    except SpecError as error:
        raise SpecError([*builder.document.problems, *error.problems]) from None
    return builder.document


def scalar(text: str) -> Any:
    """What an unquoted word stands for: null, true, false, a number, or the text itself.

    Only what nobody can misread is a number: ``0777``, ``0x1F``, ``1_000``, ``.inf`` and ``1e999`` are text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and any(char.isdigit() for char in text.lower().partition("e")[0]):
        value = float(text)
        return text if value in (float("inf"), float("-inf")) else value
    return text


def _events(text: str, file: str) -> Iterator[yaml.Event]:
    """PyYAML's events; its errors become SpecErrors in words of our own."""
    loader: Any = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
        raise SpecError([_at(file, where, "", "spec.yaml-syntax", yaml_errors.explain(error, text))]) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # An escape such as "\UFFFFFFFF" makes the scanner's chr() fail.
        mark = loader.get_mark()
        message = "this is not valid YAML: an escape after '\\' names no character"
        raise SpecError([_at(file, Mark(mark.line + 1, mark.column + 1), "", "spec.yaml-syntax", message)]) from None
    finally:
        loader.dispose()


@dataclass
class _Frame:
    """A list or mapping that is being filled. ``path`` is None inside what was refused."""

    into: dict[str, Any] | list[Any]
    path: KeyPath | None
    key: str | None = None
    pending: bool = False


class _Builder:
    """Turns events into data with a stack of its own: no recursion, whatever the input."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.document = Document()
        self._stack: list[_Frame] = []
        self._documents = 0
        self._anchored = False

    def feed(self, event: yaml.Event) -> bool:
        """Take one event; False means that the rest of the text is not to be read."""
        start: Any = event.start_mark
        where = Mark(start.line + 1, start.column + 1)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._note(
                    where,
                    (),
                    "spec.second-document",
                    "a second document starts here: a spec is one, so remove the '---'",
                )
                return False
        elif isinstance(event, yaml.AliasEvent):
            message = f"the alias '*{event.anchor}' is not allowed: write the value out"
            raise SpecError([_at(self.file, where, dotted(self._here()), "spec.yaml-alias", message)])
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, where)
        return True

    def _node(self, event: yaml.NodeEvent, where: Mark) -> None:
        value = self._value(event, where)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.into, dict) and not frame.pending:
            self._key(frame, value, event, where)
            path = None
        else:
            path = self._attach(frame, value, where)
        if isinstance(value, dict | list):
            if len(self._stack) >= MAX_DEPTH:
                message = f"this is nested more than {MAX_DEPTH} levels deep"
                raise SpecError([_at(self.file, where, "", "spec.too-deep", message)])
            self._stack.append(_Frame(value, path))

    def _value(self, event: yaml.NodeEvent, where: Mark) -> Any:
        """An empty container, or what the scalar stands for; notes anchors, tags and control characters."""
        if event.anchor is not None and not self._anchored:
            self._anchored = True
            self._note(
                where,
                self._here(),
                "spec.yaml-anchor",
                f"the anchor '&{event.anchor}' is not allowed: write values out",
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = tag.replace("tag:yaml.org,2002:", "!!", 1)
            self._note(
                where, self._here(), "spec.yaml-tag", f"the tag {name[:60]!r} is not allowed: write plain values"
            )
        if isinstance(event, yaml.MappingStartEvent):
            return {}
        if isinstance(event, yaml.SequenceStartEvent):
            return []
        assert isinstance(event, yaml.ScalarEvent)
        if found := NOT_TEXT.search(event.value):
            self._note(where, self._here(), "spec.not-text", _not_text(found[0]))
            return NOT_TEXT.sub("?", event.value)
        return event.value if event.style else scalar(event.value)

    def _key(self, frame: _Frame, value: Any, event: yaml.NodeEvent, where: Mark) -> None:
        """Take ``value`` as the next key of ``frame``, or refuse it together with what it holds."""
        frame.pending, frame.key = True, None
        if frame.path is None:
            return
        if not isinstance(value, str):
            self._note(where, frame.path, "spec.key-not-text", f"{_kind(value)} cannot be a key: keys are names")
        elif value == "<<" and not getattr(event, "style", None):
            self._note(where, frame.path, "spec.merge-key", "the merge key '<<' is not allowed: write the values out")
        elif value in frame.into:
            first = self.document.keys[(*frame.path, value)]
            self._note(
                where, frame.path, "spec.key-repeated", f"the key {value[:60]!r} is given twice (see line {first.line})"
            )
        else:
            frame.key = value
            self.document.keys[(*frame.path, value)] = where

    def _attach(self, frame: _Frame | None, value: Any, where: Mark) -> KeyPath | None:
        """Put ``value`` where it belongs; returns its path, None when it is dropped."""
        path: KeyPath | None = None
        if frame is None:
            self.document.data, path = value, ()
        elif isinstance(frame.into, list):
            frame.into.append(value)
            if frame.path is not None:
                path = (*frame.path, len(frame.into) - 1)
        else:
            frame.pending = False
            if frame.key is not None and frame.path is not None:
                frame.into[frame.key] = value
                path = (*frame.path, frame.key)
        if path is not None:
            self.document.values[path] = where
        return path

    def _here(self) -> KeyPath:
        """The path of the node that comes next, for messages."""
        if not self._stack:
            return ()
        frame = self._stack[-1]
        if frame.path is None:
            return ()
        if isinstance(frame.into, list):
            return (*frame.path, len(frame.into))
        return (*frame.path, frame.key) if frame.key is not None and frame.pending else frame.path

    def _note(self, where: Mark, path: KeyPath, code: str, message: str) -> None:
        self.document.problems.append(_at(self.file, where, dotted(path), code, message))


def _at(file: str, where: Mark, path: str, code: str, message: str) -> Problem:
    return Problem(file, where.line, where.column, path, code, message)


def _mark_of(before: str) -> Mark:
    """The place right after ``before``, with line ends counted as PyYAML counts them."""
    lines = before.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n")
    return Mark(len(lines), len(lines[-1]) + 1)


def _not_text(char: str) -> str:
    return f"the character U+{ord(char):04X} is not text: remove it"


def _kind(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "an empty word or null" if value is None else f"{str(value).lower()} without quotes"
