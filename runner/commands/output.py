"""What commands print, and the report that several of them write."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runner.system.errors import UserError
from runner.system.sanitize import for_terminal

if TYPE_CHECKING:  # spares ray
    from runner.observe.progress import Mode
    from runner.observe.tables import Column
    from runner.rundir.folder import Folder


def put(text: str, stream: TextIO | None = None) -> None:
    """Print what people read. File names, columns, labels and the words of servers are not ours: nothing in them may
    speak to the terminal."""
    print(for_terminal(text), file=stream or sys.stdout, flush=True)


def progress_mode(as_json: bool, quiet: bool) -> Mode:
    """How progress is told: as asked for, else by whether somebody looks on."""
    if as_json:
        return "json"
    if quiet:
        return "quiet"
    return "terminal" if on_terminal() else "plain"


def on_terminal() -> bool:
    """Whether standard output is a terminal that can rewrite a line."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def put_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: with a header on a terminal, as plain aligned lines elsewhere."""
    from runner.observe.tables import plain_lines, print_table  # spares rich

    if on_terminal():
        print_table(columns, rows, sys.stdout)
    else:
        put("\n".join(plain_lines(columns, rows)))


def write_text(path: Path, text: str) -> None:
    """:raises UserError: when the file cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError("file.not-writable", f"{path}: cannot be written: {error.strerror}") from error


def write_report(run: Folder) -> dict[str, Any]:
    """``report.json``, ``report.html`` and the cards of a finished run; returns the first."""
    from runner.publish.cards import build_cards  # spares matplotlib
    from runner.report.build import show  # spares matplotlib
    from runner.report.gather import gather  # spares pyarrow
    from runner.review.decisions import read  # spares pyarrow

    gathered = gather(run.read, run.exists, read(run))
    report, page = show(gathered)
    run.write_json("report.json", report)
    run.write("report.html", page.encode())
    for name, card in build_cards(gathered, report).items():
        run.write(name, card.encode())
    return report


def show_report(run: Folder, report: dict[str, Any], as_json: bool) -> None:
    """The result table, or the whole report on one line."""
    from runner.report.result_table import result_table  # spares matplotlib

    if as_json:
        print(json.dumps(report))
    else:
        put(f"{result_table(report)}\n\nreport: {run.path('report.html')}")
