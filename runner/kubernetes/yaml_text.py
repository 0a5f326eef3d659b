"""Plain data as YAML: keys in their order, texts of several lines as blocks, nothing that a reader takes for a number.

A Kubernetes server reads YAML by other rules than PyYAML: ``1e3`` and ``y`` are a number and a truth there. So every
text that does not begin like a word is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_WORD = re.compile(r"[A-Za-z_/][^\n]+")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Equal parts are written out each time: our own reader of specs takes no aliases."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Lists are indented below their key."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    if not text.replace("\n", "").isprintable():
        return '"'  # the one style that escapes: YAML has more ends of a line than one would think
    if "\n" in text:
        return "|"
    if '"' in text:
        return "'"
    return None if _WORD.fullmatch(text) else '"'


_Dumper.add_representer(str, _text)


def to_yaml(data: Any) -> str:
    """One document. :raises yaml.YAMLError: for anything but plain data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def documents(every: Iterable[Any]) -> str:
    """Documents one after the other, each with its mark."""
    return "".join(f"---\n{to_yaml(document)}" for document in every)
