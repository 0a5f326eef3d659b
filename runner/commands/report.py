"""``tutelage report``: rebuild the report of a run."""

from __future__ import annotations

from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import json_option
from runner.commands.output import show_report, write_report
from runner.system.errors import UserError
from runner.system.paths import absolute


@click.command(epilog=example("tutelage report runs/quickstart"))
@click.argument("run", metavar="RUN")
@json_option("Print report.json on one line.")
def command(run: str, as_json: bool) -> Work:
    """Rebuild the report of a run."""
    return Work(partial(report, run, as_json))


def report(run: str, as_json: bool) -> int:
    """From what the stages wrote."""
    from runner.rundir.folder import Folder  # spares pyarrow

    folder = Folder(absolute(run))
    if not folder.exists("run.json"):
        raise UserError(
            "run.not-finished", f"{run}: no finished run is there (no run.json); give the folder that `run` printed"
        )
    show_report(folder, write_report(folder), as_json)
    return 0
