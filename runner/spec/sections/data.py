"""The texts to learn from, those to be judged on, and those that the student is for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runner.data.file_kinds import READABLE, is_encoding, stored_as
from runner.spec.sections.shared import SECRET, VARIABLE, Found, Rule
from runner.spec.strict_yaml import KeyPath
from runner.system.sanitize import has_secret
from runner.tasks.rules import rules_of


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where texts come from. ``path`` is as written: ``resolve_path`` makes it usable."""

    path: str
    text: str
    format: Literal["auto", "csv", "tsv", "jsonl", "json", "parquet", "xlsx", "hub"]
    encoding: str | None
    delimiter: str | None
    split: str
    revision: str | None
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class LabelledSource(TextSource):
    """Where texts with expert labels come from: in one column, or in one 0/1 column for each label."""

    label: tuple[str, ...] | str

    @property
    def columns(self) -> tuple[str, ...]:
        """The column or columns with the experts' answer."""
        return (self.label,) if isinstance(self.label, str) else self.label

    def cell(self, values: Mapping[str, str]) -> str:
        """The experts' answer of a row with these ``values``: the cell, or of several columns a JSON object of them."""
        if isinstance(self.label, str):
            return values[self.label]
        return json.dumps({column: values[column] for column in self.label}, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The texts to learn from, those to be judged on where experts labelled some, and those that the student is for."""

    train: TextSource
    test: LabelledSource | None
    corpus: TextSource | None


def labelled_file(path: str, text: str, label: str, encoding: str | None, delimiter: str | None) -> LabelledSource:
    """A file of labelled texts beside the spec as any other labelled source."""
    return LabelledSource(
        path=path,
        text=text,
        label=label,
        format="auto",
        encoding=encoding,
        delimiter=delimiter,
        split="train",
        revision=None,
        limit=None,
    )


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def paths_are_clear(part: str) -> Rule:
    def rule(spec: dict[str, Any]) -> Found:
        source, at = spec["data"][part], ("data", part)
        if source is None:
            return
        yield from path_is_clear((*at, "path"), source["path"], source["format"])
        yield from text_is_readable(at, source)
        if stored_as(source["path"], source["format"]) != "hub":
            for name, default in (("split", "train"), ("revision", None)):
                if source[name] != default:
                    yield (*at, name), "spec.only-for-hub", f"only format: hub has a {name}: leave it out"

    return rule


def text_is_readable(at: KeyPath, source: dict[str, Any]) -> Found:
    """What is said of how text is written must be possible, and said of text."""
    kind = stored_as(source.get("path") or source["from"], source.get("format", "auto"))
    encoding = source["encoding"]
    if encoding is not None and not is_encoding(encoding):
        yield (
            (*at, "encoding"),
            "spec.encoding-unknown",
            f"there is no character set {encoding!r}: name one such as cp1252, latin-1 or gb18030",
        )
    if encoding is not None and kind in ("parquet", "xlsx", "hub"):
        yield (
            (*at, "encoding"),
            "spec.encoding-needless",
            f"{kind} says itself how its text is written: leave encoding out",
        )
    if source["delimiter"] is not None and kind not in ("csv", "tsv", None):
        yield (
            (*at, "delimiter"),
            "spec.delimiter-needless",
            f"only csv has a delimiter, and this is {kind}: leave it out",
        )


def path_is_clear(at: KeyPath, path: str, form: str) -> Found:
    kind = stored_as(path, form)
    if "${" in path and not (VARIABLE.match(path) and path.count("${") == 1):
        yield (
            at,
            "spec.variable-form",
            "a variable is named TUTELAGE_... and stands first, as in ${TUTELAGE_DATA}/train.csv",
        )
    elif has_secret(path):
        yield at, "spec.path-has-secret", SECRET
    elif kind is None:
        advice = (
            f"let it end in {READABLE}, or set format (hub: a data set of the Hub)"
            if at[0] == "data"
            else f"it must be {READABLE}"
        )
        yield at, "spec.format-unknown", f"the ending of {path!r} does not tell how the rows are stored: {advice}"
    elif kind == "hub" and not _HUB_NAME.fullmatch(path):
        yield at, "spec.hub-name", f"format: hub expects a data set's name (owner/name), found {path!r}"


def test_is_apart(spec: dict[str, Any]) -> Found:
    train, test = spec["data"]["train"], spec["data"]["test"]
    if test and all(train[name] == test[name] for name in ("path", "format", "split", "revision")):
        yield (
            ("data", "test", "path"),
            "spec.test-is-train",
            "train and test are the same data: then nothing is left to learn from",
        )


def label_columns_fit(spec: dict[str, Any]) -> Found:
    """A list of columns is for kinds of tasks whose values can be read from one column a label."""
    test = spec["data"]["test"]
    if (
        test
        and isinstance(test["label"], list)
        and (wrong := rules_of(spec["task"]).label_columns(spec["task"], test["label"]))
    ):
        yield ("data", "test", "label"), "spec.label-columns", wrong
