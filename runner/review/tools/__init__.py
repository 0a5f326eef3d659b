"""The annotation tools with which rows can be reviewed besides the page: one module for each, listed once here."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from runner.review.tools import argilla, csv_file, label_studio, prodigy, spreadsheet
from runner.review.tools.answers import Tool
from runner.review.tools.files import csv_header, json_records
from runner.system.errors import DataError

TOOLS: dict[str, Tool] = {
    tool.NAME: tool for tool in (cast(Tool, each) for each in (label_studio, argilla, prodigy, spreadsheet, csv_file))
}

_KEYS = (
    ("annotations", label_studio),  # JSON
    ("annotation_id", label_studio),  # JSON-MIN
    ("tutelage", prodigy),
    ("fields", argilla),
    ("_server_id", argilla),  # flattened
)
"""By which key of its records a JSON file is known."""


def tool_of(path: Path) -> Tool:
    """The tool that a file comes from, by its ending and by what stands first in it.

    :raises DataError: when it is none of those of :data:`TOOLS`, or cannot be read.
    """
    if not path.exists():
        raise DataError("data.not-found", f"{path}: is not there; check the path")
    kind = path.suffix.lower()
    if path.is_dir() and (path / "records.json").exists():
        return TOOLS[argilla.NAME]
    if path.is_file() and kind in (".xlsx", ".xlsm"):
        return TOOLS[spreadsheet.NAME]
    if path.is_file() and kind in (".csv", ".tsv", ".txt"):
        return TOOLS[label_studio.NAME if "annotation_id" in csv_header(path)[0] else csv_file.NAME]
    if path.is_file() and kind in (".json", ".jsonl", ".ndjson"):
        _, record = next(iter(json_records(path)), ("", {}))
        if tool := next((tool for key, tool in _KEYS if key in record), None):
            return TOOLS[tool.NAME]
    raise DataError(
        "review.export-unknown",
        f"{path}: was exported by none of the tools that are known ({', '.join(TOOLS)}): give the file that the tool "
        "exported (docs/review-tools.md says how)",
    )
